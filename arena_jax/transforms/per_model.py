"""One inner optimizer for each model, with its own momentum and its own count of updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import optax

from arena_jax.transforms.by_model import check_names, current_active, keep_idle, silence
from arena_jax.transforms.trees import Name, branches

Optimizer: TypeAlias = optax.GradientTransformation | optax.GradientTransformationExtraArgs


class PerModelState(NamedTuple):
    """The state of each model's optimizer."""

    models: dict[Name, Any]


def per_model(optimizer: Optimizer | Mapping[Name, Optimizer]) -> optax.GradientTransformationExtraArgs:
    """Run an optimizer on each model by itself, so that models may sit out updates.

    Counts, momenta and schedules belong to one model each: a model that was not active keeps its state to the bit, and
    goes on where it stopped, in its warm-up too. ``optax.adam`` over the whole dictionary would count for all.

    Args:
        optimizer: any Optax transformation, used once per model, or ``{model: transformation}``.

    Returns:
        A transformation over ``{model: updates}``. It understands ``active={model: bool}``; of ``value={model: loss}``
        each inner optimizer gets its own model's loss as a scalar; other extra arguments are passed on as they are.

    Raises:
        ArenaError: names that are not the models' (at init or update).

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = per_model({"a": optax.sgd(0.1), "b": optax.sgd(0.2, momentum=0.5)})
        >>> gradients = {"a": jnp.ones(1), "b": jnp.ones(1)}
        >>> state = optimizer.init(gradients)
        >>> for active in ({"a": True, "b": True}, {"a": True, "b": False}, {"a": False, "b": True}):
        ...     updates, state = optimizer.update(gradients, state, active=active)
        ...     print(updates["a"], updates["b"])
        [-0.1] [-0.2]
        [-0.1] [0.]
        [0.] [-0.3]
    """

    def inner(models: tuple[Name, ...]) -> dict[Name, optax.GradientTransformationExtraArgs]:
        if isinstance(optimizer, Mapping):
            check_names(optimizer, models, "per_model: optimizer")
            return {model: optax.with_extra_args_support(optimizer[model]) for model in models}
        return dict.fromkeys(models, optax.with_extra_args_support(optimizer))

    def init_fn(params: Any) -> PerModelState:
        trees, _ = branches(params)
        optimizers = inner(tuple(trees))
        return PerModelState({model: optimizers[model].init(tree) for model, tree in trees.items()})

    def update_fn(
        updates: Any,
        state: PerModelState,
        params: Any = None,
        *,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, PerModelState]:
        trees, definition = branches(updates)
        models = tuple(trees)
        optimizers = inner(models)
        mask = current_active(active, models, "per_model")
        parameters = dict.fromkeys(models) if params is None else branches(params)[0]
        losses = extra_args.pop("value", None)
        if isinstance(losses, Mapping):
            check_names(losses, models, "per_model: value")

        moved, states = [], {}
        for model in models:
            model_args = dict(extra_args)
            if losses is not None:
                model_args["value"] = losses[model] if isinstance(losses, Mapping) else losses
            old = state.models[model]
            step, new = optimizers[model].update(trees[model], old, parameters[model], **model_args)
            moved.append(silence(step, mask, model))
            states[model] = keep_idle(new, old, mask, model)
        return jax.tree.unflatten(definition, moved), PerModelState(states)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
