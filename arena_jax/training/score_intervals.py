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
    groups = _groups(step, params, name, rows, batch_size, None)
    whole, count = groups.without(None), len(groups.sums)
    if rows.task == QUESTIONS or count < 2:
        return {metric: ScoreInterval(value, math.nan, math.nan) for metric, value in whole.items()}
    return _jackknife(whole, [groups.without(group) for group in range(count)])


def score_with_error(
    step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int, metric: str, batches: int | None = None
) -> tuple[dict[str, float], float]:
    """Score one model, with the standard error of one of its scores on these examples.

    The error is that of :func:`score_intervals`, over the batches as they are; of questions' exact match and F1, the
    standard deviation over questions, by the square root of how many there are.

    Args:
        step: knows the model and its objective.
        params: the model's parameter tree.
        name: the model's name.
        rows: the data set as its tokens.
        batch_size: examples at a time.
        metric: whose error is asked for.
        batches: score the first so many alone; all if None, and all of questions, whose windows belong together.

    Returns:
        ``{metric: value}`` of `arena_jax.training.evaluation.score`, and the error; NaN where a single batch, or a
        metric that the model does not have, tells none.
    """
    groups = _groups(step, params, name, rows, batch_size, None if rows.task == QUESTIONS else batches)
    if rows.task == QUESTIONS:
        answers = metrics.Answers(rows)
        for batch, output in (pair for group in groups.outputs for pair in group):
            logits = np.asarray(output["span_logits"], np.float32)
            answers.add(batch["feature_index"], logits[..., 0], logits[..., 1], batch["valid"])
        scores = metrics.ratios(metrics.add(metrics.total(groups.sums), answers.sums()))
        columns = {"exact_match": 0, "f1": 1}
        if metric not in columns or len(answers.scores()) < 2:
            return scores, math.nan
        values = np.asarray(answers.scores())[:, columns[metric]]
        return scores, float(values.std(ddof=1) / math.sqrt(len(values)))
    whole, count = groups.without(None), len(groups.sums)
    if count < 2 or metric not in whole:
        return whole, math.nan
    return whole, _error([groups.without(group)[metric] for group in range(count)])


class _Groups(NamedTuple):
    """Sums and outputs of an evaluation, its batches dealt out to at most `GROUPS` groups."""

    rows: data.Encoded
    sums: list[metrics.Sums]
    outputs: list[list[Any]]

    def without(self, group: int | None) -> dict[str, float]:
        """The scores of all groups but one; of all for None."""
        rest = [i for i in range(len(self.sums)) if i != group]
        sums, outputs = (self.sums[i] for i in rest), [o for i in rest for o in self.outputs[i]]
        return metrics.finalize(self.rows, metrics.total(sums), outputs)


def _groups(step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int, batches: int | None) -> _Groups:
    groups = _Groups(rows, [], [])
    for i, (batch, result) in enumerate(results(step, params, name, rows, batch_size, None, batches)):
        if len(groups.sums) < GROUPS:
            groups.sums.append({})
            groups.outputs.append([])
        groups.sums[i % GROUPS] = metrics.add(groups.sums[i % GROUPS], result.sums)
        if result.outputs:
            groups.outputs[i % GROUPS].append((batch, jax.tree.map(np.asarray, result.outputs)))
    return groups


def _jackknife(whole: dict[str, float], partial: list[dict[str, float]]) -> dict[str, ScoreInterval]:
    from scipy import stats

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(partial) - 1))
    intervals = {}
    for metric, value in whole.items():
        half = quantile * _error([of_part[metric] for of_part in partial])
        intervals[metric] = ScoreInterval(value, value - half, value + half)
    return intervals


def _error(partial: list[float]) -> float:
    """The jackknife's standard error, from the scores without each group."""
    scores, count = np.array(partial), len(partial)
    return math.sqrt((count - 1) / count * float(np.sum((scores - scores.mean()) ** 2)))
