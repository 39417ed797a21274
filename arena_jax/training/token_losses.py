"""Losses of single tokens and their sums, padding left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def widened(x: jax.Array) -> jax.Array:
    """Half precision to float32; float32 and float64 stay as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def negative_log_likelihood(logits: jax.Array, targets: jax.Array) -> jax.Array:
    r"""−log softmax(logits)[target], in float32 at least.

    Args:
        logits: (..., classes).
        targets: (...) integers in [0, classes).

    Returns:
        (...) nats.

    Example:
        >>> import jax.numpy as jnp
        >>> print(negative_log_likelihood(jnp.zeros((1, 4)), jnp.array([2])).round(4))  # log 4
        [1.3863]
    """
    logits = widened(logits)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - target_logits


def masked_sum(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Sum values where the weight, of the same shape, is above 0; float32 at least."""
    # Selected, not multiplied: what a padded position holds, NaN included, must not reach the sum.
    return jnp.sum(jnp.where(weight > 0, values, 0), dtype=jnp.promote_types(values.dtype, jnp.float32))


def count_correct(logits: jax.Array, targets: jax.Array, weight: jax.Array) -> jax.Array:
    """Count the targets (...) with weight above 0 that have the largest of their logits (..., classes); float32."""
    hit = (jnp.argmax(logits, axis=-1) == targets) & (weight > 0)
    return jnp.sum(hit, dtype=jnp.float32)
