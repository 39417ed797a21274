"""Gates on the parts of a model: heads and groups of feed-forward neurons, opened, closed or anywhere between."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig


class Gates(NamedTuple):
    """One number per head and per group of feed-forward neurons: z ← g·z + (1 − g)·μ before the part's output map.

    Attributes:
        heads: (blocks, heads), 1 = open.
        feed_forward: (blocks, groups); groups are contiguous and of one size: ``intermediate_size / groups`` neurons.
        head_means: (blocks, heads · head size), what a closed head gives in place of what it computes; None: 0.
        feed_forward_means: (blocks, intermediate size), the same for neurons, after the activation.
    """

    heads: Array
    feed_forward: Array
    head_means: Array | None = None
    feed_forward_means: Array | None = None


def gate(z: Array, gates: Array, means: Array | None) -> Array:
    """g·z + (1 − g)·μ, where each gate rules an equal, contiguous part of the last axis.

    Args:
        z: (..., width).
        gates: (parts,); parts divides width.
        means: μ (width,), or None for 0.

    Returns:
        Same shape and type as z; all ones give z back bit by bit.

    Example:
        >>> print(gate(jnp.ones((1, 4)), jnp.array([1.0, 0.5]), jnp.array([9.0, 9.0, 9.0, 3.0])))
        [[1. 1. 5. 2.]]
    """
    axes = tuple(range(z.ndim - 1))
    factors = jnp.expand_dims(jnp.repeat(gates.astype(z.dtype), z.shape[-1] // gates.shape[-1]), axes)
    if means is None:
        return factors * z
    return factors * z + (1 - factors) * jnp.expand_dims(means.astype(z.dtype), axes)


def check_gates(config: TransformerConfig, gates: Gates) -> None:
    """Refuse gates that do not fit a model.

    Raises:
        ArenaError: a wrong shape.
    """
    layers, width = config.num_layers, config.num_heads * config.head_size
    shape = jnp.shape(gates.heads)
    if shape != (layers, config.num_heads):
        raise ArenaError(f"gates.heads has shape {shape}; this model needs {(layers, config.num_heads)}")
    shape = jnp.shape(gates.feed_forward)
    if len(shape) != 2 or shape[0] != layers or not shape[1] or config.intermediate_size % shape[1]:
        raise ArenaError(
            f"gates.feed_forward has shape {shape}; this model needs ({layers}, groups) where groups divides "
            f"{config.intermediate_size}"
        )
    for name, size in (("head_means", width), ("feed_forward_means", config.intermediate_size)):
        value = getattr(gates, name)
        if value is not None and jnp.shape(value) != (layers, size):
            raise ArenaError(f"gates.{name} has shape {jnp.shape(value)}; this model needs {(layers, size)}")
