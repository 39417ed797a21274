"""Learning rates that come from outside with every update, one per model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax.transforms.by_model import check_names, current_active
from arena_jax.transforms.trees import models_of


class GivenRatesState(NamedTuple):
    """State of :func:`given_rates`.

    Attributes:
        rates: ``{model: float32 scalar}``, those of each model's last update; 0 before the first.
    """

    rates: dict[Hashable, jax.Array]


def given_rates() -> optax.GradientTransformationExtraArgs:
    """Multiply each model's updates by minus its learning rate, which is given with the update.

    u_i ← −η_i · u_i

    For a program that is compiled once while rates follow what it does not know, such as a batch size that changes.

    Returns:
        A transformation over ``{model: updates}``. It needs ``rates={model: scalar}``, traced, and understands
        ``active={model: bool}``: the state keeps the rate of a model that is not active.

    Raises:
        ArenaError: rates of other models than the updates' (at update).

    Example:
        >>> optimizer = given_rates()
        >>> gradients = {"a": jnp.ones(1), "b": jnp.ones(1)}
        >>> updates, state = optimizer.update(gradients, optimizer.init(gradients), rates={"a": 0.5, "b": 0.25})
        >>> updates["a"], updates["b"], state.rates["b"]
        (Array([-0.5], dtype=float32), Array([-0.25], dtype=float32), Array(0.25, dtype=float32))
    """

    def init_fn(params: Any) -> GivenRatesState:
        return GivenRatesState({name: jnp.zeros((), jnp.float32) for name in models_of(params)})

    def update_fn(
        updates: Any,
        state: GivenRatesState,
        params: Any = None,
        *,
        rates: Mapping[Hashable, Any],
        active: Mapping[Hashable, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, GivenRatesState]:
        del params, extra_args
        models = models_of(updates)
        check_names(rates, models, "given_rates: rates")
        mask = current_active(active, models, "given_rates")
        now = {name: jnp.asarray(rates[name], jnp.float32) for name in models}
        scaled = {
            name: jax.tree.map(lambda u, rate=now[name]: (-rate * u).astype(u.dtype), updates[name]) for name in models
        }
        if mask is not None:
            now = {name: jnp.where(mask[name], rate, state.rates[name]) for name, rate in now.items()}
        return scaled, GivenRatesState(now)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
