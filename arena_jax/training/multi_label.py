"""Any of several classes per text: a decision for each class, and F1 over all of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.training.batch_sums import Batch, Result, count_of, example_rows, model_inputs
from arena_jax.training.token_losses import masked_sum, widened


def multi_label(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    r"""Binary cross-entropy of each class, the mean over the classes of a row.

    .. math:: \frac{1}{C} \sum_c \max(z_c, 0) - z_c y_c + \log(1 + e^{-|z_c|})

    Args:
        model: a ``sequence-classification`` model with an output per class.
        batch: ``input_ids``, ``attention_mask`` (B, L), ``labels`` (B, C) float32, 0 or 1; optionally ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on.

    Returns:
        ``loss_sum`` (nats), ``count`` (rows), ``correct`` (rows with every class right, at a probability of one half);
        in evaluation the output ``predictions`` (B, C) int32.
    """
    logits = widened(model(**model_inputs(batch), key=key if training else None))
    weight = example_rows(batch)
    labels = batch["labels"].astype(logits.dtype)
    loss = jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    predictions = logits > 0
    right = jnp.all(predictions == (labels > 0.5), axis=-1) & (weight > 0)
    sums = {
        "loss_sum": masked_sum(jnp.mean(loss, axis=-1), weight),
        "count": count_of(weight),
        "correct": jnp.sum(right, dtype=jnp.float32),
    }
    return Result(sums, {} if training else {"predictions": predictions.astype(jnp.int32)})


def f1_scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """F1 over all decisions, and the mean of the classes' own.

    Args:
        labels: (n, C), 1 where a class is right.
        predictions: (n, C), 1 where it was chosen.

    Returns:
        "micro_f1" and "macro_f1", in [0, 1]; a class that is neither right nor chosen counts 0, as in scikit-learn.

    Example:
        >>> scores = f1_scores(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
        >>> {name: round(score, 4) for name, score in scores.items()}
        {'micro_f1': 0.8, 'macro_f1': 0.8333}
    """
    true, predicted = np.asarray(labels) > 0.5, np.asarray(predictions) > 0.5
    hits, both = (true & predicted).sum(axis=0), true.sum(axis=0) + predicted.sum(axis=0)
    each = np.where(both > 0, 2 * hits / np.maximum(both, 1), 0.0)
    return {
        "micro_f1": float(2 * hits.sum() / both.sum()) if both.sum() else 0.0,
        "macro_f1": float(each.mean()),
    }
