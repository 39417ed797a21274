"""A model from its configuration: with random weights, or with shapes alone."""

from __future__ import annotations

import numbers

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig, check_task
from arena_jax.models.initial import Initial
from arena_jax.models.transformer import Transformer


def initialize(config: TransformerConfig, task: str, seed: int = 0) -> Transformer:
    """The model with random weights; see :func:`arena_jax.models.create`."""
    check_task(config, task)
    check_precision(config)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ArenaError(f"seed must be a whole number, not {seed!r}")
    return Transformer(config, task, Initial(config.param_dtype, int(seed) % 2**64))


def check_precision(config: TransformerConfig) -> None:
    """Refuse float64 where JAX would silently compute in float32."""
    if "float64" in (config.dtype, config.param_dtype) and not jax.config.read("jax_enable_x64"):
        raise ArenaError("float64 needs jax.config.update('jax_enable_x64', True) before the model is made")


def abstract(config: TransformerConfig, task: str) -> Transformer:
    """The model with shapes in place of arrays: nothing is computed."""
    return Transformer(config, task, Initial(config.param_dtype, seed=None))
