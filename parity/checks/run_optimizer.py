"""Layer 4, in a run: the optimizer that a run builds from its configuration, over a hundred steps.

The configuration goes through ``training.build_optimizer``, the function that ``arena-jax train`` calls. What it should
mean is written out here by hand, as the reference's arguments. Compared after every step: every parameter, and the
learning rates that the run would report.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from arena_jax import transforms
from arena_jax.arena.rates import learning_rate
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.training.build_optimizer import build_optimizer, learning_rate_metrics, schedules
from arena_jax.training.model_weights import ModelWeights
from parity.case import precision
from parity.ensemble import WEIGHTS, ensemble
from parity.measure import Measurement, compare
from parity.names import our_place
from parity.reference import algorithms
from parity.reference.multi_model_optimizer import MultiModelOptimizer
from parity.reference.parameters import Parameter
from parity.registry import ALL, Check

STEPS = 100
RATES = {"bert": 0.01, "gpt2": 0.004, "roberta": 0.01}  # GPT-2's is its own, the others' the run's


@functools.cache
def _role(family: str, name: str) -> str:
    return "/".join(our_place(family, name)[0])


def role_and_shape(name: str, p: Parameter) -> Hashable:
    """What the default form pools: parameters of one name and shape, in whatever layer and model."""
    return _role(name, p.name), tuple(p.data.shape)


def attention_apart(name: str, p: Parameter) -> Hashable:
    """The same, with every kernel of attention in a group of its own."""
    role = _role(name, p.name)
    alone = "/attention/" in f"/{role}/" and role.endswith("kernel")
    return (name, p.name) if alone else role_and_shape(name, p)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A configuration's optimizer, and what the reference is told instead."""

    config: OptimizerConfig
    reference: dict[str, Any]


OPEN = {"learning_rate": 0.01, "warmup_steps": 12, "epsilon": 1e-4}
DEFAULT: dict[str, Any] = {"mode": "default", "clip": 1.0, "key": role_and_shape, "window": None, "weight_decay": 0.01}
PAPER: dict[str, Any] = {"mode": "paper", "weight_decay": 0.01}
PUBLISHED: dict[str, Any] = {"mode": "published-code", "window": None, "sync_every": None, "weight_decay": 0.0}
PUBLISHED["total"] = 88  # the published horizon counts from the end of the warm-up
VARIANTS = {
    "default": Variant(OptimizerConfig(**OPEN), DEFAULT),
    "default, everything given": Variant(
        OptimizerConfig(
            **OPEN, b1=0.8, b2=0.97, amsgrad=True, weight_decay=0.05, max_gradient_norm=0.7, decay="linear",
            share_alpha=0.3, share_every=2, synchronize_beta=0.2, synchronize_every=7, convergence_window=9,
            convergence_slope="signed", correspondence="by_kind",
        ),
        {**DEFAULT, "betas": (0.8, 0.97), "amsgrad": True, "weight_decay": 0.05, "clip": 0.7, "decay": "linear",
         "alpha": 0.3, "share_every": 2, "beta": 0.2, "sync_every": 7, "window": 9, "slope": "signed",
         "key": algorithms.type_and_shape},
    ),
    "default, studentized": Variant(
        OptimizerConfig(**OPEN, convergence_window=20, convergence_slope="studentized"),
        {**DEFAULT, "window": 20, "slope": "studentized"},
    ),
    "default, attention apart": Variant(
        OptimizerConfig(**OPEN, unshared=("attention",), synchronize_beta=0.0),
        {**DEFAULT, "key": attention_apart, "sync_every": None},
    ),
    "paper": Variant(OptimizerConfig(**OPEN, form="paper", convergence_window=10), {**PAPER, "window": 10}),
    "paper, by its form alone": Variant(OptimizerConfig(**OPEN, form="paper"), {**PAPER, "window": 100}),
    "published": Variant(OptimizerConfig(**OPEN, form="published"), PUBLISHED),
    "published, asked for more": Variant(
        OptimizerConfig(**OPEN, form="published", synchronize_every=6, convergence_window=8, max_gradient_norm=2.0),
        {**PUBLISHED, "sync_every": 6, "beta": 0.1, "window": 8, "clip": 2.0},
    ),
}  # fmt: skip


def config_of(optimizer: OptimizerConfig, arena: ArenaConfig | None = None) -> RunConfig:
    """A run of the ensemble's three models, a hundred steps long."""
    models = tuple(
        ModelConfig(
            name,
            preset="gpt2-tiny" if name == "gpt2" else f"{name}-tiny",
            weight=weight,
            learning_rate=RATES["gpt2"] if name == "gpt2" else None,
        )
        for name, weight in WEIGHTS.items()
    )
    training = TrainingConfig(steps=STEPS, evaluate_every=50)
    data = DataConfig(name="synthetic-sentiment")
    return RunConfig("parity", "sequence-classification", models, data, optimizer, training, arena=arena)


def losses_of(step: int, generator: np.random.Generator) -> dict[str, float]:
    """Falling, rising and level losses with noise, exact in float32."""
    trends = {"bert": 3 - 0.02 * step, "gpt2": 2 + 0.01 * step, "roberta": 1.0}
    return {name: float(np.float32(loss + 0.05 * generator.standard_normal())) for name, loss in trends.items()}


