"""The state of a competition between two rounds, and what follows from it: pure functions of setup and state."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from arena_jax import data, models
from arena_jax.arena import history as histories
from arena_jax.arena.accounts import Account
from arena_jax.arena.history import History
from arena_jax.arena.noise import GradientNoise
from arena_jax.arena.rates import learning_rate as rate_of_next_step
from arena_jax.arena.setup import Setup, microbatches
from arena_jax.arena.specialization import Domains, data_parts
from arena_jax.arena.step_times import StepTimes
from arena_jax.data.domains import DomainBatches
from arena_jax.runtime.batch_search import BatchChoice
from arena_jax.training.metric_window import MetricWindow
from arena_jax.training.objectives import head_positions
from arena_jax.training.shapes import shapes_of
from arena_jax.training.state import TrainState


class PendingSize(NamedTuple):
    """A batch size on its way.

    Attributes:
        search: for it.
        memory: bytes per device that it is for.
        most: the largest size that helps; None: whatever fits.
        due: the round it takes over at, if its program is ready.
        late: rounds by which it has been deferred.
        overtaken: searches for this model, one after the other, that a reallocation, or memory that ran out, has
            overtaken before this one.
    """

    search: Future[BatchChoice]
    memory: float
    due: int
    most: int | None = None
    late: int = 0
    overtaken: int = 0


@dataclass
class State:
    """Everything that changes from round to round.

    Attributes:
        train: parameters and optimizer state of all models.
        gradients: ``{model: gradient}`` of its last step; zeros before the first.
        streams: ``{model: batches}``, where each model is in its data.
        shares: [models], float64, summing to 1: the parts of `Executables.pool` that the models' steps may take.
        sizes: ``{model: batch size}`` in force, per device.
        first_rows: ``{model: examples of a step}`` at the run's first batch size.
        pending: ``{model: batch size on its way}``.
        deferred: changes of batch size that came late, and searches for one that were abandoned.
        accounts: ``{model: what it has cost}``.
        times: what programs take.
        history: every evaluation so far.
        metrics: ``{model: {metric: value}}`` of the last evaluation.
        judgement: of the last evaluation by the objective: its value, and what it comes from.
        evaluation_batches: that an evaluation takes; None: all.
        lesson_sizes: ``{model: batch size of its lessons}``, per device; empty where nobody teaches.
        lessons_over: whether a teacher has diverged, so that nobody learns from the others any more.
        domains: scores and shares by domain; None where there is one alone.
        division: [domains, models], the shares of each domain in force; None as well.
        domain_metrics: ``{domain: {model: {metric: value}}}`` of the last evaluation.
        noise: ``{model: gradient noise measured at reallocations}``.
        resized: ``{model: evaluations that there were when its shape changed}``.
        mixture_compiled: whether this process has scored the ensemble before; a resumed run has not.
        window: metrics since the last printed line.
        stepping: the models that took part in the last update.
    """

    train: TrainState
    gradients: dict[str, Any]
    streams: dict[str, data.Batches | DomainBatches]
    shares: np.ndarray
    sizes: dict[str, int]
    first_rows: dict[str, int]
    accounts: dict[str, Account]
    history: History
    pending: dict[str, PendingSize] = field(default_factory=dict)
    deferred: int = 0
    times: StepTimes = field(default_factory=StepTimes)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    judgement: dict[str, Any] = field(default_factory=dict)
    evaluation_batches: int | None = None
    lesson_sizes: dict[str, int] = field(default_factory=dict)
    lessons_over: bool = False
    domains: Domains | None = None
    division: np.ndarray | None = None
    domain_metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    noise: dict[str, GradientNoise] = field(default_factory=dict)
    resized: dict[str, int] = field(default_factory=dict)
    mixture_compiled: bool = False
    window: MetricWindow = field(default_factory=MetricWindow)
    stepping: tuple[str, ...] = ()


def first_state(setup: Setup, train: TrainState) -> State:
    """The state before the first round: equal shares, and no batch size yet.

    Args:
        setup: of the competition.
        train: parameters and optimizer state.

    Returns:
        The state.
    """
    count, domains = len(setup.names), next(iter(setup.parts.domains.values()), {})
    seed = setup.config.training.seed
    return State(
        train=train,
        gradients={},
        # Every process draws whole batches, and pays for them: so all see the same accounts. Each feeds its own rows.
        streams={name: _stream(setup, name, seed) for name in setup.parts.train},
        shares=np.full(count, 1 / count),
        sizes={},
        first_rows={},
        accounts={name: Account() for name in setup.names},
        history=histories.empty(count),
        division=np.full((len(domains), count), 1 / count) if domains else None,
    )


def _stream(setup: Setup, name: str, seed: int) -> data.Batches | DomainBatches:
    rows, domains = setup.parts.train[name], setup.parts.domains.get(name)
    if domains is None:
        return data.Batches(rows, seed=seed, padding=None)
    return DomainBatches(rows, {domain: splits["train"] for domain, splits in domains.items()}, seed=seed)


def set_division(setup: Setup, state: State, division: np.ndarray) -> None:
    """Divide every domain anew: memory and rows follow.

    Args:
        setup: of the competition.
        state: its ``shares`` and its streams' parts change.
        division: [domains, models], a domain's shares summing to 1.
    """
    state.division, state.shares = division, division.mean(0)
    for name, parts in zip(setup.names, data_parts(division).T, strict=True):
        stream = state.streams[name]
        assert isinstance(stream, DomainBatches)
        stream.parts = parts


# ---- how long it lasts ----


def fraction(setup: Setup, state: State, rounds: int) -> float:
    """The part of the run's budget that is used: of its rounds, or of what it may spend."""
    if setup.spend is None:
        assert setup.rounds is not None
        return rounds / setup.rounds
    spent = sum(getattr(account, setup.spend.of) for account in state.accounts.values())
    return min(1.0, spent / setup.spend.amount)


