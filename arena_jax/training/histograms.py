"""Histograms of a model's gradients and weights, part by part, computed inside the compiled step that has them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from arena_jax.config.errors import ArenaError
from arena_jax.models.components import component_of, path_names

BINS = 64


def histogram(*arrays: jax.Array) -> dict[str, jax.Array]:
    """How often values lie in each of 64 bins of one width between the least and the greatest, as in ``np.histogram``.

    Args:
        *arrays: of any shapes, taken together; NaN and infinities are counted apart.

    Returns:
        ``low`` and ``high``, scalars of the arrays' dtype (half below and above where all values are one);
        ``counts``, int32 (64,), the last bin with its upper edge; ``nonfinite``, int32.

    Example:
        >>> measured = histogram(jnp.array([0.0, 1.0, 64.0, jnp.nan]), jnp.array([1.5]))
        >>> float(measured["high"]), measured["counts"][:3].tolist(), int(measured["nonfinite"])
        (64.0, [1, 2, 0], 1)
    """
    finite = [jnp.isfinite(array) for array in arrays]
    number = sum(jnp.sum(mask, dtype=jnp.int32) for mask in finite)
    low: Any = jnp.stack([jnp.min(a, where=m, initial=jnp.inf) for a, m in zip(arrays, finite, strict=True)]).min()
    high: Any = jnp.stack([jnp.max(a, where=m, initial=-jnp.inf) for a, m in zip(arrays, finite, strict=True)]).max()
    low, high = jnp.where(number > 0, low, 0), jnp.where(number > 0, high, 0)
    low, high = jnp.where(low == high, low - 0.5, low), jnp.where(low == high, high + 0.5, high)
    edges = low + (high - low) * (jnp.arange(BINS + 1, dtype=low.dtype) / BINS)
    counts = jnp.zeros(BINS, jnp.int32)
    for array, mask in zip(arrays, finite, strict=True):
        values = jnp.where(mask, array, low)
        place = jnp.clip(((values - low) * (BINS / (high - low))).astype(jnp.int32), 0, BINS - 1)
        # The quotient may round over an edge: the edges decide.
        place = place - (values < edges[place])
        place = place + ((values >= edges[place + 1]) & (place < BINS - 1))
        counts = counts.at[place.reshape(-1)].add(mask.reshape(-1).astype(jnp.int32))
    nonfinite = sum(array.size for array in arrays) - number
    return {"low": low, "high": high, "counts": counts, "nonfinite": jnp.asarray(nonfinite, jnp.int32)}


def histograms(tree: Any) -> dict[str, dict[str, jax.Array]]:
    """The histogram of each part of a model, ``{part: histogram}``; of a module of your own, of each first name."""
    parts: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts.setdefault(_part(path), []).append(leaf)
    return {part: histogram(*leaves) for part, leaves in parts.items()}


def histograms_at(step: jax.Array, every: int, tree: Any) -> dict[str, dict[str, jax.Array]]:
    """The histograms of one step in so many, and at no cost in the others, whose counts are all 0.

    Args:
        step: int32 scalar, updates taken, this one included.
        every: steps from one to the next.
        tree: of a model's gradients or parameters.
    """
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(histograms, tree))
    return jax.lax.cond(step % every == 0, lambda: histograms(tree), lambda: empty)


def _part(path: Any) -> str:
    try:
        return component_of(path)
    except ArenaError:
        return path_names(path)[0]
