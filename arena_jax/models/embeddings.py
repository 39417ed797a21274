"""Token, position and token-type embeddings, and the positions of a text."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx
from jax import Array

from arena_jax.models.config import TransformerConfig
from arena_jax.models.initial import Initial
from arena_jax.models.layers import Embedding, LayerNorm, Linear, dropout
from arena_jax.models.segments import places_in_segments


class Embeddings(nnx.Module):
    """Token plus position plus token type; BERT and RoBERTa normalise the sum."""

    def __init__(self, config: TransformerConfig, initial: Initial) -> None:
        gpt2 = config.family == "gpt2"
        table = functools.partial(Embedding, size=config.table_width, std=config.initializer_range, initial=initial)
        pad = None if gpt2 else config.pad_token_id
        self.token = table(config.vocab_size, padding=pad)
        self.position = table(config.max_positions, padding=pad if config.family == "roberta" else None)
        self.token_type = None if gpt2 or not config.type_vocab_size else table(config.type_vocab_size)
        eps = config.layer_norm_eps or 0.0
        self.norm = None if gpt2 else LayerNorm(config.table_width, eps, initial)
        wide = config.table_width == config.hidden_size
        self.project = (
            None if wide else Linear(config.table_width, config.hidden_size, config.initializer_range, initial)
        )
        self.config = config

    def __call__(
        self,
        input_ids: Array,
        token_type_ids: Array | None,
        position_ids: Array | None,
        key: Array | None,
        segment_ids: Array | None = None,
    ) -> Array:
        """int32 (B, L) → (B, L, D) in the computation's type."""
        config, dtype = self.config, self.config.compute_dtype
        x = self.token(input_ids, dtype)
        if self.token_type is not None:
            types = jnp.zeros((1, 1), jnp.int32) if token_type_ids is None else token_type_ids
            x = x + self.token_type(types, dtype)
        elif token_type_ids is not None:
            x = x + self.token(token_type_ids, dtype)  # GPT-2's types are rows of the token table
        if position_ids is None:
            position_ids = default_positions(config, input_ids, segment_ids)
        x = x + self.position(position_ids, dtype)
        if self.norm is not None:
            x = self.norm(x)
        rate = config.hidden_dropout if config.embedding_dropout is None else config.embedding_dropout
        x = dropout(x, rate, key)
        return x if self.project is None else self.project(x)


def default_positions(config: TransformerConfig, input_ids: Array, segment_ids: Array | None = None) -> Array:
    """Positions when none are given: 0, 1, 2, …; RoBERTa counts tokens that are not padding from pad + 1.

    Args:
        config: of the model.
        input_ids: int32 (B, L).
        segment_ids: int32 (B, L), where several texts share a row: each counts anew.

    Returns:
        int32 (1, L), or (B, L) for RoBERTa and for rows with segments.
    """
    if segment_ids is not None:
        place = places_in_segments(segment_ids)
        if config.family != "roberta":
            return place * (segment_ids > 0)
        padding = jnp.int32(config.pad_token_id or 0)
        return jnp.where(segment_ids > 0, place + padding + 1, padding)
    if config.family != "roberta":
        return jnp.arange(input_ids.shape[1], dtype=jnp.int32)[None, :]
    real = jnp.not_equal(input_ids, config.pad_token_id or 0).astype(jnp.int32)
    return jnp.cumsum(real, axis=1) * real + jnp.int32(config.pad_token_id or 0)
