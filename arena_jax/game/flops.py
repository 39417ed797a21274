"""Floating-point operations of a model's parts as players: what growth buys and pruning sells."""

from __future__ import annotations

from arena_jax.models import TransformerConfig


def player_flops(config: TransformerConfig, length: int, kind: str, groups: int) -> float:
    """The operations per token that one fine player takes.

    Args:
        config: of the model.
        length: tokens that a token attends to.
        kind: "head" or "neurons".
        groups: of neurons per block.
    """
    d = config.hidden_size
    if kind == "head":
        return float((8 * d + 4 * length) * config.head_size)
    return 4.0 * d * config.intermediate_size / groups
