"""The learning rate of each model, by its own count of updates, or as it comes with the update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_number
from arena_jax.transforms.by_model import check_names, current_active, keep_idle, silence
from arena_jax.transforms.trees import Name, branches, scale_leaves, wide_dtype

Rate: TypeAlias = Any  # a number, a traced scalar, or an Optax schedule


class ModelRate(NamedTuple):
    """One model's updates so far (int32), and the rate of its last one (float32 or float64; 0 before the first)."""

    count: jax.Array  # type: ignore[assignment]
    rate: jax.Array


class ScaleByLearningRatesState(NamedTuple):
    """One ``ModelRate`` per model."""

    models: dict[Name, ModelRate]


def scale_by_learning_rates(
    learning_rates: Rate | Mapping[Name, Rate] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiply each model's updates by minus its learning rate.

    .. math:: u_i \leftarrow -\eta_i(c_i)\, u_i

    where :math:`c_i` is the number of updates that model i has made before this one.

    Args:
        learning_rates: a number, a schedule ``count -> rate``, one of both for each model, ``{model: rate}``; or None:
            they come with each update, ``update(..., learning_rates={model: scalar or schedule})``, and may be
            traced. That is for a program that is compiled once while rates follow what it does not know, such as a
            batch size, or that serves other runs, too: a schedule that is a pytree (``jax.tree_util.Partial``) brings
            its numbers along as arguments.

    Returns:
        A transformation over ``{model: updates}``; it understands ``active={model: bool}``. Its state keeps each
        model's last rate, which ``transforms.learning_rates`` reads.

    Raises:
        ArenaError: a rate that is none (when built), names that are not the models' (at init or update), or rates that
            are missing from an update, or given twice.

    Example:
        >>> import jax.numpy as jnp
        >>> scale = scale_by_learning_rates({"a": 0.5, "b": lambda count: 0.25 / (1 + count)})
        >>> updates = {"a": jnp.ones(1), "b": jnp.ones(1)}
        >>> state = scale.init(updates)
        >>> for step in range(2):
        ...     scaled, state = scale.update(updates, state)
        ...     print(scaled["a"], scaled["b"], state.models["b"].rate)
        [-0.5] [-0.25] 0.25
        [-0.5] [-0.125] 0.125
        >>> scale = scale_by_learning_rates()
        >>> scaled, state = scale.update(updates, scale.init(updates), learning_rates={"a": 0.5, "b": 1.0})
        >>> print(scaled["a"], scaled["b"])
        [-0.5] [-1.]
    """
    each: Mapping[Any, Any] = learning_rates if isinstance(learning_rates, Mapping) else {None: learning_rates}
    for name, rate in each.items():
        whose = "the learning rate" if name is None else f"the learning rate of {name!r}"
        if rate is None and name is None:
            continue
        if not (callable(rate) or is_number(rate, lambda number: number >= 0)):
            raise ArenaError(
                f"scale_by_learning_rates: {whose} is {rate!r}; give a number that is at least 0, or a schedule"
            )

    def rates_of(models: tuple[Name, ...]) -> dict[Name, Rate]:
        if not isinstance(learning_rates, Mapping):
            return dict.fromkeys(models, learning_rates)
        check_names(learning_rates, models, "scale_by_learning_rates: learning_rates")
        return {model: learning_rates[model] for model in models}

    def init_fn(params: Any) -> ScaleByLearningRatesState:
        trees, _ = branches(params)
        rates_of(tuple(trees))
        return ScaleByLearningRatesState(
            {m: ModelRate(jnp.zeros([], jnp.int32), jnp.zeros([], wide_dtype(tree))) for m, tree in trees.items()}
        )

    def update_fn(
        updates: Any,
        state: ScaleByLearningRatesState,
        params: Any = None,
        *,
        learning_rates: Mapping[Name, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, ScaleByLearningRatesState]:
        del params, extra_args
        trees, definition = branches(updates)
        models = tuple(trees)
        rates = rates_of(models)
        arriving = any(rate is None for rate in rates.values())
        if arriving and learning_rates is None:
            raise ArenaError(
                "scale_by_learning_rates was built without learning rates; call update(..., learning_rates={model: "
                "rate}), or give them when it is built"
            )
        if not arriving and learning_rates is not None:
            raise ArenaError(
                "scale_by_learning_rates: learning rates are given with the update and were given when it was built; "
                "give them once (None when it is built)"
            )
        if learning_rates is not None:
            check_names(learning_rates, models, "scale_by_learning_rates: learning_rates")
            rates = {model: learning_rates[model] for model in models}
        mask = current_active(active, models, "scale_by_learning_rates")

        moved, states = [], {}
        for model, tree in trees.items():
            old = state.models[model]
            value = rates[model](old.count) if callable(rates[model]) else rates[model]
            rate = jnp.asarray(value).astype(old.rate.dtype)
            moved.append(silence(scale_leaves(tree, -rate), mask, model))
            states[model] = keep_idle(ModelRate(optax.safe_increment(old.count), rate), old, mask, model)
        return jax.tree.unflatten(definition, moved), ScaleByLearningRatesState(states)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
