"""One model of a competition at a moment, with all that belongs to its shape: to go back to, or to go on with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from arena_jax import models
from arena_jax.arena.accounts import Account
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State
from arena_jax.runs.checkpoint_files import to_host
from arena_jax.runs.divergence import owner
from arena_jax.runtime.devices import distribute, zeros_like
from arena_jax.runtime.model_programs import ModelPrograms
from arena_jax.runtime.program import Program


class Contender(NamedTuple):
    """A model, its parameters and moments, its programs, and where it is in its data.

    Attributes:
        name: of the model.
        train: the state, in the host's memory: what is the model's and what is nobody's; 0 where it is another's.
        model: what has its shape.
        programs: of its gradients.
        other_code: bytes of the code of programs beside gradients.
        update: of all models, for these shapes.
        size: its batch size.
        parameters: how many it has.
        position: in its data.
        account: what it has cost.
    """

    name: str
    train: Any
    model: Any
    programs: ModelPrograms
    other_code: dict[str, int]
    update: Program
    size: int
    parameters: int
    position: Any
    account: Account


def capture(setup: Setup, state: State, name: str, update: Program) -> Contender:
    """Keep a model as it is now.

    Args:
        setup: of the competition.
        state: of it.
        name: the model.
        update: of all models, as it is compiled now.
    """
    return Contender(
        name=name,
        train=jax.tree_util.tree_map_with_path(
            lambda path, leaf: 0 if _is_of_another(path, name, setup.names) else to_host(leaf), state.train
        ),
        model=setup.parts.models[name],
        programs=setup.executables.of_model(name),
        other_code=dict(setup.executables.other_code),
        update=update,
        size=state.sizes[name],
        parameters=setup.parameters[name],
        position=state.streams[name].state(),
        account=dataclasses.replace(state.accounts[name]),
    )


def install(setup: Setup, state: State, contender: Contender) -> Program:
    """Put a model back as it was kept; all other models rest meanwhile, and stay the arrays that they are.

    What it is in the devices' memory goes first: there is never more than one of it.

    Args:
        setup: of the competition; step, programs and memory follow.
        state: of it.
        contender: from `capture`.

    Returns:
        The update for its shape.
    """
    name = contender.name
    if setup.parts.models[name] is not contender.model:
        structure = models.split(models.abstract(contender.model.config, contender.model.task))[0]
        setup.step.replace(name, models.merge(structure, contender.train.params[name]))
    setup.parts.models[name] = contender.model
    setup.parameters[name], state.sizes[name] = contender.parameters, contender.size
    setup.executables.put_back(name, contender.programs)
    setup.executables.other_code = dict(contender.other_code)
    paths, tree = jax.tree_util.tree_flatten_with_path(contender.train)
    places = [_is_of_another(path, name, setup.names) for path, _ in paths]
    current = jax.tree_util.tree_leaves_with_path(state.train)
    others = iter([leaf for path, leaf in current if _is_of_another(path, name, setup.names)])
    state.train, state.gradients[name] = contender.train, None
    del current  # the last that holds the arrays which go
    arrays = iter(distribute([leaf for (_, leaf), other in zip(paths, places, strict=True) if not other], setup.mesh))
    state.train = jax.tree_util.tree_unflatten(tree, [next(others if other else arrays) for other in places])
    state.gradients[name] = zeros_like(state.train.params[name], setup.mesh)
    state.streams[name].restore(contender.position)
    state.accounts[name] = dataclasses.replace(contender.account)
    state.times.forget(name)
    return contender.update


def _is_of_another(path: Sequence[Any], name: str, names: Sequence[str]) -> bool:
    return owner(path, names) not in (name, None)
