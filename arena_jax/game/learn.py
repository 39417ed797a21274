"""Rates by part, learned for a run's own model: full short trainings by best responses, within a time that is given."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

import arena_jax
from arena_jax import data, models, transforms
from arena_jax.config import RunConfig
from arena_jax.config.component_rates import TYPES, geometric_mean
from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import plain
from arena_jax.equilibria.arguments import Array
from arena_jax.game.protocol import Protocol, learn_protocol
from arena_jax.models.components import component_of
from arena_jax.runtime.devices import distribute, make_mesh
from arena_jax.training.build import Parts, build
from arena_jax.training.build_optimizer import schedules
from arena_jax.training.build_step import build_step
from arena_jax.training.objectives import head_positions
from arena_jax.transforms.freeze import without_frozen

LEAST_STEPS = 20  # of a training: below, a warm-up and a fall of the rate are no schedule any more
SCORED = 256  # rows that a training is scored on
TIMED = 5  # steps that are timed before lengths are decided


class Trainings(NamedTuple):
    """One model of a run, ready to be trained with any rates by one compiled program.

    Attributes:
        config: of a run with this model alone.
        name: of the model.
        parts: data, tokenizer and objective.
        initial: ``{seed: parameters}``.
        step: takes ``multipliers={part: number}`` with each update.
        mesh: of the devices.
        types: the parts that train.
        longest: steps of the run itself; None where it counts in epochs.
        epochs: of the run; 1 where it counts in neither.
        scored: validation batches.
    """

    config: RunConfig
    name: str
    parts: Parts
    initial: Mapping[int, Any]
    step: Any
    mesh: Any
    types: tuple[str, ...]
    longest: int | None
    epochs: int
    scored: Sequence[Mapping[str, Any]]

    def run(self, multipliers: Array, seed: int, steps: int) -> Any:
        """Train from the seed's weights on the seed's batches; returns the parameters.

        Args:
            multipliers: (types,), any scale: their geometric mean is brought to 1.
            seed: of weights, and of the order of the data.
            steps: of the training, over which the learning rate rises and falls.
        """
        scaled = np.asarray(multipliers, np.float32) / np.float32(geometric_mean(multipliers.tolist()))
        warmup = self.config.optimizer.resolved().warmup_steps or 0
        optimizer = replace(self.config.optimizer, warmup_steps=min(warmup, steps // 10))
        rates = distribute(schedules(replace(self.config, optimizer=optimizer), steps), self.mesh)
        extra = {
            "active": {self.name: np.True_},
            "learning_rates": rates,
            "multipliers": dict(zip(self.types, scaled, strict=True)),
        }
        rows = self.parts.train[self.name]
        streams = {self.name: data.training_batches(rows, seed=seed, padding=None)}
        sizes = {self.name: self.config.batch_size(self.name)}
        state = self.step.init({self.name: self.initial[seed]})
        for _ in range(steps):
            batches = data.next_batches(streams, sizes, self.step.accumulation, together=False)
            state, _ = self.step.run(state, self.step.place(batches), **extra)
        return jax.block_until_ready(state.params[self.name])

    def loss(self, params: Any) -> float:
        """Nats on validation rows, spread evenly over all."""
        sums = [self.step.evaluate(self.name, params, batch, i).sums for i, batch in enumerate(self.scored)]
        return float(sum(part["loss_sum"] for part in sums) / sum(part["count"] for part in sums))

    @property
    def step_flops(self) -> float:
        """Operations of one step, where all rows are as long as they may be."""
        network, length = self.parts.models[self.name], self.parts.train[self.name].lengths[-1]
        positions = head_positions(network.task, length)
        row = models.training_flops(network.config.replace(remat="none"), network.task, length, positions)
        return row * self.config.batch_size(self.name)


def prepare(config: RunConfig, model: str | None, seeds: Sequence[int]) -> Trainings:
    """Build one model of a run, and its step.

    Args:
        config: of the run.
        model: its name; None: the first.
        seeds: of the trainings.

    Raises:
        ArenaError: no such model, one that begins with another, or data that do not fit.
    """
    description = config.model(model) if model else config.models[0]
    name, start = description.name, description.start
    if start is not None:
        raise ArenaError(f"model '{name}' starts with {start}: rates are learned for a model by itself")
    # A link of ones, whose numbers then come with each update: one program for all profiles.
    optimizer = replace(config.optimizer, component_rates=(("norms", (1.0,)),), weights_follow="none")
    alone = replace(
        config,
        models=(replace(description, component_rates=()),),
        optimizer=optimizer,
        training=replace(config.training, steps=config.training.steps or LEAST_STEPS, epochs=None),
        arena=None,
    )
    by_seed = {seed: build(replace(alone, training=replace(alone.training, seed=seed))) for seed in seeds}
    parts, mesh = by_seed[seeds[0]], make_mesh(config.training.devices, shard=config.training.shard == "parameters")
    accumulation = {name: alone.accumulation(name)}
    step = build_step(alone, parts.models, parts.objectives, mesh=mesh, accumulation=accumulation)
    initial = {seed: models.split(built.models[name])[1] for seed, built in by_seed.items()}
    trained = without_frozen(config.optimizer.freeze, {name: initial[seeds[0]]})
    present = transforms.component_multipliers(component_of, {name: {"norms": 1.0}}, trained)[name]
    return Trainings(
        alone,
        name,
        parts,
        initial,
        step,
        mesh,
        tuple(part for part in TYPES if part in present),
        config.training.steps,
        config.training.epochs or 1,
        _scored(parts.validation[name], alone.training.evaluation_batch_size, mesh.size),
    )


def _scored(rows: data.Encoded, batch_size: int, devices: int) -> list[Mapping[str, Any]]:
    """About `SCORED` rows, spread evenly over the set, in batches of one shape that the devices divide."""
    count = min(SCORED, len(rows))
    size = -(-min(batch_size, count) // devices) * devices
    indices = np.linspace(0, len(rows) - 1, max(1, count // size) * size).astype(np.int64)
    length = rows.padded_length(indices)
    return [rows.batch(part, length) for part in indices.reshape(-1, size)]


def learn_rates(
    config: RunConfig,
    *,
    model: str | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    seeds: int = 2,
    rounds: int = 1,
    actions: Sequence[float] = (0.5, 1.0, 2.0),
    tell: Callable[[str], Any] = lambda text: None,
) -> dict[str, Any]:
    """Learn rates by part for a model of a run by best responses.

    Each profile is a full short training with each seed; see `learn_protocol` for what is tried and accepted. A
    training is as long as the time allows, at most as the run itself.

    Args:
        config: of the run; its learning rate stays as it is.
        model: which of its models; the first if not given. It trains alone.
        seconds: that the search may take; beside it the program is compiled.
        steps: of each training, instead of a time: the search then repeats to the bit.
        seeds: how many, of weights and data order.
        rounds: of best responses after the one-by-one changes, at most.
        actions: what a part may multiply its rate by.
        tell: is called with a line for each thing that happens.

    Returns:
        What a file holds, as JSON holds it: ``component_rates`` ({part: number}, scaled to a geometric mean of 1) and
        ``learned``: on what, how, what it gained, and what it cost.

    Raises:
        ArenaError: neither or both of a time and a length, a time too short, or a model that cannot be trained.
    """
    if (seconds is None) == (steps is None):
        raise ArenaError("give either a time to spend or the steps of each training, one of the two")
    numbers = tuple(range(seeds))
    if not numbers:
        raise ArenaError(f"seeds is {seeds}; give at least 1")
    began = time.perf_counter()
    trainings = prepare(config, model, numbers)
    ones = np.ones(len(trainings.types))
    trainings.loss(trainings.run(ones, 0, 1))  # compiles
    compiled = time.perf_counter()
    changes = len(trainings.types) * (len(actions) - 1)
    most = (2 + changes * (1 + rounds)) * seeds
    if steps is None:
        assert seconds is not None
        steps = _affordable_steps(trainings, seconds, most)
    tell(
        f"{trainings.name}: {len(trainings.types)} parts, at most {most} trainings of {steps} steps; "
        f"compiled in {compiled - began:.0f} s"
    )
    count = 0

    def payoff(profile: Array, seed: int) -> float:
        nonlocal count
        count += 1
        return -trainings.loss(trainings.run(profile, seed, steps))

    protocol = learn_protocol(payoff, trainings.types, actions=actions, seeds=numbers, rounds=rounds, log=tell)
    tell(str(protocol))
    searched = time.perf_counter() - compiled
    return _content(trainings, protocol, steps, count, searched, compiled - began)


def _affordable_steps(trainings: Trainings, seconds: float, most: int) -> int:
    """How long each training may be, from how long a few steps and a score take."""
    ones = np.ones(len(trainings.types))
    begin = time.perf_counter()
    params = trainings.run(ones, 0, TIMED)
    stepped = time.perf_counter()
    trainings.loss(params)
    scored = time.perf_counter() - stepped
    each = (stepped - begin) / TIMED
    affordable = int((seconds / most - scored) / each)
    if affordable < LEAST_STEPS:
        needed = most * (scored + LEAST_STEPS * each)
        raise ArenaError(
            f"{seconds:g} s allow {max(0, affordable)} steps in each of up to {most} trainings, and {LEAST_STEPS} are "
            f"the least that says anything: give {needed:.0f}s or more, fewer seeds or a smaller model"
        )
    epoch = max(1, len(trainings.parts.train[trainings.name]) // trainings.config.batch_size(trainings.name))
    return min(affordable, max(LEAST_STEPS, trainings.longest or trainings.epochs * epoch))


def _content(
    trainings: Trainings, protocol: Protocol, steps: int, count: int, searched: float, compiled: float
) -> dict[str, Any]:
    multipliers = protocol.multipliers / geometric_mean(protocol.multipliers.tolist())
    network = trainings.parts.models[trainings.name]
    config = trainings.config
    errors = [[None if np.isnan(error) else error for error in row] for row in protocol.effect_errors.tolist()]
    return {
        "component_rates": dict(zip(trainings.types, multipliers.tolist(), strict=True)),
        "learned": {
            "on": {
                "model": plain(config.models[0]) | {"component_rates": {}},
                "family": network.config.family,
                "parameters": models.count_parameters(trainings.initial[0]),
                "task": config.task,
                "data": config.data.name,
            },
            "by": "best responses",
            "steps": steps,
            "batch_size": config.batch_size(trainings.name),
            "learning_rate": config.models[0].learning_rate or config.optimizer.learning_rate,
            "optimizer": config.optimizer.inner,
            "seeds": len(trainings.initial),
            "actions": list(protocol.actions),
            "gain": protocol.gain,
            "settled": protocol.settled,
            "effects": protocol.effects.tolist(),
            "effect_errors": errors,
            "path": [list(change) for change in protocol.path],
            "cost": {
                "trainings": count,
                "seconds": round(searched, 1),
                "seconds_compiling": round(compiled, 1),
                "flops": count * steps * trainings.step_flops,
            },
            "date": datetime.date.today().isoformat(),
            "version": arena_jax.__version__,
        },
    }
