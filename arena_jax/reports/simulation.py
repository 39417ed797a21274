"""Policies judged on learning curves: what each would have reached, beside equal shares and the best fixed choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arena_jax.arena.policies import Policy
from arena_jax.arena.simulate import Curves, Spending, best_fixed, simulate
from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.config.errors import ArenaError
from arena_jax.reports.arms import CONTROL
from arena_jax.runs.document import Block, Paragraph, Table

OBJECTIVES = {"mean": "mean score of the models", "best": "score of the model put first"}
_MOST_MODELS = 6  # the best fixed shares are searched on a grid that grows with their number


def judge(
    policies: Mapping[str, Policy],
    curves: Curves,
    *,
    budget: float,
    noise: float = 0.0,
    repeats: int = 16,
    seed: int = 0,
    evaluations: int = 20,
    reallocate_every: int = 2,
    spending: Spending = "seconds",
) -> dict[str, dict[str, ConfidenceInterval]]:
    """Let every policy run on the same curves with the same noise.

    Args:
        policies: by name; the control, "static", is among them.
        curves: scores [runs, models, points].
        budget: device-seconds of a run.
        noise: standard deviation of an evaluation.
        repeats: draws of the noise for each run; without noise one is enough and is what is done.
        seed: of the noise.
        evaluations: of a run.
        reallocate_every: evaluations.
        spending: what a share buys.

    Returns:
        For each policy, by objective: ``"mean"`` and ``"best"``, the scores; ``"mean − static"`` and ``"best −
        static"``, differences paired by run; and ``"mean, regret"`` and ``"best, regret"``, what the best fixed choice
        that knows the curves had more. Means over runs; the intervals are of runs, an average over its repeats each.

    Raises:
        ArenaError: the control is not among them.
    """
    if CONTROL not in policies:
        raise ArenaError(f"'{CONTROL}' must be among the policies: the others are compared with it")
    runs, models, _ = curves.scores.shape
    draws = repeats if noise > 0 else 1
    repeated = Curves(curves.seconds, jax.numpy.repeat(curves.scores, draws, axis=0))
    reached = {}
    for name, policy in policies.items():
        outcome = simulate(
            policy,
            repeated,
            jax.random.key(seed),
            budget=budget,
            noise=noise,
            evaluations=evaluations,
            reallocate_every=reallocate_every,
            spending=spending,
        )
        values = np.stack([np.asarray(outcome.final).mean(1), np.asarray(outcome.picked)], 1)
        reached[name] = values.reshape(runs, draws, 2).mean(1)
    fixed = np.stack(best_fixed(curves, budget=budget), 1) if models <= _MOST_MODELS else None
    table: dict[str, dict[str, ConfidenceInterval]] = {}
    for name, values in reached.items():
        row = {}
        for column, objective in enumerate(OBJECTIVES):
            row[objective] = confidence_interval(values[:, column].tolist())
            row[f"{objective} − {CONTROL}"] = confidence_interval((values - reached[CONTROL])[:, column].tolist())
            if fixed is not None and spending == "seconds":
                row[f"{objective}, regret"] = confidence_interval((fixed - values)[:, column].tolist())
        table[name] = row
    return table


def blocks(table: Mapping[str, Mapping[str, ConfidenceInterval]], objective: str, runs: int) -> Sequence[Block]:
    """Write the table for people, the best policy by one objective first; of the other, the differences alone.

    Args:
        table: of :func:`judge`.
        objective: one of ``OBJECTIVES``.
        runs: that it was judged on.
    """
    ranked = sorted(table, key=lambda name: (-table[name][objective].mean, name != CONTROL))
    other = next(name for name in OBJECTIVES if name != objective)
    columns = [column for column in table[CONTROL] if column.startswith(objective)] + [f"{other} − {CONTROL}"]
    rows = [
        (name, *("0" if _is_control(name, column) else table[name][column].text(".4f") for column in columns))
        for name in ranked
    ]
    first, difference = ranked[0], table[ranked[0]][f"{objective} − {CONTROL}"]
    if first == CONTROL:
        sentence = f"By the {OBJECTIVES[objective]}, no policy is ahead of equal shares."
    elif difference.low > 0:
        sentence = f"By the {OBJECTIVES[objective]}, {first} is ahead of equal shares by {difference.text('.4f')}."
    else:
        sentence = (
            f"By the {OBJECTIVES[objective]}, {first} is first, but that it is ahead of equal shares is not shown."
        )
    if runs == 1:
        sentence += " One run: there is no interval over runs."
    return [Table(("policy", *columns), rows), Paragraph(sentence)]


def _is_control(name: str, column: str) -> bool:
    return name == CONTROL and column.endswith(CONTROL)


def as_json(table: Mapping[str, Mapping[str, ConfidenceInterval]]) -> dict[str, Any]:
    """The table, as a file holds it; an end that there is none of is NaN."""
    return {
        name: {column: [value.mean, value.low, value.high] for column, value in row.items()}
        for name, row in table.items()
    }