def is_over(setup: Setup, state: State, rounds: int) -> bool:
    """Whether the run has had all its rounds, or spent what it may."""
    return fraction(setup, state, rounds) >= 1


# ---- what a share means ----


def step_microbatches(setup: Setup, state: State, name: str, size: int | None = None) -> int:
    """The microbatches that make a model's next step, at its batch size or another."""
    return microbatches(setup.config, setup.mesh.size, name, size or state.sizes[name])


def step_rows(setup: Setup, state: State, name: str, size: int | None = None) -> int:
    """The examples of a model's next step, over all devices, at its batch size or another."""
    return (size or state.sizes[name]) * setup.mesh.size * step_microbatches(setup, state, name, size)


def largest_size(setup: Setup, state: State, name: str) -> int | None:
    """The largest batch size whose step has no more examples than help; None where nothing bounds it.

    Never fewer than the run's own batch: the noise scale says how far a batch is raised, and does not shrink what
    was asked for.
    """
    noise = state.noise.get(name)
    if noise is None or not np.isfinite(noise.scale):
        return None
    cap = max(noise.scale, setup.config.batch_size(name))
    sizes = [size for size in setup.arena.batch_sizes if step_rows(setup, state, name, size) <= cap]
    return max(sizes, default=setup.arena.batch_sizes[0])


def learning_rate(setup: Setup, state: State, name: str, rounds: int, rows: int | None = None) -> float:
    """The learning rate of a model's next step, of so many examples; of its share's if None."""
    optimizer = setup.optimizer
    assert optimizer.warmup_steps is not None
    assert optimizer.decay is not None
    return rate_of_next_step(
        setup.config.model(name).learning_rate or optimizer.learning_rate,
        steps=state.accounts[name].steps,
        fraction=fraction(setup, state, rounds),
        warmup_steps=optimizer.warmup_steps,
        decay=optimizer.decay,
        batch_ratio=(rows or step_rows(setup, state, name)) / state.first_rows[name],
        follows=setup.arena.rate_follows,
    )


