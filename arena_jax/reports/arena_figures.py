"""The paper's Figures 1 to 3, from the runs of an experiment: lines are means over seeds, bands reach to them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.config.scores import SCORES
from arena_jax.reports.arena_tables import progress_at
from arena_jax.reports.arms import CONTROL, Arms, Run
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import cycle
from arena_jax.runs.document import Picture

_GRID = np.linspace(0, 1, 401)
_PERCENT = 100 * _GRID
_TIME = "part of the run (%)"
Curve = Callable[[Run], np.ndarray]


def draw_figures(arms: Arms, folder: Path) -> list[Picture]:
    """Draw the three figures into a folder.

    Args:
        arms: from `gather`.
        folder: it must exist.

    Returns:
        The pictures, with their captions.
    """
    from matplotlib import rc_context

    seeds = max(len(runs) for runs in arms.values())
    how = "Lines: means over seeds; bands: from the lowest seed to the highest." if seeds > 1 else "One seed."
    figures: list[tuple[str, Callable[[Arms], Any], str]] = [
        ("shares", shares, f"Figure 1: shares of the memory over the run. Dotted: an equal share. {how}"),
        ("progress", progress, f"Figure 2: learning progress (equation 1) and scores over the run. {how}"),
        ("convergence", convergence, f"Figure 3: {_what(arms)}; solid: the policy, dashed: static. {how}"),
    ]
    pictures = []
    with rc_context(STYLE):
        for name, draw, caption in figures:
            path = folder / f"{name}.png"
            draw(arms).savefig(path)
            pictures.append(Picture(path, caption))
    return pictures


def shares(arms: Arms) -> Any:
    """Figure 1: who had which share when, a panel for each policy but the control."""
    policies = [policy for policy in arms if policy != CONTROL]
    figure, panels = _panels(1, len(policies), (5.4, 3.9))
    names = _names(arms)
    for axes, policy in zip(panels[0], policies, strict=True):
        for i, colour in enumerate(cycle(len(names))):
            _line(axes, [100 * run.shares[_step(run), i] for run in arms[policy]], colour, label=names[i])
        axes.axhline(100 / len(names), color="#777777", linewidth=1, linestyle=":")
        axes.set(title=policy, xlabel=_TIME, xlim=(0, 100), ylim=(0, None))
    panels[0][0].set_ylabel("share of the memory (%)")
    _legend(figure, panels[0][0])
    return figure


def progress(arms: Arms) -> Any:
    """Figure 2: progress above, scores below, a column for each policy."""
    figure, panels = _panels(2, len(arms), (4.9, 3.3), sharey="row")
    names = _names(arms)
    for column, (policy, runs) in enumerate(arms.items()):
        above, below = panels[0][column], panels[1][column]
        lambdas = [np.array([progress_at(run, k) for k in range(len(run.scores))]) for run in runs]
        for i, colour in enumerate(cycle(len(names))):
            _line(above, [_at(run, values[:, i]) for run, values in zip(runs, lambdas, strict=True)], colour)
            _line(below, [_at(run, run.scores[:, i]) for run in runs], colour, label=names[i])
        above.set(title=policy, xlim=(0, 100))
        above.set_yscale("symlog", linthresh=1e-3)
        below.set(xlabel=_TIME, xlim=(0, 100))
    panels[0][0].set_ylabel("learning progress")
    panels[1][0].set_ylabel(f"score ({next(iter(arms.values()))[0].score_title})")
    _legend(figure, panels[1][0])
    return figure


def convergence(arms: Arms) -> Any:
    """Figure 3: the metric of each model under each policy, against static."""
    policies = [policy for policy in arms if policy != CONTROL]
    names = _names(arms)
    figure, panels = _panels(len(policies), len(names), (3.7, 3.1), sharey="col")
    for row, policy in enumerate(policies):
        for i, colour in enumerate(cycle(len(names))):
            axes = panels[row][i]
            for of, style in ((policy, "-"), (CONTROL, "--")):
                values = [_at(run, _sign(run) * run.scores[:, i]) for run in arms[of]]
                _line(axes, values, colour if of == policy else "#555555", label=of, style=style)
            every = [_at(run, _sign(run) * run.scores[:, i]) for runs in arms.values() for run in runs]
            # The fall of the first steps is the same for all and would flatten everything after it.
            top = max(float(np.nanmax(line[_GRID >= 0.05])) for line in every)
            low = min(float(np.nanmin(line)) for line in every)
            axes.set(xlim=(0, 100), ylim=(low - 0.05 * (top - low), top + 0.05 * (top - low)))
            axes.legend(loc="upper right")
            if row == 0:
                axes.set_title(names[i])
            if row == len(policies) - 1:
                axes.set_xlabel(_TIME)
        panels[row][0].set_ylabel(_what(arms))
    return figure


def _panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _names(arms: Arms) -> list[str]:
    return list(next(iter(arms.values()))[0].models)


def _step(run: Run) -> np.ndarray:
    """Which allocation is in force at each point of the grid."""
    return np.searchsorted(run.dealt, _GRID, side="right") - 1


def _at(run: Run, values: np.ndarray) -> np.ndarray:
    return np.interp(_GRID, run.fraction, values)


def _line(axes: Any, curves: Sequence[np.ndarray], colour: str, label: str | None = None, style: str = "-") -> None:
    stack = np.array(curves)
    axes.plot(_PERCENT, stack.mean(0), color=colour, linewidth=1.8, linestyle=style, label=label)
    if len(stack) > 1:
        axes.fill_between(_PERCENT, stack.min(0), stack.max(0), color=colour, alpha=0.15, linewidth=0)


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _sign(run: Run) -> int:
    return SCORES[run.config.training.score].sign


def _what(arms: Arms) -> str:
    """The metric that scores are made of, in words."""
    return SCORES[next(iter(arms.values()))[0].config.training.score].title
