"""Models of a competition that change their shape at a reallocation: as planned, or by their progress (equation 14)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arena_jax import models
from arena_jax.arena.admission import admit_evaluations, compile_evaluations, compile_update
from arena_jax.arena.batch_sizes import drop_search, find_size
from arena_jax.arena.records import record_programs
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State
from arena_jax.config.errors import ArenaError
from arena_jax.config.resize import Resize
from arena_jax.models import TransformerConfig
from arena_jax.models.resize import MOST_GROUPS, group_sizes, is_pruning, size_of
from arena_jax.models.shards import sharding_of
from arena_jax.runs.divergence import leaves_of
from arena_jax.runs.session import Session
from arena_jax.runtime.devices import zeros_like
from arena_jax.runtime.memory import device_bytes, format_bytes
from arena_jax.runtime.program import Program
from arena_jax.training.averages import first_average
from arena_jax.training.describe_models import describe_models
from arena_jax.training.objectives import head_positions
from arena_jax.training.resize import PROBE_ROWS, due, resize_fields, resize_model
from arena_jax.training.shapes import after, take_shapes
from arena_jax.transforms.learning_progress import learning_progress

Targets = tuple[tuple[str, int], ...]


def resize_models(setup: Setup, state: State, session: Session, rounds: int) -> Program | None:
    """Change the models whose turn it is: those that the configuration names, and those beyond a threshold.

    θ ← Expand(θ) if λ > τ_grow, θ ← Prune(θ) if λ < τ_prune. A model that the budget does not hold stays as it is, and
    the records say so.

    Args:
        setup: of the competition; models, step and programs follow.
        state: its parameters, moments, gradients and batch sizes follow.
        session: records what changed.
        rounds: taken.

    Returns:
        The update of all models, compiled for the new shapes; None where nothing changed.

    Source: ModelArena, equation 14.
    """
    changes = {**threshold_changes(setup, state), **due(setup.config, rounds)}
    changed: Program | None = None
    if changes:
        state.window.pause()
    for name, targets in changes.items():
        if name in session.divergence.frozen:
            continue
        try:
            changed = change_model(setup, state, session, name, targets, rounds)
        except ArenaError as error:
            session.record("note", rounds, text=f"{name} keeps its shape: {error}")
    if changes:
        state.window.resume()
    return changed


def threshold_changes(setup: Setup, state: State) -> dict[str, Targets]:
    """What the thresholds of growth and pruning ask for: ``{model: (what, how many)}``.

    A model's progress is that of its scores since its last change; it takes two.
    """
    arena = setup.arena
    if arena.grow_above is None and arena.prune_below is None:
        return {}
    what = arena.resize_by or "neurons"
    changes: dict[str, Targets] = {}
    for i, name in enumerate(setup.names):
        config = setup.parts.models[name].config
        progress = progress_since(state, i, state.resized.get(name, 0), arena.progress_window or 5)
        if progress is None:
            continue
        now, part = size_of(config, what), part_of(config, what)
        if arena.grow_above is not None and progress > arena.grow_above:
            changes[name] = ((what, now + part),)
        elif arena.prune_below is not None and progress < arena.prune_below and now > part:
            changes[name] = ((what, now - part),)
    return changes


def progress_since(state: State, model: int, evaluations: int, window: int) -> float | None:
    """A model's learning progress over its last scores, from a number of evaluations on; None where there is one."""
    scores = np.asarray(state.history.scores)[evaluations:, model : model + 1]
    if len(scores) < 2:
        return None
    # Always as many rows: each number of them would be another program.
    filling = np.full((max(0, window + 1 - len(scores)), 1), np.nan)
    return float(learning_progress(np.concatenate([filling, scores])[-(window + 1) :], window)[0])


