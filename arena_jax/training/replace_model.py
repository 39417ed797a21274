"""A model replaced in the middle of a run: what growing, pruning and searching for shapes stand on."""

from __future__ import annotations

from typing import Any, cast

import jax
from jax.sharding import Mesh, NamedSharding

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.runs.divergence import owner
from arena_jax.runtime.devices import distribute
from arena_jax.training.averages import Average, first_average
from arena_jax.training.modules import take_apart
from arena_jax.training.state import TrainState


def replace_model(
    state: TrainState, name: str, model: Any, optimizer_state: Any, average: Average | None = None
) -> TrainState:
    """Put another model in the place of one that trains; its shapes may be others.

    Parameters, optimizer states and variables of all other models are the same arrays, and the step count goes on. The
    step is made anew, by :func:`make_step` with the new model: programs are compiled for shapes.

    Args:
        state: of the run.
        name: of the model that goes; the new one takes its name.
        model: the new one, any ``nnx.Module``.
        optimizer_state: a state of the run's optimizer over all models with the new model's shapes. Of it, only what
            belongs to ``name`` is taken: from ``optimizer.init`` for moments that begin at 0, or from
            :meth:`arena_jax.models.surgery.Surgery.optimizer_state` for those that follow the change of shape.
        average: of the new model's parameters, where the state keeps averages; one that begins now if not given.

    Returns:
        The new state, on the same devices.

    Raises:
        ArenaError: there is no such model, or ``optimizer_state`` is of another optimizer.

    Example:
        >>> import jax, optax
        >>> from arena_jax import models, training
        >>> shape = lambda width: models.preset("gpt2-tiny").replace(intermediate_size=width)
        >>> make = lambda width: models.create(shape(width), task="causal-lm")
        >>> optimizer = optax.adam(1e-3)
        >>> state = training.make_step({"a": make(64), "b": make(64)}, optimizer).init()
        >>> wide = make(80)
        >>> params = {**state.params, "b": models.split(wide)[1]}
        >>> state = replace_model(state, "b", wide, optimizer.init(params))
        >>> step = training.make_step({"a": make(64), "b": wide}, optimizer)
        >>> state.params["b"]["blocks"]["feed_forward"]["up"]["kernel"].shape
        (2, 32, 80)
    """
    if name not in state.params:
        raise ArenaError(f"the state has no model '{name}'; {nearest(name, list(state.params))}")
    _, params, variables = take_apart(name, model)
    mesh = cast(Mesh, cast(NamedSharding, state.step.sharding).mesh)
    names = tuple(state.params)
    before, after = _others(state.opt_state, name, names), _others(optimizer_state, name, names)
    if [path for path, _ in before] != [path for path, _ in after]:
        raise ArenaError(
            "optimizer_state is of another optimizer, or lacks a model: give one over all models, e.g. "
            f"optimizer.init({{**state.params, '{name}': the new parameters}})"
        )
    leaves = iter([leaf for _, leaf in before])
    opt_state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: distribute(leaf, mesh) if owner(path, names) == name else next(leaves), optimizer_state
    )
    return state._replace(
        params={**state.params, name: distribute(params, mesh)},
        opt_state=opt_state,
        variables={**state.variables, name: distribute(variables, mesh)},
        averages=state.averages and {**state.averages, name: distribute(average or first_average(params), mesh)},
    )


def _others(opt_state: Any, name: str, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Path and array of all that does not belong to a model."""
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves if owner(path, names) != name]
