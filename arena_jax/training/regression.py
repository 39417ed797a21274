"""A number per text, as in STS-B: squared error, and how far predictions and labels rise together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.training.batch_sums import Batch, Result, count_of, example_rows, model_inputs
from arena_jax.training.token_losses import masked_sum, widened


def regression(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    r"""Squared error of one number per row, :math:`(\hat y - y)^2`.

    Args:
        model: a ``sequence-classification`` model with one output.
        batch: ``input_ids``, ``attention_mask`` (B, L), ``labels`` (B,) float32; optionally ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on.

    Returns:
        ``loss_sum`` and ``count`` (rows); in evaluation the output ``predictions`` (B,) float32.
    """
    outputs = widened(model(**model_inputs(batch), key=key if training else None))[:, 0]
    weight = example_rows(batch)
    error = jnp.square(outputs - batch["labels"].astype(outputs.dtype))
    return Result(
        {"loss_sum": masked_sum(error, weight), "count": count_of(weight)}, {} if training else {"predictions": outputs}
    )


def correlations(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation of predictions with labels.

    Args:
        labels: (n,) numbers.
        predictions: (n,) numbers.

    Returns:
        "pearson", and "spearman" (Pearson's of the ranks, equal values sharing their mean rank); each in [-1, 1], NaN
        where one side does not vary.

    Example:
        >>> scores = correlations(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
        >>> {name: round(score, 4) for name, score in scores.items()}
        {'pearson': 0.9897, 'spearman': 1.0}
    """
    return {
        "pearson": _pearson(np.asarray(labels, np.float64), np.asarray(predictions, np.float64)),
        "spearman": _pearson(_ranks(labels), _ranks(predictions)),
    }


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip((x * y).sum() / scale, -1.0, 1.0)) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place].astype(np.float64)
