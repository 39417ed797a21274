"""Floating-point operations of a model, counted from its shape: what growth buys and pruning sells."""

from __future__ import annotations

from arena_jax.models import TransformerConfig

BACKWARD = 2  # a backward pass costs about twice the forward pass


def forward_flops(config: TransformerConfig, length: int, *, head: bool = True) -> float:
    """Count the operations per token of a forward pass: two per multiplication and addition of every product.

    Σ over blocks of 8·D·W + 4·T·W + 4·D·F with W = heads · head size, plus 2·D·V of a language model's head. Norms,
    softmax and activations are left out: they grow with D, not D².

    Args:
        config: of the model.
        length: T, tokens that a token attends to.
        head: count the vocabulary's map too.

    Returns:
        Operations per token.

    Example:
        >>> from arena_jax import models
        >>> forward_flops(models.preset("gpt2"), 1024) / 2 / 124_439_808 > 1  # more than the parameters: attention
        True
    """
    d, width = config.hidden_size, config.num_heads * config.head_size
    block = 8 * d * width + 4 * length * width + 4 * d * config.intermediate_size
    return float(config.num_layers * block + (2 * d * config.vocab_size if head else 0))


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
