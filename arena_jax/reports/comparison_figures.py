"""The figures of a comparison: each arm's curve with its band over seeds, and every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.compare.curve import seconds, values
from arena_jax.compare.plan import Plan
from arena_jax.compare.verdict import at, cost_unit, goal, of_which
from arena_jax.config.scores import SCORES
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import COLOURS
from arena_jax.runs.document import Picture

_GRID = 200  # points of a curve over seconds, which no two runs share


def draw(plan: Plan, result: Mapping[str, Any], folder: Path) -> list[Picture]:
    """Draw ``curves.png`` and ``pairs.png``.

    Args:
        plan: of the study.
        result: as `arena_jax.compare.results` gives it.
        folder: where to.

    Returns:
        The pictures.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    score, band = SCORES[plan.outcome.metric], "line: median over seeds; band: from the lowest to the highest"
    axis = "device-seconds" if plan.outcome.timed else "rounds" if plan.base.arena else "steps"
    pictures = []
    with rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        for i, arm in enumerate(plan.arms):
            x, curves = _curves(plan, result["cells"][arm.name])
            if not len(x):
                continue
            colour, look = COLOURS[i % len(COLOURS)], "--" if i >= len(COLOURS) else "-"
            axes.plot(x, np.median(curves, axis=0), color=colour, ls=look, label=arm.name)
            axes.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, lw=0)
        if plan.outcome.target is not None:
            axes.axhline(plan.outcome.target, color="#999999", lw=1)
        axes.set(title=f"{score.title}{of_which(plan)}", xlabel=axis, ylabel=score.title)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        pictures.append(Picture(folder / "curves.png", f"{score.title} by {axis}; {band}."))
        figure.savefig(pictures[-1].file)
        pictures.append(_draw_pairs(plan, result, folder))
    return pictures


def _curves(plan: Plan, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Where all seeds of an arm have a score, and their scores (seeds, points)."""
    runs = [record["curve"] for record in records if record["curve"]]
    if not runs:
        return np.empty(0), np.empty((0, 0))
    if plan.outcome.timed:
        spent = [seconds(points, plan.outcome) for points in runs]
        x = np.linspace(max(s[0] for s in spent), min(s[-1] for s in spent), _GRID)
        rows = [np.interp(x, s, values(points, plan.outcome)) for s, points in zip(spent, runs, strict=True)]
        return x, np.array(rows)
    steps = sorted(set.intersection(*({point["step"] for point in points} for points in runs)))
    rows = []
    for points in runs:
        by_step = dict(zip((point["step"] for point in points), values(points, plan.outcome), strict=True))
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
