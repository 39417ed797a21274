"""Numbers given per model: weights, losses and the mask of models that take part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.trees import Name, branches

Scalar = Any  # a Python number or a traced scalar


def check_names(values: Any, models: Iterable[Name], what: str) -> None:
    """Refuse a per-model dictionary that names other models than the parameters do.

    Args:
        values: the dictionary.
        models: the names in the parameters.
        what: how the message should call the dictionary, e.g. ``"share_gradients: weights"``.

    Raises:
        ArenaError: not a dictionary, an unknown name, or a missing one.

    Example:
        >>> check_names({"robrta": 1.0}, ["bert", "roberta"], "weights")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: weights: there is no model 'robrta'; did you mean 'roberta'?
    """
    models = tuple(models)
    if not isinstance(values, Mapping):
        raise ArenaError(f"{what}: expected {{model: number}}, got {type(values).__name__}")
    for name in values:
        if name not in models:
            hint = nearest(str(name), [str(model) for model in models])
            raise ArenaError(f"{what}: there is no model {name!r}; {hint}")
    missing = [str(model) for model in models if model not in values]
    if missing:
        raise ArenaError(f"{what}: nothing is given for {', '.join(missing)}; name every model")


def constant_weights(weights: Mapping[Name, float] | None, what: str) -> dict[Name, float] | None:
    """Check weights that are known when the transformation is built.

    Args:
        weights: ``{model: weight}``, or None for 1 each.
        what: the transformation's name, for the message.

    Returns:
        The weights as Python floats, or None.

    Raises:
        ArenaError: a weight is no number, negative, or not finite.

    Example:
        >>> constant_weights({"bert": 1, "gpt2": 0.8}, "share_gradients")
        {'bert': 1.0, 'gpt2': 0.8}
        >>> constant_weights({"bert": -1.0}, "share_gradients")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: share_gradients: the weight of 'bert' is -1.0; weights are finite and at least 0
    """
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        raise ArenaError(f"{what}: weights must be {{model: number}}, got {type(weights).__name__}")
    checked = {}
    for name, weight in weights.items():
        try:
            checked[name] = float(weight)
        except (TypeError, ValueError) as error:
            raise ArenaError(f"{what}: the weight of {name!r} is {weight!r}; give a number") from error
        if not math.isfinite(checked[name]) or checked[name] < 0:
            raise ArenaError(f"{what}: the weight of {name!r} is {weight!r}; weights are finite and at least 0")
    return checked


def current_weights(
    constant: Mapping[Name, float] | None,
    passed: Mapping[Name, Scalar] | None,
    models: tuple[Name, ...],
    *,
    normalize: bool,
    what: str,
) -> dict[Name, Scalar]:
    """The weights of this update: those passed to it, else the constants, else 1 each.

    Args:
        constant: from ``constant_weights``.
        passed: the update's ``weights=``, possibly traced.
        models: the models in the tree.
        normalize: divide by the sum over all models, so that the weights sum to 1.
        what: the transformation's name, for the message.

    Returns:
        ``{model: weight}``: Python floats where everything is constant, so that XLA can fold them.

    Raises:
        ArenaError: the names differ from the models', or constant weights that are all 0 shall be normalised.

    Example:
        >>> current_weights({"a": 1.0, "b": 3.0}, None, ("a", "b"), normalize=True, what="share_gradients")
        {'a': 0.25, 'b': 0.75}
    """
    weights: Mapping[Name, Scalar] = dict.fromkeys(models, 1.0)
    if passed is not None:
        check_names(passed, models, f"{what}: weights")
        weights = {model: passed[model] for model in models}
    elif constant is not None:
        check_names(constant, models, f"{what}: weights")
        weights = {model: constant[model] for model in models}
    if normalize:
        total = sum(weights.values())
        if not isinstance(total, jax.Array) and total == 0:
            raise ArenaError(f"{what}: all weights are 0, so they cannot be normalised; give one that is not")
        weights = {model: weight / total for model, weight in weights.items()}
    return dict(weights)


def current_active(mask: Any, models: tuple[Name, ...], what: str) -> dict[Name, Any] | None:
    """The mask of this update, checked; None means that every model takes part.

    Example:
        >>> current_active(None, ("a",), "freeze") is None
        True
    """
    if mask is None:
        return None
    check_names(mask, models, f"{what}: active")
    return {model: jnp.asarray(mask[model], bool) for model in models}


def silence(updates: Any, active: Mapping[Name, Any] | None, model: Name) -> Any:
    """Zero updates for a model that does not take part (selected, never multiplied: they may hold NaN)."""
    if active is None:
        return updates
    return jax.tree.map(lambda u: jnp.where(active[model], u, jnp.zeros_like(u)), updates)


def keep_idle(new: Any, old: Any, active: Mapping[Name, Any] | None, model: Name) -> Any:
    """The new state of a model that takes part, the old one of a model that does not.

    Example:
        >>> keep_idle(jnp.ones(1), jnp.zeros(1), {"a": False}, "a")
        Array([0.], dtype=float32)
    """
    if active is None:
        return new
    return jax.tree.map(lambda n, o: jnp.where(active[model], n, o), new, old)


def silence_idle(updates: Any, active: Mapping[Name, Any] | None) -> Any:
    """Zero updates for every model that does not take part.

    Example:
        >>> silence_idle({"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": True, "b": False})
        {'a': Array([1.], dtype=float32), 'b': Array([0.], dtype=float32)}
    """
    if active is None:
        return updates
    trees, definition = branches(updates)
    return jax.tree.unflatten(definition, [silence(tree, active, model) for model, tree in trees.items()])
