"""What a result cost: device-seconds and matrix products of joint training, and of each model by itself.

A model by itself trains until it arrives, on a device of its own or after the one before it. How many steps that takes
is in the result; what a step takes is measured here, the steps of all taking turns in one process.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from arena_jax import data, models
from arena_jax.compare.curve import outcome_of
from arena_jax.compare.paired import Paired, ratio
from arena_jax.compare.plan import Outcome, Plan
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import distribute, make_mesh
from arena_jax.runtime.products import product_flops
from arena_jax.training.build import Parts, build
from arena_jax.training.build_optimizer import schedules
from arena_jax.training.build_step import build_step
from arena_jax.training.model_weights import ModelWeights
from arena_jax.training.objectives import head_positions

ROUNDS = 30


class StepCost(NamedTuple):
    """One step of several models, or of one.

    Attributes:
        seconds: on one device, by round.
        counted: operations of its matrix products, from the models' shapes.
        measured: of all products in the step's program, those of what is shared, too.
    """

    seconds: list[float]
    counted: float
    measured: float

    @property
    def median(self) -> float:
        """Seconds of the median round."""
        return statistics.median(self.seconds)


class Way(NamedTuple):
    """One way of training all models, by seed; infinite where a model never arrives.

    Attributes:
        name: the arm, or how the baseline's models train by themselves.
        elapsed: seconds until the last model has arrived.
        device_seconds: of all devices until then: a device is held until all have arrived.
        products: operations of matrix products.
    """

    name: str
    elapsed: list[float]
    device_seconds: list[float]
    products: list[float]


class Cost(NamedTuple):
    """What a result cost.

    Attributes:
        steps: ``{arm, or "baseline, model": cost of a step}``.
        ways: joint arms first, then the baseline's models in parallel and in sequence.
        ratios: ``{(joint arm, other way): {"elapsed", "device_seconds" or "products": arm / other}}``, paired by seed.
    """

    steps: dict[str, StepCost]
    ways: list[Way]
    ratios: dict[tuple[str, str], dict[str, Paired]]


def cost(plan: Plan, result: Mapping[str, Any], *, rounds: int = ROUNDS) -> Cost:
    """Measure the steps of a result's arms, and of the baseline's models each alone.

    Args:
        plan: of the result.
        result: as `arena_jax.compare.results` gives it.
        rounds: in which each step is timed once.

    Returns:
        What they cost to the plan's target, or in all the steps that they took where the plan has none.

    Raises:
        ArenaError: a competition, an arm with a training function of its own, one that teaches, a relay, models that
            change their shape, a baseline whose models share, a single model, or a target of other than the worst.
    """
    if plan.outcome.target is not None and plan.outcome.over != "worst":
        raise ArenaError(
            f"the target is of the models' {plan.outcome.over}, which arrives with others behind it, and a model by"
            ' itself arrives when it is there: cost needs a plan with outcome.over "worst"'
        )
    configs = {arm.name: plan.config(arm.name, _settings(result, arm.name), plan.seeds[0]) for arm in plan.arms}
    for arm in plan.arms:
        _check(arm.name, configs[arm.name], trains_itself=bool(arm.train))
    baseline = configs[plan.baseline]
    optimizer = baseline.optimizer.resolved()
    if optimizer.share_alpha or optimizer.synchronize_beta:
        raise ArenaError(f"the models of the baseline '{plan.baseline}' share: this result has none that learn alone")
    steps = measure_steps(configs, plan.baseline, rounds)
    return of_steps(plan, result["cells"], steps)


def _settings(result: Mapping[str, Any], arm: str) -> dict[str, Any]:
    return dict((result["tuning"].get(arm) or {}).get("settings", {}))


def _check(name: str, config: RunConfig, *, trains_itself: bool) -> None:
    for wrong, why in (
        (config.arena is not None, "is a competition, which counts its device-seconds itself"),
        (trains_itself, "has a training function of its own"),
        (config.together.relay is not None, "is a relay: its steps are those of two runs, of some models each"),
        (config.together.teaches, "teaches: its steps are not alike"),
        (any(model.resize for model in config.models), "changes models' shapes: its steps are not alike"),
        (len(config.models) < 2, "has one model"),
    ):
        if wrong:
            raise ArenaError(f"the arm '{name}' {why}; cost measures joint training of several models")


# ---- steps ----


def measure_steps(configs: Mapping[str, RunConfig], baseline: str, rounds: int) -> dict[str, StepCost]:
    """Time one step of each arm, and of each of the baseline's models alone; all take turns."""
    takers: dict[str, Callable[[], Any]] = {}
    counts: dict[str, tuple[float, float]] = {}
    for name, config in configs.items():
        with tempfile.TemporaryDirectory() as folder:
            parts = build(config, Path(folder))
        takers[name], counts[name] = _stepper(config, parts)
        for model in config.models if name == baseline else ():
            single = dataclasses.replace(config, models=(model,))
            alone = f"{name}, {model.name}"
            takers[alone], counts[alone] = _stepper(single, _only(parts, model.name))
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for turn in range(rounds + 2):  # the first two warm up
        for name, take in takers.items():
            began = time.perf_counter()
            take()
            if turn > 1:
                seconds[name].append(time.perf_counter() - began)
    return {name: StepCost(seconds[name], *counts[name]) for name in takers}


