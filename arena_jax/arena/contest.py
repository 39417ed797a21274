"""What a competition stands on: its models, its memory, what a share of it means, and each model's account."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from arena_jax import data, models
from arena_jax.arena import history as past
from arena_jax.arena import policies
from arena_jax.arena.allocation import accumulation_steps
from arena_jax.arena.pace import Pace
from arena_jax.arena.rates import learning_rate
from arena_jax.arena.spending import Spending
from arena_jax.config import ArenaConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.units import parse_spend
from arena_jax.runs.checkpoints import COPIES
from arena_jax.runtime import processes
from arena_jax.runtime.batch_search import BatchChoice as Choice
from arena_jax.runtime.devices import make_mesh
from arena_jax.runtime.executables import Executables
from arena_jax.runtime.memory import device_limit, format_bytes, parse_bytes, tree_bytes
from arena_jax.training.build import Parts, build_parts
from arena_jax.training.build_optimizer import build_optimizer, learning_rate_metrics
from arena_jax.training.objectives import head_positions
from arena_jax.training.step import make_step


class Pending(NamedTuple):
    """A batch size on its way.

    Attributes:
        choice: the search for it.
        memory: bytes per device that it is for.
        due: the round it takes over at, if its program is ready.
        late: rounds by which it has been deferred.
        overtaken: searches for this model, one after the other, that a reallocation has overtaken before this one.
    """

    choice: Future[Choice]
    memory: float
    due: int
    late: int = 0
    overtaken: int = 0


def check_repeatable(arena: ArenaConfig) -> None:
    """Refuse what hangs on a clock where several processes must decide alike.

    Raises:
        ArenaError: costs or the length of the run are measured.
    """
    if not processes.several():
        return
    measured = {
        "--price seconds (give flops)": arena.price == "seconds",
        "--spend in seconds (give TFLOP)": arena.spend is not None and parse_spend(arena.spend).of == "seconds",
    }
    for option, given in measured.items():
        if given:
            raise ArenaError(f"a competition of several processes cannot go by the clock, as with {option}")


class Contest:
    """The models of a run and what they hold; `arena_jax.arena.competition` sets it in motion.

    Args:
        config: of the run.
        arena: its competition's section.
        folder: of the run.
        policy: instead of the configuration's.

    Raises:
        ArenaError: data and models do not fit each other, or the budget does not hold what is always there.
    """

    def __init__(
        self,
        config: RunConfig,
        arena: ArenaConfig,
        folder: Path,
        policy: policies.Policy | None,
        *,
        resume: bool = False,
    ) -> None:
        self.config, self.arena, self.folder = config, arena, folder
        self.spend = parse_spend(arena.spend) if arena.spend else None
        self.rounds = config.training.steps
        self.began = time.perf_counter()

        # ---- data and models ----
        self.parts: Parts = build_parts(config, folder)
        wanted = config.training
        # Every process draws whole batches, and pays for them: so all see the same accounts. Each feeds its own rows.
        self.streams = {
            name: data.Batches(rows, seed=wanted.seed, padding=None) for name, rows in self.parts.train.items()
        }

        # ---- devices, optimizer, step ----
        self.mesh = make_mesh(wanted.devices)
        optimizer = build_optimizer(config, None)  # its rates come from outside
        self.step = make_step(
            self.parts.models,
            optimizer,
            self.parts.objectives,
            mesh=self.mesh,
            seed=wanted.seed,
            gradient_norms=True,
            skip_nonfinite=True,
            report=learning_rate_metrics,
        )
        self.names = self.step.names
        self.state = self.step.init()
        self.parameters = {name: sum(p.size for p in jax.tree.leaves(self.state.params[name])) for name in self.names}

        # ---- memory ----
        with processes.together():
            budget = parse_bytes(arena.memory_budget, self.mesh.local_devices[0])
        self.budget = min(processes.gather(budget))
        gradients = self.state.params
        self.resident = tree_bytes(self.state) + tree_bytes(gradients)
        if self.resident >= self.budget:
            raise ArenaError(
                f"the budget of {format_bytes(self.budget)} does not hold what is always there, "
                f"{format_bytes(self.resident)}: parameters, gradients and optimizer states of {len(self.names)} "
                "models; raise --memory-budget or train fewer models"
            )
        self.executables = Executables(
            {name: functools.partial(self.step.measured_gradients, name) for name in self.names},
            self.mesh,
            self.state.params,
            {name: rows.batch(np.zeros(1, np.int64), rows.lengths[-1]) for name, rows in self.parts.train.items()},
            sizes=arena.batch_sizes,
            microbatches=self.microbatches,
            budget=self.budget,
            resident=self.resident,
            margin=arena.memory_margin,
        )

        # ---- who has what ----
        if policy is not None and not callable(policy):
            raise ArenaError(
                f"policy {policy!r} is no function; give one from a history to shares, or name one in arena.policy"
            )
        self.policy = policy or policies.policy(arena.policy, **_policy_options(arena))
        ours = type(self.policy) is policies.POLICIES[arena.policy]
        self.policy_name = arena.policy if ours else getattr(self.policy, "__name__", type(self.policy).__name__)
        self.shares = np.full(len(self.names), 1 / len(self.names))
        self.sizes: dict[str, int] = {}
        self.first_rows: dict[str, int] = {}
        self.pending: dict[str, Pending] = {}
        self.deferred = 0  # changes of batch size that came late, and searches for one that were given up
        self.spent = {name: Spending() for name in self.names}
        self.pace = Pace()
        self.history: past.History | None = None
        self.last_scores: dict[str, dict[str, float]] = {}

    # ---- how long it lasts ----

    def fraction(self, at: int) -> float:
        """Say which part of the run's budget is used: of its rounds, or of what it may spend."""
        if self.spend is None:
            assert self.rounds is not None
            return at / self.rounds
        return min(1.0, sum(getattr(spent, self.spend.of) for spent in self.spent.values()) / self.spend.amount)

    def over(self, at: int) -> bool:
        """Tell whether the run has had all its rounds, or spent what it may."""
        return self.fraction(at) >= 1

    # ---- what a share means ----

    def microbatches(self, name: str, size: int) -> int:
        """Say how many microbatches make a step at a batch size."""
        wanted = self.config.training
        target = accumulation_steps(size * self.mesh.shape["data"], wanted.batch_size)
        return max(self.config.model(name).accumulation or wanted.accumulation, target)

    def rows(self, name: str) -> int:
        """Count the examples of a model's step, over all devices."""
        return self.sizes[name] * self.mesh.shape["data"] * self.microbatches(name, self.sizes[name])

    def rate(self, name: str, at: int) -> float:
        """Say the learning rate of a model's next step."""
        wanted = self.config.optimizer.resolved()
        assert wanted.warmup_steps is not None
        assert wanted.decay is not None
        return learning_rate(
            self.config.model(name).learning_rate or wanted.learning_rate,
            steps=self.spent[name].steps,
            fraction=self.fraction(at),
            warmup_steps=wanted.warmup_steps,
            decay=wanted.decay,
            batch_ratio=self.rows(name) / self.first_rows[name],
            follows=self.arena.rate_follows,
        )

    def flops(self, name: str, length: int) -> float:
        """Count the operations of a row's gradient, at a length in tokens."""
        model = self.parts.models[name]
        return models.training_flops(model.config, model.task, length, head_positions(model.task, length))

    def price(self, name: str) -> float:
        """Say what a policy is told that a model has cost."""
        # In 10¹² operations, so that the numbers are near those of seconds.
        return self.spent[name].seconds if self.arena.price == "seconds" else self.spent[name].flops / 1e12

    def losses(self) -> dict[str, float]:
        """The models' validation losses, as last evaluated."""
        return {name: scores["loss"] for name, scores in self.last_scores.items()}

    def epoch(self) -> float:
        """Passes over the data of the model that has seen the most."""
        return max(stream.examples_seen / len(stream.rows) for stream in self.streams.values())

    def held(self, name: str) -> dict[str, Any]:
        """Tell a model's batch size in force, and its programs."""
        size = self.sizes[name]
        return {
            "batch_size": size,
            "accumulation": self.microbatches(name, size),
            "memory": self.executables.step_bytes(name, size),
            "executables": len(self.executables.alive(name)),
            "evicted": self.executables.evicted[name],
        }

    def derived(self) -> list[tuple[str, str, str]]:
        """Every value that was not simply given, with its reason."""
        arena, device = self.arena, self.mesh.local_devices[0]
        rounds = arena.swap_rounds
        late = "waited for" if arena.late_swaps == "wait" else f"or {max(1, rounds)} more until they are compiled"
        swap = f"{rounds} rounds later, {late}"
        given = f"{arena.memory_budget} of {format_bytes(device_limit(device))}"
        return [
            ("devices", f"{self.mesh.shape['data']} × {device.device_kind}", "each holds the budget"),
            ("budget", format_bytes(self.budget), f"{given}; per device"),
            ("resident", format_bytes(self.resident), "parameters, gradients and optimizer states of all models"),
            ("to divide", format_bytes(self.budget - self.resident), "by shares, for steps beside that, and for code"),
            ("checkpoints", *self.checkpoint_memory()),
            ("policy", self.policy_name, f"asked every {arena.reallocate_every} rounds; new batch sizes {swap}"),
            (
                "length",
                f"{self.rounds} rounds" if self.rounds else str(arena.spend),
                "given" if self.rounds else "to be spent on all models together; learning rates fall with it",
            ),
            ("scores", f"every {self.config.training.evaluate_every} rounds", "given"),
        ]

    def checkpoint_memory(self) -> tuple[str, str]:
        """Say how much memory a checkpoint needs and where, and whether a CPU machine has it beside the budget."""
        device = self.mesh.local_devices[0]
        needs, limit = COPIES * tree_bytes(self.state), device_limit(device)
        told = "of the host's memory while one is written, beside the budget"
        if device.platform == "cpu" and self.budget + needs > limit:
            told += f": more than this machine's {format_bytes(limit)} in all, lower --memory-budget"
        return format_bytes(needs), told

    def accounted(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Add shares and accounts to what an interval says."""
        for name, share in zip(self.names, self.shares.tolist(), strict=True):
            said = {"share": share, "batch_size": self.sizes[name], **self.spent[name].told()}
            summary["models"].setdefault(name, {}).update(said)
        return summary

    def pay_for_updates(self, stepping: Sequence[str], seconds: float) -> None:
        """Charge one update of all models to those who step in it, by their sizes."""
        whole = sum(self.parameters[name] for name in stepping)
        for name in stepping:
            self.spent[name].seconds += seconds * self.parameters[name] / whole


def _policy_options(arena: ArenaConfig) -> dict[str, Any]:
    given = {"window": arena.progress_window, "smoothing": arena.smoothing, "floor": arena.floor}
    return {name: value for name, value in given.items() if value is not None}
