"""Scores of one model on a whole data set: sums over its examples, every example once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from arena_jax import data
from arena_jax.runtime.devices import own_rows
from arena_jax.training import metrics
from arena_jax.training.step import Step


def score(step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int) -> dict[str, float]:
    """Score one model.

    Args:
        step: knows the model and its objective.
        params: the model's parameter tree.
        name: the model's name.
        rows: the data set as its tokens.
        batch_size: examples at a time; raised to what the devices divide.

    Returns:
        ``loss`` (nats) and what the task has: ``accuracy``; ``perplexity`` and ``bits_per_byte``; ``entity_f1``;
        ``exact_match`` and ``f1``.
    """
    totals: dict[str, float] = {}
    predicted: list[Any] = []
    for batch, result in _results(step, params, name, rows, batch_size):
        for key, value in result.sums.items():
            totals[key] = totals.get(key, 0.0) + float(value)
        if result.outputs:
            predicted.append((batch, jax.tree.map(np.asarray, result.outputs)))
    return metrics.finalize(rows, totals, predicted)


def mean_loss(losses: Mapping[str, float]) -> float | None:
    """The mean of the models' validation losses, in nats: what a run's best checkpoint is chosen by. None of nothing.

    Example:
        >>> mean_loss({"bert": 1.0, "gpt2": 3.0})
        2.0
    """
    return sum(losses.values()) / len(losses) if losses else None


def first_batch(step: Step, rows: data.Encoded, batch_size: int) -> dict[str, np.ndarray]:
    """The first batch that :func:`score` would look at; its shapes are those of every one of a length."""
    return own_rows(next(iter(data.evaluation_batches(rows, _spread(step, batch_size)))))


def _spread(step: Step, batch_size: int) -> int:
    devices = step.mesh.shape["data"]
    return -(-batch_size // devices) * devices


def _results(step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int) -> Iterator[tuple[Any, Any]]:
    """Each batch with its result, both whole on every process; one is computed while the last one is read."""
    waiting = None
    for index, batch in enumerate(data.evaluation_batches(rows, _spread(step, batch_size))):
        result = step.evaluate(name, params, own_rows(batch), index)
        if waiting is not None:
            yield waiting
        waiting = (batch, result)
    if waiting is not None:
        yield waiting
