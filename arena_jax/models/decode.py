"""A causal model over new tokens alone: keys and values of those before are kept."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from arena_jax.config.errors import ArenaError
from arena_jax.models.transformer import Transformer

Cache = tuple[tuple[Array, Array], ...]  # per block: keys and values (B, heads, M, d)


def empty_cache(model: Transformer, rows: int, places: int) -> Cache:
    """Keys and values of no token yet.

    Args:
        model: that is to read.
        rows: B.
        places: M, tokens that there is room for.

    Returns:
        For each block two arrays (B, heads, M, d) in the computation's type.
    """
    config = model.config
    zeros = jnp.zeros((rows, config.num_heads, places, config.head_size), config.compute_dtype)
    return tuple((zeros, zeros) for _ in range(config.num_layers))


def blocks_of(model: Transformer) -> list[Any]:
    """The model's blocks one by one. Outside of a loop over tokens: inside, each slice would be copied every time."""
    graph, stack = nnx.split(model.blocks)
    params = nnx.to_pure_dict(stack)
    return [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], params)) for i in range(model.config.num_layers)]


def decode(
    model: Transformer,
    blocks: list[Any],
    input_ids: Array,
    position_ids: Array,
    cache: Cache,
    place: Array,
    real: Array,
) -> tuple[Array, Cache]:
    """The hidden states of new tokens.

    Args:
        model: of the task causal-lm.
        blocks: what `blocks_of` gives for it.
        input_ids: int32 (B, L), the new tokens.
        position_ids: int32 (B, L), rows of the position table.
        cache: of the tokens before, with M places.
        place: int32 scalar, the place in the cache of the first new token.
        real: bool (B, M), False where a place holds padding.

    Returns:
        (B, L, D) after the final norm, as ``encode`` gives them for all tokens at once; and the cache with them in it.

    Raises:
        ArenaError: a model that sees later tokens, too.
    """
    if not model.config.causal:
        raise ArenaError("only a causal model reads token by token: others see later tokens, too")
    x = model.embeddings(input_ids, None, position_ids, None)
    queries = place + jnp.arange(input_ids.shape[1], dtype=jnp.int32)
    earlier = jnp.arange(real.shape[1], dtype=jnp.int32)[None, :] <= queries[:, None]
    mask = real[:, None, None, :] & earlier[None, None]
    grown = []
    for number, (block, before) in enumerate(zip(blocks, cache, strict=True)):
        layer = jnp.int32(number)
        mixed, after = block.attention.mix_cached(block.attention_input(x), before, place, mask, layer)
        x = block.feed(block.attend(x, mixed))
        grown.append(after)
    return x if model.final_norm is None else model.final_norm(x), tuple(grown)