def compared(dtype: str, config: RunConfig, reference: Any, each_step: Any, rates: Any = None) -> Iterator[Measurement]:
    """Run both; ``each_step(step)`` is handed to both beside gradients and losses, ``rates`` to ours alone."""
    optimizer = build_optimizer(config)
    schedule = {} if rates is None else {"learning_rates": rates}
    both, generator = reference[0], np.random.default_rng(11)
    params = both.tree(dtype)
    state = optimizer.init(params)

    @jax.jit
    def move(gradients: Any, state: Any, params: Any, losses: Any, extra: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params, value=losses, **extra)
        return optax.apply_updates(params, updates), state, learning_rate_metrics(0, state)

    for step in range(STEPS):
        gradients = both.set_gradients(generator, dtype)
        losses = losses_of(step, generator)
        extra: Mapping[str, Mapping[str, float]] = each_step(step)
        reference[1].step(losses=losses, **extra)
        arrays = {key: {k: np.asarray(v, dtype) for k, v in values.items()} for key, values in extra.items()}
        values = {k: np.asarray(v, dtype) for k, v in losses.items()}
        params, state, metrics = move(gradients, state, params, values, {**schedule, **arrays})
        if step % 10 == 9 or step < 15:  # every step builds on those before
            yield from compare(both.named(params), both.wanted(), f"after step {step + 1}: ")
        last = {name: np.asarray(rate) for name, rate in transforms.learning_rates(state).items()}
        yield from compare(last, reference[1].last_rates, f"learning rates of step {step + 1}: ")
        reported = {name: metrics[name]["learning_rate"] for name in last}
        yield from compare(reported, {n: np.float32(r) for n, r in last.items()}, f"reported in step {step + 1}: ")


def reference_of(options: Mapping[str, Any]) -> tuple[Any, MultiModelOptimizer]:
    """The ensemble and the reference over it."""
    both = ensemble()
    common: dict[str, Any] = {"lr": RATES, "weights": WEIGHTS, "eps": 1e-4, "warmup": 12, "total": STEPS}
    return both, MultiModelOptimizer(both.torch_models, **{**common, **options})


def run(dtype: str, variant: str) -> Iterator[Measurement]:
    """A joint run's optimizer."""
    with precision(dtype):
        config = config_of(VARIANTS[variant].config)
        reference = reference_of(VARIANTS[variant].reference)
        yield from compared(dtype, config, reference, lambda step: {}, schedules(config, STEPS))


def validation(dtype: str, variant: str) -> Iterator[Measurement]:
    """A run's whose weights follow validation: evaluated every ten steps, by the object that a run asks."""
    with precision(dtype):
        open_config = dataclasses.replace(VARIANTS[variant].config, weights_follow="validation")
        config = config_of(open_config)
        ours, generator = ModelWeights(config), np.random.default_rng(12)
        by_hand, first = dict(WEIGHTS), dict[str, float]()

        def each_step(step: int) -> dict[str, dict[str, float]]:
            nonlocal by_hand, first
            if step % 10 == 9:
                losses = losses_of(4 * step, generator)
                first = first or losses
                by_hand = algorithms.validation_weights(WEIGHTS, first, losses)
                ours.follow(losses)
                resumed = ModelWeights(config, json.loads(json.dumps(ours.state())))
                assert resumed.state() == ours.state()
            return {"weights": ours.current}

        both, reference = reference_of(VARIANTS[variant].reference)
        step_of_reference = reference.step

        def step_by_hand(*, losses: Any, weights: Any) -> None:
            measured.append((dict(weights), dict(by_hand)))
            step_of_reference(losses=losses, weights=by_hand)

        measured: list[tuple[dict[str, float], dict[str, float]]] = []
        reference.step = step_by_hand  # type: ignore[method-assign, assignment]
        yield from compared(dtype, config, (both, reference), each_step, schedules(config, STEPS))
        for number, (found, wanted) in enumerate(measured, 1):
            yield from compare({n: np.asarray(w) for n, w in found.items()}, wanted, f"weights of step {number}: ")


def competition(dtype: str, decay: str) -> Iterator[Measurement]:
    """A competition's: learning rates arrive with every update, by the function that a competition calls."""
    with precision(dtype):
        config = config_of(OptimizerConfig(**OPEN, decay=decay), ArenaConfig())

        def each_step(step: int) -> dict[str, dict[str, float]]:
            fraction = (step / STEPS) ** 1.5  # rounds cost what their batches make them cost
            arriving = {
                name: learning_rate(peak, steps=step, fraction=fraction, warmup_steps=12, decay=decay)
                for name, peak in RATES.items()
            }
            return {"learning_rates": arriving}

        def by_hand(step: int) -> dict[str, float]:
            fraction = (step / STEPS) ** 1.5
            return {n: algorithms.competition_rate(peak, step, 12, fraction, decay) for n, peak in RATES.items()}

        for step in range(STEPS):
            wanted = by_hand(step)
            found = {name: np.asarray(rate) for name, rate in each_step(step)["learning_rates"].items()}
            yield from compare(found, wanted, f"rates of step {step + 1}: ")
        yield from compared(dtype, config, reference_of(DEFAULT), each_step)


def checks() -> list[Check]:
    """The layer's checks."""
    rows = []
    for variant in VARIANTS:
        rows.append(Check("run's optimizer", ALL, variant, "float64", partial(run, "float64", variant), 1e-10))
    for variant in ("default", "published"):
        task = f"{variant}, weights follow validation"
        rows.append(Check("run's optimizer", ALL, task, "float64", partial(validation, "float64", variant), 1e-10))
    for decay in ("cosine", "linear"):
        task = f"competition, {decay}"
        rows.append(Check("run's optimizer", ALL, task, "float64", partial(competition, "float64", decay), 1e-10))
    return rows
