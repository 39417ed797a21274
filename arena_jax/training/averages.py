"""A running average of a model's parameters over the steps that it took, part of the train state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Average(NamedTuple):
    """Of one model.

    Attributes:
        steps: that it took, int32 scalar.
        params: the average, a tree like the model's parameters.
    """

    steps: jax.Array
    params: Any


def first_average(params: Any) -> Average:
    """Before the first step: arrays of its own."""
    return Average(jnp.zeros((), jnp.int32), jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params))


def next_average(average: Average, params: Any, decay: float, active: jax.Array | bool) -> Average:
    r"""The average after a step.

    .. math:: a_n = a_{n-1} + \max(1 - d, 1/n)\,(\theta_n - a_{n-1})

    The first 1 / (1 − d) steps are averaged plainly, so that the values a model was drawn with have no part in it.

    Args:
        average: before the step.
        params: after it.
        decay: d, in [0, 1).
        active: whether the model took part; else its average stays, too.

    Returns:
        The new one, in the parameters' types.

    Example:
        >>> average = first_average({"w": jnp.zeros(1)})
        >>> for value in (4.0, 2.0, 0.0):
        ...     average = next_average(average, {"w": jnp.full(1, value)}, 0.5, True)
        >>> int(average.steps), average.params["w"].tolist()  # 4, (4 + 2) / 2, (3 + 0) / 2
        (3, [1.5])
    """
    steps = average.steps + 1
    # In double precision where JAX is asked for it; a Python float would be the update's own type.
    step_size = jnp.maximum(1 - decay, 1 / steps.astype(jnp.result_type(float)))
    moved = optax.incremental_update(params, average.params, step_size)
    selected = jax.tree.map(lambda new, old: jnp.where(active, new.astype(old.dtype), old), moved, average.params)
    return Average(jnp.where(active, steps, average.steps), selected)


def next_averages(
    averages: Mapping[str, Average], params: Mapping[str, Any], decay: float, active: Mapping[str, Any]
) -> dict[str, Average]:
    """:func:`next_average` of every model that has one."""
    return {name: next_average(average, params[name], decay, active[name]) for name, average in averages.items()}
