"""What the competitions of an experiment were for, and how far each policy came: by the objective of their runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arena_jax.compare.confidence import confidence_interval
from arena_jax.config.objective import objective_value
from arena_jax.config.scores import SCORES
from arena_jax.reports.arms import CONTROL, Arms, Run, pairs
from arena_jax.runs.document import Table


def reached_after(run: Run) -> float:
    """The device-seconds at the first evaluation in which a model had the target; infinite where none had."""
    arena = run.config.arena
    assert arena is not None
    assert arena.target is not None
    goal = SCORES[run.config.training.score].sign * arena.target
    there = (run.scores >= goal).any(axis=1)
    return float(run.seconds[int(there.argmax())].sum()) if there.any() else math.inf


def final_value(run: Run) -> float:
    """The objective's value at the end, more being better; of the mean and the best from the scores themselves."""
    arena = run.config.arena
    objective = arena.objective if arena else "mean"
    if objective in ("mean", "best"):
        return objective_value(objective, dict(zip(run.models, run.scores[-1].tolist(), strict=True)))
    return float(run.objective[-1])


def objective_table(arms: Arms) -> tuple[Table, dict[str, Any], str]:
    """How far each policy came by what its runs were for.

    Args:
        arms: from `arena_jax.reports.arms.gather`: of one objective.

    Returns:
        The table, its numbers ``{policy: {name: ConfidenceInterval}}``, and a sentence that says what is judged.
    """
    run = arms[CONTROL][0]
    arena = run.config.arena
    objective = arena.objective if arena else "mean"
    if objective == "target":
        return _target_table(arms, arena.target if arena else None)
    rows, numbers = [], {}
    form = ".4f"
    for policy, runs in arms.items():
        value = confidence_interval([final_value(of_arm) for of_arm in runs])
        ahead = confidence_interval([final_value(of_arm) - final_value(other) for of_arm, other in pairs(arms, policy)])
        numbers[policy] = {"value": value, "value_minus_static": ahead}
        rows.append((policy, value.plus_minus(form), "" if policy == CONTROL else ahead.text("+" + form)))
    what = {
        "mean": "the mean over the models of the score",
        "best": "the score of the best model",
        "ensemble": "the score of the weighted ensemble",
        "pareto": "the mean over the sizes of the best score that is to be had with no more",
    }[objective]
    return (
        Table(["policy", objective, f"{objective} − static"], rows),
        numbers,
        f"{objective}: {what}, {run.score_title}.",
    )


def _target_table(arms: Arms, target: float | None) -> tuple[Table, dict[str, Any], str]:
    rows, numbers = [], {}
    for policy, runs in arms.items():
        seconds = [reached_after(of_arm) for of_arm in runs]
        ratios = [reached_after(of_arm) / reached_after(other) for of_arm, other in pairs(arms, policy)]
        count = sum(map(math.isfinite, seconds))
        middle = float(np.median(seconds))
        ratio = confidence_interval([value for value in ratios if math.isfinite(value)] or [math.nan])
        numbers[policy] = {"device_seconds": middle, "reached": count, "of": len(seconds), "relative_to_static": ratio}
        rows.append(
            (
                policy,
                f"{middle:,.1f}" if math.isfinite(middle) else "–",
                f"{count} of {len(seconds)}",
                "" if policy == CONTROL or not math.isfinite(ratio.mean) else ratio.text(".2f"),
            )
        )
    sentence = (
        f"target: device-seconds of all models until one has {target:g}, the median over seeds; the ratio is of the"
        " pairs in which both runs reached it."
    )
    return Table(["policy", "device s to the target", "reached", "/ static"], rows), numbers, sentence
