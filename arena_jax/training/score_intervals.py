"""Scores of one model with intervals that say how far other examples of the same kind would move them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from arena_jax import data
from arena_jax.data.dataset import QUESTIONS
from arena_jax.training import metrics
from arena_jax.training.evaluation import results
from arena_jax.training.step import Step

GROUPS = 20  # of batches, each left out in turn
CONFIDENCE = 0.95


class ScoreInterval(NamedTuple):
    """A score and its interval.

    Attributes:
        value: on all examples.
        low: the interval's lower end; NaN where there is none.
        high: its upper end.
    """

    value: float
    low: float
    high: float


def score_intervals(
    step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int
) -> dict[str, ScoreInterval]:
    """Score one model, with jackknife intervals over groups of its evaluation batches.

    Each of at most 20 groups is left out in turn; with θ₋ᵢ the score without group i, the squared standard error is
    (G−1)/G · Σ(θ₋ᵢ − θ̄)², and the interval Student's with G−1 degrees of freedom. Scores of questions have none: all
    their windows are needed for each.

    Args:
        step: knows the model and its objective.
        params: the model's parameter tree.
        name: the model's name.
        rows: the data set as its tokens.
        batch_size: examples at a time; fewer where there would be less than 20 batches.

    Returns:
        ``{metric: ScoreInterval}``, the metrics and values of `arena_jax.training.evaluation.score`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11; groups as Kott, The
    delete-a-group jackknife (2001).
    """
    batch_size = max(1, min(batch_size, len(rows) // GROUPS))
    sums: list[metrics.Sums] = []
    outputs: list[list[Any]] = []
    for i, (batch, result) in enumerate(results(step, params, name, rows, batch_size, None)):
        if len(sums) < GROUPS:
            sums.append({})
            outputs.append([])
        sums[i % GROUPS] = metrics.add(sums[i % GROUPS], result.sums)
        if result.outputs:
            outputs[i % GROUPS].append((batch, jax.tree.map(np.asarray, result.outputs)))

    def without(group: int | None) -> dict[str, float]:
        rest = [i for i in range(len(sums)) if i != group]
        return metrics.finalize(rows, metrics.total(sums[i] for i in rest), [o for i in rest for o in outputs[i]])

    whole, count = without(None), len(sums)
    if rows.task == QUESTIONS or count < 2:
        return {metric: ScoreInterval(value, math.nan, math.nan) for metric, value in whole.items()}
    return _jackknife(whole, [without(group) for group in range(count)])


def _jackknife(whole: dict[str, float], partial: list[dict[str, float]]) -> dict[str, ScoreInterval]:
    from scipy import stats

    count = len(partial)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    intervals = {}
    for metric, value in whole.items():
        scores = np.array([of_part[metric] for of_part in partial])
        half = quantile * math.sqrt((count - 1) / count * float(np.sum((scores - scores.mean()) ** 2)))
        intervals[metric] = ScoreInterval(value, value - half, value + half)
    return intervals
