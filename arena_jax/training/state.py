"""The state of training: a plain pytree, and the keys that are folded from where it stands."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.training.averages import Average


class TrainState(NamedTuple):
    """Everything that a step reads and writes.

    Attributes:
        step: steps taken, int32 scalar.
        params: ``{model name: parameter tree}``.
        opt_state: the optimizer's state over all models.
        variables: ``{model name: tree}`` of all that a module holds beside its parameters, such as batch statistics and
            random streams; empty for the models of :mod:`arena_jax.models`.
        averages: ``{model name: average of its parameters}``; empty where none is asked for.
    """

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    variables: dict[str, Any] = {}  # noqa: RUF012 - never changed, and a pytree
    averages: dict[str, Average] = {}  # noqa: RUF012 - the same


def model_key(seed: int, name: str, step: jax.Array | int) -> jax.Array:
    """The key of one model at one step.

    It depends on the seed, the model's name and the step alone: not on which other models train beside it, and not on
    anything that a resumed run could have lost.

    Args:
        seed: the run's seed.
        name: the model's name.
        step: the step, may be traced.

    Returns:
        A typed key, scalar.

    Example:
        >>> import jax
        >>> bool((jax.random.bits(model_key(0, "bert", 3)) == jax.random.bits(model_key(0, "gpt2", 3))).all())
        False
    """
    return step_key(model_key_data(seed, name), step)


def model_key_data(seed: int, name: str) -> np.ndarray:
    """What is folded from seed and name alone, as numbers: an argument of a program, so that all seeds share one.

    Args:
        seed: the run's seed.
        name: the model's name.

    Returns:
        The key's data, uint32 (2,) for JAX's default generator.
    """
    # crc32 and not hash(): the latter differs from process to process.
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))))


def step_key(data: Any, step: jax.Array | int) -> jax.Array:
    """The key of one step, of :func:`model_key_data`; both may be traced.

    Example:
        >>> import jax
        >>> bool(step_key(model_key_data(0, "bert"), 3) == model_key(0, "bert", 3))
        True
    """
    return jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(data)), jnp.asarray(step, jnp.uint32))
