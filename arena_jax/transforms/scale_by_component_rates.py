"""Learning rates by component for each of several models: what is not named keeps its rate, before scaling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.per_model import per_model
from arena_jax.transforms.scale_by_component import normalized, scale_by_component
from arena_jax.transforms.trees import Name, Path, branches, read

Multipliers = Mapping[str, Any] | Mapping[Name, Mapping[str, Any]]


def scale_by_component_rates(
    components: Callable[[Path], str], rates: Multipliers
) -> optax.GradientTransformationExtraArgs:
    """Scale each component's updates of each model, every model by itself to a geometric mean of 1.

    Args:
        components: from a parameter's path inside its model (the tuple of its names) to its component.
        rates: ``{component: multiplier}`` for all models, or ``{model: {component: multiplier}}``; a multiplier is a
            number at least 0, or one per layer of stacked parameters. A component that is not named has 1 before
            scaling, and a model that is not named is left as it is.

    Returns:
        A transformation over ``{model: updates}``: ``scale_by_component`` for each model, with what
        `component_multipliers` gives for its parameters.

    Raises:
        ArenaError: at init, a model or component that is not there; see `component_multipliers`.

    Example:
        >>> import jax.numpy as jnp
        >>> link = scale_by_component_rates(lambda path: path[0], {"bert": {"up": 4.0}})
        >>> updates = {"bert": {"up": jnp.ones(1), "down": jnp.ones(1)}, "gpt2": {"up": jnp.ones(1)}}
        >>> scaled, _ = link.update(updates, link.init(updates))
        >>> print(scaled["bert"]["up"], scaled["bert"]["down"], scaled["gpt2"]["up"])
        [2.] [0.5] [1.]
    """

    def links(tree: Any) -> optax.GradientTransformationExtraArgs:
        multipliers = component_multipliers(components, rates, tree)
        return per_model(
            {
                model: scale_by_component(components, multipliers[model], normalize=False)
                if model in multipliers
                else optax.identity()
                for model in branches(tree)[0]
            }
        )

    # The same links at init and at every trace: they follow from the names in the tree alone.
    return optax.GradientTransformationExtraArgs(
        lambda params: links(params).init(params),
        lambda updates, state, params=None, **extra: links(updates).update(updates, state, params, **extra),
    )


def component_multipliers(
    components: Callable[[Path], str], rates: Multipliers, params: Any
) -> dict[Name, dict[str, Any]]:
    """What each component's updates are multiplied by.

    Args:
        components: see `scale_by_component_rates`.
        rates: see `scale_by_component_rates`.
        params: ``{model: parameters}``, or anything of their shapes.

    Returns:
        ``{model: {component: number, or (layers,)}}``, with all components of a model; models that are left as they are
        are not in it.

    Raises:
        ArenaError: a model that is not there, a component that no model has (or not the one it is given for), or
            numbers that are not one per layer.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"bert": {"down": jnp.ones(3), "up": jnp.ones((2, 3))}}
        >>> component_multipliers(lambda path: path[0], {"up": [8.0, 2.0]}, params)
        {'bert': {'down': array(0.5), 'up': array([4., 1.])}}
    """
    shapes: dict[Name, dict[str, list[tuple[int, ...]]]] = {}
    for leaf in read(params)[2]:
        shapes.setdefault(leaf.model, {}).setdefault(components(leaf.path), []).append(leaf.shape)
    multipliers = {}
    for model, named in _by_model(rates, shapes).items():
        numbers = {component: np.asarray(named.get(component, 1.0), np.float64) for component in shapes[model]}
        _check_layers(numbers, shapes[model], model)
        multipliers[model] = {part: np.asarray(m) for part, m in normalized(numbers).items()}
    return multipliers


def _by_model(rates: Multipliers, components: Mapping[Name, Collection[str]]) -> dict[Name, Mapping[str, Any]]:
    """Each model's rates, of components that it has; models that are left as they are have none."""
    if not any(isinstance(choice, Mapping) for choice in rates.values()):
        _refuse_absent(rates, {name for names in components.values() for name in names}, "no model trains a component")
        shared: dict[Any, Any] = dict(rates)
        return {model: {name: m for name, m in shared.items() if name in names} for model, names in components.items()}
    for model, choice in rates.items():
        if model not in components:
            hint = nearest(str(model), map(str, components))
            raise ArenaError(f"scale_by_component_rates: there is no model {model!r}; {hint}")
        if not isinstance(choice, Mapping):
            raise ArenaError(
                f"scale_by_component_rates: the rates of {model!r} are {choice!r}; give {{component: multiplier}}"
            )
        _refuse_absent(choice, components[model], f"{model!r} trains no component")
    return {model: choice for model, choice in rates.items() if choice}


def _refuse_absent(rates: Mapping[Any, Any], components: Collection[str], what: str) -> None:
    for name in rates:
        if name not in components:
            raise ArenaError(f"scale_by_component_rates: {what} {name!r}; {nearest(str(name), components)}")


def _check_layers(numbers: Mapping[str, Any], shapes: Mapping[str, list[tuple[int, ...]]], model: Name) -> None:
    for component, m in numbers.items():
        for shape in shapes[component]:
            if m.shape != shape[: m.ndim]:
                raise ArenaError(
                    f"scale_by_component_rates: {model!r} is given {m.size} numbers for {component!r}, and has "
                    f"{shape[0] if shape else 'no'} layers; give one number, or one per layer"
                )
