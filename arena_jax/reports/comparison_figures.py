"""The figures of a comparison: each arm's curve with its band over seeds, and every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.compare.curve import seconds
from arena_jax.compare.plan import Outcome, Plan
from arena_jax.compare.verdict import at, cost_unit, goal, of_which
from arena_jax.config.scores import SCORES, of_models
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import COLOURS
from arena_jax.runs.document import Picture

_BAND = "line: median over seeds; band: from the lowest to the highest"
_GRID = 200  # points of a curve over seconds, which no two runs share


def draw(plan: Plan, result: Mapping[str, Any], folder: Path) -> list[Picture]:
    """Draw ``curves.png``, ``pairs.png``, and ``models.png`` where a plan judges several models by one number.

    Args:
        plan: of the study.
        result: as `arena_jax.compare.results` gives it.
        folder: where to.

    Returns:
        The pictures.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    outcome = plan.outcome
    score, axis = SCORES[outcome.metric], _axis(plan)
    pictures = []
    with rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        _draw_bands(axes, plan, result, outcome.metric, outcome.over, outcome.target)
        axes.set(title=f"{score.title}{of_which(plan)}", xlabel=axis, ylabel=score.title)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        pictures.append(Picture(folder / "curves.png", f"{_capital(score.title)} by {axis}; {_BAND}."))
        figure.savefig(pictures[-1].file)
        pictures.append(_draw_pairs(plan, result, folder))
        if result["by_model"]:
            pictures.append(_draw_models(plan, result, folder))
    return pictures


def _axis(plan: Plan) -> str:
    return "device-seconds" if plan.outcome.timed else "rounds" if plan.base.arena else "steps"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _draw_bands(axes: Any, plan: Plan, result: Mapping[str, Any], metric: str, over: str, target: float | None) -> None:
    """Each arm's median over seeds with its band, and the target."""
    for i, arm in enumerate(plan.arms):
        x, curves = _curves(plan.outcome, result["cells"][arm.name], metric, over)
        if not len(x):
            continue
        colour, look = COLOURS[i % len(COLOURS)], "--" if arm.name == plan.baseline or i >= len(COLOURS) else "-"
        low, high = curves.min(axis=0), curves.max(axis=0)
        single = {"marker": "o", "markevery": len(x)} if x[-1] <= x[0] else {}  # one evaluation makes no line
        axes.plot(x, np.median(curves, axis=0), color=colour, ls=look, label=arm.name, **single)
        if single:
            axes.vlines(x[0], low[0], high[0], color=colour, lw=1)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    if target is not None:
        axes.axhline(target, color="#999999", lw=1)


def _draw_models(plan: Plan, result: Mapping[str, Any], folder: Path) -> Picture:
    """A panel for each model and score: the score of the plan, and validation loss."""
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row["model"] for row in result["by_model"]))
    metrics = list(dict.fromkeys((plan.outcome.metric, "loss")))
    figure = Figure(figsize=(1.4 + 2.6 * len(models), 0.8 + 2.4 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), len(models), sharex=True, sharey="row", squeeze=False)
    for i, metric in enumerate(metrics):
        target = plan.outcome.target if metric == plan.outcome.metric else None
        for j, model in enumerate(models):
            _draw_bands(panels[i, j], plan, result, metric, model, target)
        panels[i, 0].set_ylabel(SCORES[metric].title)
    for axes, model in zip(panels[0], models, strict=True):
        axes.set_title(model)
    for axes in panels[-1]:
        axes.set_xlabel(_axis(plan))
    handles, names = panels[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    path = folder / "models.png"
    figure.savefig(path)
    titles = " and ".join(SCORES[metric].title for metric in metrics)
    return Picture(path, f"{_capital(titles)} of each model alone, by {_axis(plan)}; the baseline is dashed; {_BAND}.")


def _curves(
    outcome: Outcome, records: Sequence[Mapping[str, Any]], metric: str, over: str
) -> tuple[np.ndarray, np.ndarray]:
    """Where all seeds of an arm have a score, and their scores (seeds, points)."""
    runs = [record["curve"] for record in records if record["curve"]]
    if not runs:
        return np.empty(0), np.empty((0, 0))
    scores = [[of_models(point["models"], metric, over) for point in points] for points in runs]
    if outcome.timed:
        spent = [seconds(points, outcome) for points in runs]
        x = np.linspace(max(s[0] for s in spent), min(s[-1] for s in spent), _GRID)
        return x, np.array([np.interp(x, s, row) for s, row in zip(spent, scores, strict=True)])
    steps = sorted(set.intersection(*({point["step"] for point in points} for points in runs)))
    rows = []
    for points, row in zip(runs, scores, strict=True):
        by_step = dict(zip((point["step"] for point in points), row, strict=True))
        rows.append(np.array([by_step[step] for step in steps]))
    return np.array(steps), np.array(rows).reshape(len(runs), len(steps))


def _draw_pairs(plan: Plan, result: Mapping[str, Any], folder: Path) -> Picture:
    from matplotlib.figure import Figure

    comparisons = result["comparisons"]
    figure = Figure(figsize=(2.2 + 1.8 * len(comparisons), 4.2), layout="constrained")
    panels = figure.subplots(1, len(comparisons), sharey=True, squeeze=False)[0]
    numbers = [v for c in comparisons for side in c["outcomes"] for v in side if math.isfinite(v)]
    never = 1.15 * max(numbers, default=1.0)  # where a run that never arrived is drawn
    for axes, comparison in zip(panels, comparisons, strict=True):
        arm, baseline = comparison["outcomes"]
        for left, right in zip(baseline, arm, strict=True):
            ends = [never if math.isinf(value) else value for value in (left, right)]
            axes.plot([0, 1], ends, color="#999999", lw=1, zorder=1)
            for place, (value, end) in enumerate(zip((left, right), ends, strict=True)):
                axes.plot(place, end, "^" if math.isinf(value) else "o", color=COLOURS[place], ms=5)
        axes.set_xticks([0, 1], [comparison["against"], comparison["arm"]])
        axes.set_xlim(-0.3, 1.3)
    outcome = plan.outcome
    if outcome.kind == "score":
        text = f"{SCORES[outcome.metric].title}{of_which(plan)} {at(outcome)}"
    else:
        text = f"{cost_unit(outcome)} to {goal(plan)}"
    panels[0].set_ylabel(SCORES[outcome.metric].title if outcome.kind == "score" else cost_unit(outcome).split(",")[0])
    caption = f"Every pair: {text}. A line joins the runs of one seed; a triangle is a run that never arrived."
    path = folder / "pairs.png"
    figure.savefig(path)
    return Picture(path, caption)
