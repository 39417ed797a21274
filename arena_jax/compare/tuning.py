"""What tuning chose: per arm the trial with the best mean outcome over seeds that no final run uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from arena_jax.compare.cells import Cell, tuning_cells
from arena_jax.compare.plan import Plan
from arena_jax.config.scores import SCORES

Read = Callable[[Cell], Mapping[str, Any] | None]


def choose(plan: Plan, name: str, read: Read) -> dict[str, Any] | None:
    """The choice for one arm.

    Args:
        plan: of the study.
        name: of the arm.
        read: the record of a cell, or None while there is none.

    Returns:
        ``settings`` that were chosen, ``trials`` with ``settings`` and ``outcomes`` by seed, and ``edge``: the fields
        whose choice lies at an end of its numbers, so that a better one may lie beyond. None while a trial is not over.
        Where no trial is better than another — none reached the target — the best mean score at the end decides, and
        then the first.
    """
    if plan.tuning is None:
        return {"settings": {}, "trials": [], "edge": []}
    records: dict[int, list[Mapping[str, Any]]] = {}
    for cell in tuning_cells(plan, (name,)):
        record = read(cell)
        if record is None or record["status"] == "failed":
            return None
        assert cell.trial is not None
        records.setdefault(cell.trial, []).append(record)
    settings = plan.trials(name)
    outcomes = [[record["outcome"] for record in records[i]] for i in range(len(settings))]
    last = [_last_score(plan, records[i]) for i in range(len(settings))]
    best = min(range(len(settings)), key=lambda i: (_cost(plan, outcomes[i]), last[i], i))
    edge = []
    for field, values in plan.grid(plan.arm(name)).items():
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) > 1 and settings[best][field] in (min(numbers), max(numbers)):
            edge.append(field)
    trials = [{"settings": s, "outcomes": o} for s, o in zip(settings, outcomes, strict=True)]
    return {"settings": settings[best], "trials": trials, "edge": edge}


def _cost(plan: Plan, outcomes: list[float]) -> float:
    """What is made least: seconds or steps, or the score turned round; a run without a number is the worst."""
    mean = sum(outcomes) / len(outcomes)
    if math.isnan(mean):
        return math.inf
    return -SCORES[plan.outcome.metric].sign * mean if plan.outcome.kind == "score" else mean


def _last_score(plan: Plan, records: list[Mapping[str, Any]]) -> float:
    from arena_jax.compare.curve import values

    ends = [values(record["curve"], plan.outcome)[-1] if record["curve"] else math.nan for record in records]
    mean = sum(ends) / len(ends)
    return math.inf if math.isnan(mean) else -SCORES[plan.outcome.metric].sign * mean