def _only(parts: Parts, name: str) -> Parts:
    """The parts of one model."""
    sections: dict[str, Any] = {
        field: {name: of[name]} if isinstance(of, dict) and of else of for field, of in parts._asdict().items()
    }
    return Parts(**sections)


def _stepper(config: RunConfig, parts: Parts) -> tuple[Callable[[], Any], tuple[float, float]]:
    """A function that takes a step on rows that are there and waits for it; and its products, counted and measured."""
    mesh = make_mesh(1)
    accumulation = {model.name: config.accumulation(model.name) for model in config.models}
    step = build_step(config, parts.models, parts.objectives, mesh=mesh, accumulation=accumulation)
    padding = data.common_padding(parts.train)
    streams = {
        name: data.training_batches(rows, seed=config.training.seed, padding=padding)
        for name, rows in parts.train.items()
    }
    sizes = {name: config.batch_size(name) for name in streams}
    batches = data.next_batches(streams, sizes, accumulation, together=padding is not None)
    extra = {
        "active": dict.fromkeys(sorted(streams), np.bool_(True)),
        "learning_rates": distribute(schedules(config, total_steps=config.training.steps or 1000), mesh),
        **ModelWeights(config, None).arguments(),
    }
    placed, state = step.place(batches), [step.init()]

    def take() -> None:
        state[0], _ = step.run(state[0], placed, **extra)
        jax.block_until_ready(state[0])

    counted = 0.0
    for name, batch in batches.items():
        rows, length = math.prod(batch["input_ids"].shape[:-1]), batch["input_ids"].shape[-1]
        network = parts.models[name]
        positions = head_positions(network.task, length)
        counted += rows * models.training_flops(network.config, network.task, length, positions)
    program = jax.make_jaxpr(lambda *arguments: step.whole(*arguments))(state[0], placed, step.keys, extra)
    return take, (counted, product_flops(program.jaxpr))


# ---- ways ----


def of_steps(plan: Plan, cells: Mapping[str, Sequence[Mapping[str, Any]]], steps: Mapping[str, StepCost]) -> Cost:
    """What every way costs, from its steps and what one takes.

    Args:
        plan: of the study.
        cells: ``{arm: its final records, in the order of the plan's seeds}``.
        steps: as `measure_steps` gives them.

    Returns:
        Steps, ways, and ratios of each joint arm to the ways of the baseline.
    """
    joint = []
    for arm in plan.arms:
        counts, step = [_steps(record, plan.outcome) for record in cells[arm.name]], steps[arm.name]
        seconds = [count * step.median for count in counts]
        joint.append(Way(arm.name, seconds, seconds, [count * step.measured for count in counts]))
    prefix = f"{plan.baseline}, "
    alone = {name.removeprefix(prefix): step for name, step in steps.items() if name.startswith(prefix)}
    lasted: list[list[float]] = []  # by seed, then by model
    products: list[float] = []
    for record in cells[plan.baseline]:
        counts_by_model = {name: _steps(record, plan.outcome, name) for name in alone}
        lasted.append([counts_by_model[name] * step.median for name, step in alone.items()])
        products.append(math.fsum(counts_by_model[name] * step.measured for name, step in alone.items()))
    spent, longest = [sum(by_model) for by_model in lasted], [max(by_model) for by_model in lasted]
    parallel = Way(f"{plan.baseline}, in parallel", longest, [len(alone) * seconds for seconds in longest], products)
    sequential = Way(f"{plan.baseline}, in sequence", spent, spent, products)
    fields = ("elapsed", "device_seconds", "products")
    ratios = {
        (way.name, other.name): {field: ratio(getattr(way, field), getattr(other, field)) for field in fields}
        for way in joint
        if way.name != plan.baseline
        for other in (parallel, sequential)
    }
    return Cost(dict(steps), [*joint, parallel, sequential], ratios)


def _steps(record: Mapping[str, Any], outcome: Outcome, model: str | None = None) -> float:
    """The steps that a run took to the target, of all its models or of one; all of its steps where there is none."""
    if outcome.target is None:
        return float(record["steps"])
    to_target = dataclasses.replace(outcome, kind="steps", compiling=False, over=model or outcome.over)
    steps = outcome_of(record["status"], record["curve"], to_target)
    return math.nan if steps is None else float(steps)