def share_bytes(setup: Setup, state: State, name: str) -> float:
    """The bytes per device that a model's share allows its steps, beside what is resident."""
    return float(state.shares[setup.names.index(name)]) * setup.executables.pool


# ---- what it costs, and how far it is ----


def row_flops(setup: Setup, name: str, length: int) -> float:
    """The operations of an example's gradient, at a length in tokens."""
    model = setup.parts.models[name]
    return models.training_flops(model.config, model.task, length, head_positions(model.task, length))


def price(setup: Setup, state: State, name: str) -> float:
    """What policies take for a model's cost: device-seconds, or 10¹² operations."""
    account = state.accounts[name]
    # In 10¹² operations, so that the numbers are near those of seconds.
    return account.seconds if setup.arena.price == "seconds" else account.flops / 1e12


def epoch(state: State) -> float:
    """Passes over the data of the model that has seen the most."""
    return max(stream.examples_seen / len(stream.rows) for stream in state.streams.values())


# ---- stopping and going on ----


def to_position(setup: Setup, state: State) -> dict[str, Any]:
    """Everything beside the arrays that a resumed run needs, as JSON."""
    return {
        "streams": {name: stream.state() for name, stream in state.streams.items()},
        "window": state.window.state(),
        "accounts": {name: account.to_json() for name, account in state.accounts.items()},
        "shares": state.shares.tolist(),
        "sizes": state.sizes,
        "first_rows": state.first_rows,
        "pending": {
            name: {key: value for key, value in pending._asdict().items() if key != "search"}
            for name, pending in state.pending.items()
        },
        "deferred": state.deferred,
        "history": {
            name: None if rows is None else np.asarray(rows).tolist() for name, rows in state.history._asdict().items()
        },
        "metrics": state.metrics,
        "judgement": state.judgement,
        "domains": state.domains and {key: value.tolist() for key, value in state.domains._asdict().items()},
        "division": None if state.division is None else state.division.tolist(),
        "evaluation_batches": state.evaluation_batches,
        "lesson_sizes": state.lesson_sizes,
        "lessons_over": state.lessons_over,
        "noise": {name: noise._asdict() for name, noise in state.noise.items()},
        "resized": state.resized,
        "shapes": shapes_of(setup.parts.models),
        "executables": setup.executables.state(),
        "policy": setup.policy_name,
    }


def from_position(state: State, position: Mapping[str, Any]) -> None:
    """Put a state where :func:`to_position` left it, but for programs and searches.

    Args:
        state: from :func:`first_state`; it is changed.
        position: of the checkpoint.
    """
    for name, stream in state.streams.items():
        stream.restore(position["streams"][name])
    state.window = MetricWindow(position["window"])
    state.accounts = {name: Account(**fields) for name, fields in position["accounts"].items()}
    state.shares = np.array(position["shares"])
    state.sizes, state.first_rows = dict(position["sizes"]), dict(position["first_rows"])
    state.deferred = position["deferred"]
    arrays: dict[str, Any] = {
        name: None if rows is None else np.array(rows) for name, rows in position["history"].items()
    }
    state.history = History(**arrays)
    state.metrics = position["metrics"]
    state.judgement = position.get("judgement", {})  # of earlier versions: none
    state.evaluation_batches = position.get("evaluation_batches")
    state.resized = dict(position.get("resized", {}))
    if position.get("domains"):
        state.domains = Domains(**{key: np.array(value) for key, value in position["domains"].items()})
        state.division = np.array(position["division"])
    state.lesson_sizes = dict(position.get("lesson_sizes", {}))
    state.lessons_over = position.get("lessons_over", False)
    state.noise = {name: GradientNoise(**fields) for name, fields in position.get("noise", {}).items()}
