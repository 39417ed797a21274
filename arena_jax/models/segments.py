"""Texts that share a row: where each token stands in its own, and which tokens see one another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def places_in_segments(segment_ids: Array) -> Array:
    """How many tokens of its own segment stand before each token.

    Args:
        segment_ids: int32 (B, L); tokens of a segment stand side by side.

    Returns:
        int32 (B, L).

    Example:
        >>> print(places_in_segments(jnp.asarray([[1, 1, 1, 2, 2, 0]])))
        [[0 1 2 0 1 0]]
    """
    numbers = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None, :]
    begins = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)))
    return numbers - jax.lax.cummax(jnp.where(begins, numbers, 0), axis=1)


def same_segment(segment_ids: Array) -> Array:
    """Whether a query and a key are of one segment: bool (B, 1, L, L), of int32 (B, L)."""
    return jnp.equal(segment_ids[:, None, :, None], segment_ids[:, None, None, :])
