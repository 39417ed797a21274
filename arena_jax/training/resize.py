"""A model that changes its shape in the middle of a run: the change, what is carried over, and what is recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.models.resize import Worth, groups_of, is_pruning, resize
from arena_jax.models.surgery import Surgery
from arena_jax.runs.checkpoint_files import to_host
from arena_jax.runs.divergence import owner
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.devices import distribute
from arena_jax.training.averages import Average
from arena_jax.training.build import Parts
from arena_jax.training.describe_models import describe_models
from arena_jax.training.part_worth import part_worth
from arena_jax.training.replace_model import replace_model
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step

PROBE_ROWS = 64  # held-out rows that say which parts of a model go


class Resized(NamedTuple):
    """What a change of shape leads to.

    Attributes:
        state: of the run afterwards.
        model: the new one.
        change: what was done.
        moments: whether the optimizer's moments were carried over; else they begin at 0.
    """

    state: TrainState
    model: Any
    change: Surgery
    moments: bool


def resize_model(
    step: Step, state: TrainState, name: str, targets: Sequence[tuple[str, int]], parts: Parts, *, seed: int = 0
) -> Resized:
    """Give one model another shape: its parameters, moments, averages; nothing of the other models moves.

    The step learns of the new model; its program and the model's evaluation are compiled when they are asked for.

    Args:
        step: over all models; it is changed.
        state: of the run.
        name: of the model.
        targets: (what, how many afterwards), see :func:`arena_jax.models.resize.resize`.
        parts: of the run; where parts of the model go, the first held-out rows say which.
        seed: of what is new.

    Returns:
        The new state and model.

    Raises:
        ArenaError: the model cannot be changed so.
    """
    params = jax.tree.map(to_host, state.params[name])
    model = models.merge(step.structures[name], params)
    changes: list[Surgery] = []
    for what, count in targets:
        change = resize(model.config, what, count, _worth(model, name, what, count, parts, seed), seed=seed)
        model = change.model(model)
        changes.append(change)
    whole = changes[0]
    for change in changes[1:]:
        whole = whole.then(change)
    return replaced(step, state, name, model, whole)


def replaced(step: Step, state: TrainState, name: str, model: Any, change: Surgery) -> Resized:
    """Put a changed model in its place, with all that follows it.

    Args:
        step: over all models; it is changed.
        state: of the run.
        name: of the model.
        model: after the change.
        change: that led to it.
    """
    names = step.names
    before = jax.tree.map(to_host, state.params[name])
    host = jax.tree_util.tree_map_with_path(
        lambda path, leaf: to_host(leaf) if owner(path, names) == name else leaf, state.opt_state
    )
    params = models.split(model)[1]
    optimizer_state = change.optimizer_state(host, before, name)
    expected = jax.eval_shape(step.optimizer.init, {**state.params, name: params})
    moments = _own_shapes(optimizer_state, name, names) == _own_shapes(expected, name, names)
    if not moments:  # such as Muon's, whose trees have gaps: they begin anew
        optimizer_state = jax.jit(step.optimizer.init)({**state.params, name: distribute(params, step.mesh)})
    average = None
    if state.averages:
        before_average = state.averages[name]
        average = Average(before_average.steps, change.parameters(jax.tree.map(to_host, before_average.params)))
    after = replace_model(state, name, model, optimizer_state, average)
    step.replace(name, model)
    return Resized(after, model, change, moments)


def due(config: RunConfig, steps: int) -> dict[str, tuple[tuple[str, int], ...]]:
    """The models that change after so many steps, and how."""
    return {model.name: each.targets for model in config.models for each in model.resizes if each.step == steps}


def resize_due(session: Session, step: Step, state: TrainState, parts: Parts, steps: int) -> TrainState:
    """Change the models whose step it is, and record it.

    Args:
        session: of the run.
        step: over all models; it is changed.
        state: of the run.
        parts: of the run; its models are changed.
        steps: that were taken.

    Returns:
        The state to go on with.
    """
    for name, targets in due(session.config, steps).items():
        start = time.perf_counter()
        before = describe_models(parts)[name]
        resized = resize_model(step, state, name, targets, parts, seed=session.config.training.seed)
        state, parts.models[name] = resized.state, resized.model
        session.divergence.forget_sources(name)
        seconds = time.perf_counter() - start
        session.record(
            "resize", steps, seconds=seconds, **resize_fields(name, before, describe_models(parts)[name], resized)
        )
    return state


def resize_fields(name: str, before: Mapping[str, Any], about: Mapping[str, Any], resized: Resized) -> dict[str, Any]:
    """What a record says of a change: the model, what was done, and what the model is afterwards."""
    text = f"{name}: {resized.change.name}; {before['parameters']:,} → {about['parameters']:,} parameters"
    if not resized.moments:
        text += "; the optimizer's moments begin at 0, as these cannot follow"
    return {
        "model": name,
        "text": text,
        "before": before["parameters"],
        "about": dict(about),
        "moments": "carried over" if resized.moments else "from 0",
    }


def _worth(model: Any, name: str, what: str, count: int, parts: Parts, seed: int) -> Worth | None:
    """Of the model's parts, where some go: the same on every process."""
    if not is_pruning(model.config, what, count):
        return None
    groups = groups_of(model.config, count) if what == "neurons" else 1
    rows = parts.validation[name]
    batch = rows.batch(np.arange(min(PROBE_ROWS, len(rows))), rows.lengths[-1])
    worth = part_worth(model, parts.objectives[name], batch, groups=groups, seed=seed)
    if not processes.several():
        return worth
    heads, in_groups, blocks, means = processes.on_first(
        lambda: [np.asarray(x).tolist() for x in worth[:3]] + [[np.asarray(x).tolist() for x in worth.means or ()]]
    )
    means = (np.asarray(means[0], np.float32), np.asarray(means[1], np.float32))
    return Worth(np.array(heads), np.array(in_groups), np.array(blocks), means)


def _own_shapes(opt_state: Any, name: str, names: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Path and shape of all that belongs to a model."""
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    return [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves if owner(path, names) == name]
