"""What a competition stands on and does not change: models, data, devices, memory, and who decides."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh

from arena_jax.arena import policies
from arena_jax.arena.allocation import accumulation_steps
from arena_jax.arena.predictor import Predictor
from arena_jax.config import ArenaConfig, OptimizerConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.objective import check_objective
from arena_jax.config.scores import SCORES
from arena_jax.config.units import Spend, parse_spend
from arena_jax.models.count_parameters import count_parameters
from arena_jax.runtime import memory, processes, program
from arena_jax.runtime.batch_search import Compile
from arena_jax.runtime.devices import make_mesh
from arena_jax.runtime.executables import Calibrate, Executables
from arena_jax.runtime.memory import device_bytes, format_bytes, parse_bytes
from arena_jax.training.build import Parts, build_parts
from arena_jax.training.build_step import build_step
from arena_jax.training.shapes import check_resizes
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step

Evaluate = Callable[..., dict[str, float]]
Moment = Literal["round", "step", "before swap", "after swap", "before reallocation", "after reallocation"]
# (moment, rounds taken, Setup, `arena_jax.arena.state.State`): to be looked at.
Observe = Callable[[Moment, int, Any, Any], None]


def ignore(moment: Moment, rounds: int, setup: Any, state: Any) -> None:
    """Observe nothing."""


@dataclass(frozen=True)
class Setup:
    """What a competition does not change, but for the models' shapes (`arena_jax.arena.resize`).

    Attributes:
        config: of the run.
        arena: its competition's section.
        optimizer: its optimizer's section, with nothing left open.
        parts: models, objectives, data.
        step: gradients, update and evaluation of the models.
        mesh: the devices.
        names: of the models, in the order of all arrays [models].
        parameters: ``{model: parameters}``, a count.
        budget: bytes per device of everything.
        executables: the programs of the models' gradients.
        spend: the length of the run by what it costs; None: by rounds.
        rounds: the length of the run; None: by what it costs.
        policy: from a history to shares.
        policy_name: for the records.
        evaluate: ``(step, parameters, model, rows, batch size) -> {metric: value}``, ``loss`` and the run's score among
            them; None: what the task is judged by, with a standard error.
        observe: ``(moment, rounds taken, setup, state)``, called before each ``"round"``, after each ``"step"``, and
            before and after batch sizes are swapped and memory is reallocated.
        compile_program: ``(function, *arguments) -> Program``.
    """

    config: RunConfig
    arena: ArenaConfig
    optimizer: OptimizerConfig
    parts: Parts
    step: Step
    mesh: Mesh
    names: tuple[str, ...]
    parameters: dict[str, int]
    budget: int
    executables: Executables
    spend: Spend | None
    rounds: int | None
    policy: policies.Policy
    policy_name: str
    evaluate: Evaluate | None
    observe: Observe
    compile_program: Compile

    @property
    def resident(self) -> int:
        """Bytes per device that are there whoever trains: parameters, gradients and optimizer states of all models.

        Shares divide the rest, see `Executables.pool`.
        """
        return self.executables.resident


def build_setup(
    config: RunConfig,
    folder: Path,
    *,
    policy: policies.Policy | None = None,
    evaluate: Evaluate | None = None,
    observe: Observe = ignore,
    compile_program: Compile = program.compile_program,
    calibrate: Calibrate = memory.calibrate,
    executor: Executor | None = None,
) -> tuple[Setup, TrainState]:
    """Build what a competition stands on.

    Args:
        config: of the run, with an ``arena`` section.
        folder: of the run; its tokenizers are in it.
        policy: instead of the configuration's.
        evaluate: see :class:`Setup`.
        observe: see :class:`Setup`.
        compile_program: see :class:`Setup`.
        calibrate: see `Executables`.
        executor: see `Executables`.

    Returns:
        The setup, and the parameters and optimizer state before the first step.

    Raises:
        ArenaError: data and models do not fit each other, or the budget does not hold what is always there.
    """
    arena, training = config.arena, config.training
    assert arena is not None

    # ---- data and models ----
    parts = build_parts(config, folder)
    check_resizes(config, parts.models, training.steps)
    check_objective(
        arena.objective,
        training.score,
        {name: model.task for name, model in parts.models.items()},
        {name: parts.tokenizers[name].left_out for name in parts.models},
    )

    # ---- devices, optimizer, step ----
    mesh = make_mesh(training.devices, shard=training.shard == "parameters")
    step = build_step(config, parts.models, parts.objectives, mesh=mesh)
    state = step.init()

    # ---- memory ----
    with processes.together():
        budget = parse_bytes(arena.memory_budget, mesh.local_devices[0])
    budget = min(processes.gather(budget))
    gradients = state.params
    resident = device_bytes(state, gradients)
    if resident >= budget:
        raise ArenaError(
            f"the budget of {format_bytes(budget)} does not hold what is always there, {format_bytes(resident)}: "
            f"parameters, gradients and optimizer states of {len(step.names)} models; raise --memory-budget or train "
            "fewer models"
        )
    executables = Executables(
        {name: functools.partial(step.measured_gradients, name) for name in step.names},
        step.keys,
        mesh,
        state.params,
        {name: rows.batch(np.zeros(1, np.int64), rows.lengths[-1]) for name, rows in parts.train.items()},
        sizes=arena.batch_sizes,
        microbatches=functools.partial(microbatches, config, mesh.size),
        budget=budget,
        resident=resident,
        margin=arena.memory_margin,
        compile_program=compile_program,
        calibrate=calibrate,
        executor=executor,
    )

    # ---- who decides ----
    policy, policy_name = _policy(arena, policy, training.score)
    setup = Setup(
        config=config,
        arena=arena,
        optimizer=config.optimizer.resolved(),
        parts=parts,
        step=step,
        mesh=mesh,
        names=step.names,
        parameters={name: count_parameters(state.params[name]) for name in step.names},
        budget=budget,
        executables=executables,
        spend=parse_spend(arena.spend) if arena.spend else None,
        rounds=training.steps,
        policy=policy,
        policy_name=policy_name,
        evaluate=evaluate,
        observe=observe,
        compile_program=compile_program,
    )
    return setup, state


def microbatches(config: RunConfig, devices: int, name: str, size: int) -> int:
    """The microbatches that make a step of a model at a batch size.

    Args:
        config: of the run; its effective batch and accumulation are the least.
        devices: how many there are.
        name: the model.
        size: its batch size, per device.

    Returns:
        k, at least 1.
    """
    return max(config.accumulation(name), accumulation_steps(size * devices, config.batch_size(name)))


def check_repeatable(arena: ArenaConfig) -> None:
    """Refuse what hangs on a clock where several processes must decide alike, and what they have not been tried with.

    Raises:
        ArenaError: costs or the length of the run are measured, or there are several domains.
    """
    if not processes.several():
        return
    if arena.domains:
        raise ArenaError("domains have not been tried with several processes: remove --domains")
    measured = {
        "--price seconds (give flops)": arena.price == "seconds",
        "--spend in seconds (give TFLOP)": arena.spend is not None and parse_spend(arena.spend).of == "seconds",
    }
    for option, is_measured in measured.items():
        if is_measured:
            raise ArenaError(f"a competition of several processes cannot go by the clock, as with {option}")


def policy_options(arena: ArenaConfig) -> dict[str, Any]:
    """The policy's parameters that the configuration sets, by the names of its fields."""
    options = {"window": arena.progress_window, "smoothing": arena.smoothing, "floor": arena.floor}
    parameters_set: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if arena.predictor:
        *weights, width = arena.predictor
        parameters_set["predictor"] = Predictor(tuple(weights), width)  # type: ignore[arg-type]
    return parameters_set


def _policy(arena: ArenaConfig, policy: policies.Policy | None, score: str) -> tuple[policies.Policy, str]:
    """The policy and its name: the configuration's, unless a function is handed over."""
    goal = None if arena.target is None else SCORES[score].sign * arena.target
    if policy is not None and not callable(policy):
        raise ArenaError(
            f"policy {policy!r} is no function; give one from a history to shares, or name one in arena.policy"
        )
    policy = policy or policies.policy_for(arena.policy, arena.objective, goal, **policy_options(arena))
    if type(policy) is policies.POLICIES[arena.policy]:
        return policy, arena.policy
    return policy, policies.name_of(policy)
