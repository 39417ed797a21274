"""Each model by itself: what the cells say beside the one number that a plan judges by."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from arena_jax.compare.curve import outcome_of
from arena_jax.compare.plan import Plan
from arena_jax.compare.verdict import Records, pair


def by_model(plan: Plan, records: Records) -> list[dict[str, Any]]:
    """Measure the plan's outcome of each model alone, in each arm.

    Args:
        plan: of the study.
        records: ``{arm: its final cells' records, in the order of the plan's seeds}``.

    Returns:
        A dictionary per arm and model that it has in common with the arm it is compared with: ``arm``, ``model``,
        ``outcomes`` by seed, and, but for the baseline, ``against`` and ``estimate``, ``low``, ``high``, ``p`` and
        ``pairs`` of the paired comparison. No verdict and no correction: a plan judges by one outcome, and these are
        more. Empty where the plan judges one model, or there is only one.
    """
    if plan.outcome.over not in ("mean", "worst", "best"):
        return []
    models = {arm.name: [model.name for model in plan.config(arm.name, {}).models] for arm in plan.arms}
    if all(len(names) < 2 for names in models.values()):
        return []

    def outcomes(arm: str, model: str) -> list[float]:
        outcome = dataclasses.replace(plan.outcome, over=model)
        values = [outcome_of(record["status"], record["curve"], outcome) for record in records[arm]]
        return [math.nan if value is None else value for value in values]

    rows: list[dict[str, Any]] = []
    for arm in plan.arms:
        against = plan.against(arm)
        for model in models[arm.name]:
            row: dict[str, Any] = {"arm": arm.name, "model": model, "outcomes": outcomes(arm.name, model)}
            if arm.name != plan.baseline:
                if model not in models[against]:
                    continue
                row |= {"against": against}
                row |= pair(plan.outcome, row["outcomes"], outcomes(against, model))._asdict()
            rows.append(row)
    return rows