def part_of(config: TransformerConfig, what: str) -> int:
    """How many neurons, heads or layers are added or taken: a quarter of a block's neurons, in whole groups, or one.

    Example:
        >>> part_of(models.preset("gpt2"), "neurons"), part_of(models.preset("gpt2"), "layers")
        (768, 1)
    """
    if what != "neurons":
        return 1
    neurons = config.intermediate_size
    group = group_sizes(neurons)[0]
    return max(group, neurons // 4 // group * group)


def change_model(
    setup: Setup, state: State, session: Session, name: str, targets: Targets, rounds: int, *, quiet: bool = False
) -> Program:
    """Put a model of another shape in the place of one, with all that follows: one compilation of each of its programs.

    Args:
        setup: of the competition.
        state: it is changed.
        session: records it.
        name: the model.
        targets: what it is to have.
        rounds: taken.
        quiet: record what was compiled alone: it is a trial.

    Returns:
        The update, compiled anew.

    Raises:
        ArenaError: the model cannot be changed so, or the budget does not hold it; then nothing has changed.
    """
    start = time.perf_counter()
    parts, step = setup.parts, setup.step
    before, about = describe_models(parts)[name], parts.models[name]
    train, gradient, size = state.train, state.gradients[name], state.sizes[name]
    code = dict(setup.executables.other_code)
    network = models.merge(step.structures[name], train.params[name])
    _check_resident(setup, state, name, targets)
    drop_search(setup, state, name)
    resized = resize_model(step, train, name, targets, parts, seed=setup.config.training.seed)
    programs = setup.executables.replace(name, resized.state.params[name], setup.resident)
    try:
        take_model(setup, state, name, resized)
        update = compile_update(setup, state.train, state.gradients)
        evaluations = compile_evaluations(setup, state.train.params)
        if setup.executables.pool <= 0:
            raise ArenaError("parameters and programs would take the whole budget; raise --memory-budget")
        find_size(setup, state, session, name, rounds, start=size)
        admit_evaluations(setup, evaluations, state.train.params)
        check_others(setup, state, [other for other in setup.names if other not in (name, *session.divergence.frozen)])
    except ArenaError:
        step.replace(name, network)
        parts.models[name], state.train, state.gradients[name] = about, train, gradient
        state.sizes[name], setup.parameters[name] = size, before["parameters"]
        setup.executables.put_back(name, programs)
        setup.executables.other_code = code
        raise
    record_programs(session, rounds, [update])
    record_programs(session, rounds, step.new_programs())
    state.times.forget(name)
    if quiet:
        return update
    session.divergence.forget_sources(name)
    state.noise.pop(name, None)
    state.resized[name] = len(state.history.scores)
    _charge(setup, state, name, targets, about)
    fields = resize_fields(name, before, describe_models(parts)[name], resized)
    session.record("resize", rounds, seconds=time.perf_counter() - start, **fields)
    return update


def _check_resident(setup: Setup, state: State, name: str, targets: Targets) -> None:
    """Hold to the budget what is always there with a model of another shape, and beside it the model as it is.

    Raises:
        ArenaError: it does not fit; nothing has changed. Or the model cannot be changed so.
    """
    about, train, mesh = setup.parts.models[name], state.train, setup.mesh
    params = models.split(models.abstract(after(about.config, Resize(0, targets)), about.task))[1]
    averages = train.averages and {**train.averages, name: jax.eval_shape(first_average, params)}
    together = {**train.params, name: params}
    opt_state = jax.eval_shape(setup.step.optimizer.init, together)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding_of(mesh, leaf.shape)),
        train._replace(params=together, opt_state=opt_state, averages=averages),
    )
    # Two at once until the change is over: it may be refused still.
    old = device_bytes(leaves_of(train, name, setup.names), train.params[name])
    resident = device_bytes(shapes, shapes.params)
    if resident + old + setup.executables.code >= setup.budget:
        raise ArenaError(
            f"what is always there would take {format_bytes(resident)}, the model as it is {format_bytes(old)} beside"
            f" it until the change is over, of {format_bytes(setup.budget)}; raise --memory-budget"
        )


def check_others(setup: Setup, state: State, names: Sequence[str]) -> None:
    """Refuse what leaves no room for a step of other models at the batch sizes in force; smaller ones fit then, too.

    Raises:
        ArenaError: naming the model.
    """
    pool = setup.executables.pool
    for name in names:
        if not setup.executables.fits(name, state.sizes[name], pool):
            raise ArenaError(
                f"a step of {name} in batches of {state.sizes[name]} would not fit the {format_bytes(pool)} that are"
                " left; raise --memory-budget"
            )


def take_up_shapes(setup: Setup, shapes: Mapping[str, Mapping[str, Any]]) -> None:
    """Give models the shapes of a checkpoint, before its arrays are read; programs and memory follow."""
    for name in take_shapes(setup.step, setup.parts.models, shapes):
        state = setup.step.abstract_state()
        setup.executables.replace(name, state.params[name], device_bytes(state, state.params))
        setup.parameters[name] = models.count_parameters(state.params[name])


def take_model(setup: Setup, state: State, name: str, resized: Any) -> None:
    """Take over a model's new parameters, and zeros for its gradient; what is resident follows."""
    setup.parts.models[name], state.train = resized.model, resized.state
    state.gradients[name] = zeros_like(state.train.params[name], setup.mesh)
    setup.parameters[name] = models.count_parameters(state.train.params[name])
    setup.executables.resident = device_bytes(state.train, state.train.params)


def _charge(setup: Setup, state: State, name: str, targets: Targets, before: Any) -> None:
    """Charge the forward passes that say which parts go, at what the model has paid for an operation so far."""
    config, task = before.config, before.task
    rows = setup.parts.validation[name]
    length, account = rows.lengths[-1], state.accounts[name]
    for what, count in targets:
        if not is_pruning(config, what, count):
            continue
        groups = 1 if what != "neurons" else min(MOST_GROUPS, config.intermediate_size)
        passes = 1 + config.num_layers * (config.num_heads + groups + 1)
        once = models.row_flops(config, task, length, head_positions(task, length))
        flops = float(passes * min(PROBE_ROWS, len(rows)) * once)
        seconds = flops * account.seconds / account.flops if account.flops else 0.0
        account.count_other(flops, seconds)
