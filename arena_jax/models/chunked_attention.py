"""Attention for some queries at a time: no (L, L) array of a head's weights is ever whole, and the result is exact."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from arena_jax.models.layers import dropout

# Queries whose weights are in memory together. Enough for matrix products at full speed; a fixed number, so that what
# is computed does not depend on how many devices share a batch.
QUERIES = 128
# What `jax.checkpoint_policies` may keep: results, and two numbers per query, with which nothing is computed again but
# the weights of a block.
RESIDUALS = "chunked attention"


def chunked_attention(
    query: Array,
    keys: Array,
    values: Array,
    mask: Array | None,
    rate: float = 0.0,
    key: Array | None = None,
    *,
    queries: int = QUERIES,
) -> Array:
    r"""softmax(Q Kᵀ + mask) V, for some queries after the other.

    The backward pass is that of FlashAttention: it computes a block's weights P again, from the largest score and the
    sum that the forward pass kept of each query, and with the dropout's factors Z and D = rowsum(∂O ∘ O)

    .. math:: \partial V = (P \circ Z)^\top \partial O, \qquad
        \partial S = P \circ ((\partial O\, V^\top) \circ Z - D), \qquad
        \partial Q = \partial S\, K, \qquad \partial K = \partial S^\top Q.

    Args:
        query: (B, heads, L, d), with the scale already in it.
        keys: (B, heads, L, d).
        values: (B, heads, L, d).
        mask: bool, broadcastable to (B, heads, L, L): True where a query may see a key. None: everywhere.
        rate: probability of dropping a weight.
        key: random key of the dropout, or None. It drops the weights that it drops of the whole (L, L) at once.
        queries: at most so many at a time.

    Returns:
        (B, heads, L, d), in the type of the query; sums are float32 at least. A query that sees nothing gets the mean.

    Source: Dao et al., FlashAttention (2022), algorithm 4, with all keys of a query in one block; the idea of chunks is
    of Rabe and Staats, Self-attention does not need O(n²) memory (2021).

    Example:
        >>> x = jnp.ones((1, 1, 5, 2))
        >>> chunked_attention(x, x, jnp.arange(10.0).reshape(1, 1, 5, 2), None, queries=2)[0, 0, 0]
        Array([4., 5.], dtype=float32)
    """
    length = query.shape[2]
    count = -(-length // queries)
    size = -(-length // count)

    def split(array: Array) -> Array:
        """(…, L, n) → (blocks, …, size, n), filled up with zeros."""
        filled = jnp.pad(array, ((0, 0), (0, 0), (0, count * size - length), (0, 0)))
        return jnp.moveaxis(filled.reshape(*array.shape[:2], count, size, array.shape[3]), 2, 0)

    # A mask of keys alone serves every block.
    shared, of_blocks = mask, None
    if mask is not None and mask.shape[2] > 1:
        shared, of_blocks = None, split(mask)
    start = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(size)
    mixed = _attention(rate, split(query), keys, values, shared, of_blocks, start, key)
    whole = jnp.moveaxis(mixed, 0, 2).reshape(*query.shape[:2], count * size, query.shape[3])
    return whole[:, :, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    rate: float,
    query: Array,
    keys: Array,
    values: Array,
    shared: Array | None,
    of_blocks: Array | None,
    start: Array,
    key: Array | None,
) -> Array:
    """What each block's queries find: (blocks, B, heads, size, d)."""
    return _forward(rate, query, keys, values, shared, of_blocks, start, key)[0]


def _forward(
    rate: float,
    query: Array,
    keys: Array,
    values: Array,
    shared: Array | None,
    of_blocks: Array | None,
    start: Array,
    key: Array | None,
) -> tuple[Array, Any]:
    """The same, and what the backward pass needs: two numbers per query beside what comes in and goes out."""
    # As if they hung on the parameters: else the scan over layers would compute what masks and dropout are of all
    # blocks before, and keep it.
    query, shared, of_blocks, start, key = jax.lax.optimization_barrier((query, shared, of_blocks, start, key))

    def body(_: None, block: Any) -> tuple[None, tuple[Array, Array, Array]]:
        q, block_mask, first = block
        scores = _scores(q, keys, shared if block_mask is None else block_mask)
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        remaining = _dropped(weights.astype(q.dtype), rate, key, first)
        mixed = _product("bhlm,bhmd->bhld", remaining, values) / total
        return None, (mixed.astype(q.dtype), largest, total)

    _, results = jax.lax.scan(body, None, (query, of_blocks, start))
    mixed, largest, total = checkpoint_name(results, RESIDUALS)
    return mixed, (query, keys, values, shared, of_blocks, start, key, mixed, largest, total)


def _backward(rate: float, residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    query, keys, values, shared, of_blocks, start, key, mixed, largest, total = residuals

    def body(sums: tuple[Array, Array], block: Any) -> tuple[tuple[Array, Array], Array]:
        of_keys, of_values = sums
        q, block_mask, first, out, high, whole, of_out = block
        mask = shared if block_mask is None else block_mask
        weights = jnp.exp(_scores(q, keys, mask) - high) / whole
        of_values += _product("bhlm,bhld->bhmd", _dropped(weights.astype(q.dtype), rate, key, first), of_out)
        of_weights = _dropped(_product("bhld,bhmd->bhlm", of_out, values), rate, key, first)
        inner = (of_out.astype(weights.dtype) * out.astype(weights.dtype)).sum(-1, keepdims=True)
        of_scores = weights * (of_weights - inner)
        if mask is not None:
            of_scores = jnp.where(mask, of_scores, 0)
        of_scores = of_scores.astype(q.dtype)
        of_keys += _product("bhlm,bhld->bhmd", of_scores, q)
        return (of_keys, of_values), _product("bhlm,bhmd->bhld", of_scores, keys).astype(q.dtype)

    zero = jnp.zeros(keys.shape, _wide(keys))
    blocks = (query, of_blocks, start, mixed, largest, total, cotangent)
    (of_keys, of_values), of_query = jax.lax.scan(body, (zero, zero), blocks)
    return of_query, of_keys.astype(keys.dtype), of_values.astype(values.dtype), None, None, None, None


_attention.defvjp(_forward, _backward)


def _wide(x: Array) -> Any:
    return jnp.promote_types(x.dtype, jnp.float32)


def _product(pattern: str, a: Array, b: Array) -> Array:
    return jnp.einsum(pattern, a, b, preferred_element_type=_wide(a))


def _scores(query: Array, keys: Array, mask: Array | None) -> Array:
    """(B, heads, size, L); the smallest finite number where the mask hides a key, as a row may see nothing."""
    scores = _product("bhld,bhmd->bhlm", query, keys)
    return scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)


def _dropped(weights: Array, rate: float, key: Array | None, first: Array) -> Array:
    """Dropout of a block's weights (B, heads, size, L), whose first query is number ``first`` of L."""
    if key is None or rate == 0.0:
        return weights
    _, heads, _, length = weights.shape
    number = [jax.lax.broadcasted_iota(jnp.uint32, weights.shape, axis) for axis in range(4)]
    query = (number[0] * jnp.uint32(heads) + number[1]) * jnp.uint32(length) + first + number[2]
    return dropout(weights, rate, key, places=query * jnp.uint32(length) + number[3])
