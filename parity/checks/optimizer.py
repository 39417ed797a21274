"""Layer 4, first half: Algorithms 1, 2 and 3, each alone, then whole steps of the optimizer on given gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from arena_jax import transforms
from parity.case import precision
from parity.ensemble import WEIGHTS, ensemble
from parity.measure import Measurement, compare
from parity.reference import algorithms
from parity.reference.multi_model_optimizer import MultiModelOptimizer
from parity.registry import ALL, Check

TOLERANCE = {"float64": 1e-10}
PAPER, PUBLISHED = "paper", "published-code"


def sharing(dtype: str, mode: str) -> Iterator[Measurement]:
    """Algorithm 1 on random gradients of three models, at several α."""
    with precision(dtype):
        for alpha in (0.2, 0.7):
            both = ensemble()
            given = both.set_gradients(np.random.default_rng(5), dtype)
            published = mode == PUBLISHED
            weights = algorithms.normalized(WEIGHTS) if published else WEIGHTS
            algorithms.share_gradients(both.literals, weights, alpha, skip_single=published)
            ours = transforms.share_gradients(WEIGHTS, alpha=alpha, normalize=published, alone=not published)
            shared = jax.jit(lambda g, t=ours: t.update(g, t.init(g))[0])(given)
            yield from compare(both.named(shared), both.wanted_gradients(), f"α = {alpha}: ")


def synchronisation(dtype: str) -> Iterator[Measurement]:
    """Algorithm 2 on the parameters after an update, and only every third time."""
    with precision(dtype):
        both = ensemble()
        ours = transforms.synchronize_parameters(WEIGHTS, beta=0.3, every=3)
        params = both.tree(dtype)
        state, generator = ours.init(params), np.random.default_rng(6)

        @jax.jit
        def move(updates: Any, state: Any, params: Any) -> Any:
            updates, state = ours.update(updates, state, params)
            return optax.apply_updates(params, updates), state

        for step in range(1, 7):
            updates = both.set_gradients(generator, dtype)
            for parameters in both.literals.values():
                for p in parameters:
                    assert p.grad is not None
                    p.data.add_(p.grad)
            if step % 3 == 0:
                algorithms.synchronize_parameters(both.literals, WEIGHTS, 0.3)
            params, state = move(updates, state, params)
            yield from compare(both.named(params), both.wanted(), f"after update {step}: ")


def histories() -> dict[str, np.ndarray]:
    """Loss curves: falling, rising, constant, noisy, and one with a jump."""
    generator, t = np.random.default_rng(8), np.arange(30.0)
    return {
        "falling": 3 * np.exp(-t / 9),
        "rising": 0.5 + 0.3 * t,
        "constant": np.full(30, 1.25),
        "noisy": 2 + generator.standard_normal(30),
        "jump": np.where(t < 15, 4.0, 0.5),
    }


def convergence(dtype: str) -> Iterator[Measurement]:
    """Algorithm 3 and f_conv over loss histories of every shape, before and after the window is full."""
    with precision(dtype):
        losses = {name: history.astype(np.float32).astype(float) for name, history in histories().items()}
        for window in (2, 7):
            ours = transforms.scale_by_convergence(window=window)
            ones = {name: {"up": np.ones(1, dtype)} for name in losses}
            state = ours.init(ones)
            update = jax.jit(lambda s, v, t=ours, one=ones: t.update(one, s, value=v))
            rates = dict.fromkeys(losses, 1.0)
            for t in range(30):
                scaled, state = update(state, {name: np.asarray(h[t], dtype) for name, h in losses.items()})
                for name, history in losses.items():
                    rates[name] = algorithms.convergence_rate(rates[name], list(history[: t + 1]), window)
                wanted = {name: np.array([algorithms.convergence_factor(rate)]) for name, rate in rates.items()}
                found = {name: tree["up"] for name, tree in scaled.items()}
                yield from compare(found, wanted, f"window {window}, loss {t + 1}: ")


# name: (our factory's arguments, the reference's arguments), beyond what both have in common.
VARIANTS: dict[str, dict[str, Any]] = {
    PAPER: {},
    "paper, AMSGrad": {"amsgrad": True},
    "paper, nothing shared": {"alpha": 0.0, "beta": 0.0, "window": None},
    PUBLISHED: {},
    "published-code, clipped": {"clip": 0.5},
    "published-code, everything on": {"clip": 2.0, "sync_every": 3, "window": 4, "amsgrad": True},
}
COMMON = {"lr": 0.02, "weight_decay": 0.05, "betas": (0.8, 0.97), "eps": 1e-4, "warmup": 4, "decay": 5}


def our_optimizer(mode: str, weights: dict[Any, float], **options: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer by the reference's argument names."""
    options = {**options}
    rate = options.pop("lr")
    options["b1"], options["b2"] = options.pop("betas")
    options["warmup_steps"], options["decay_steps"] = options.pop("warmup"), options.pop("decay")
    if "clip" in options:
        options["max_norm"] = options.pop("clip")
    # What the reference leaves out is 0 here: None would be the form's value.
    options["window"], options["sync_every"] = options["window"] or 0, options["sync_every"]
    form = "published" if mode == PUBLISHED else "paper"
    return transforms.multi_model_adamw(rate, weights, form=form, **options)


def reference_optimizer(mode: str, models: Any, weights: dict[str, float], **options: Any) -> MultiModelOptimizer:
    """The same, from the paper."""
    options = {**options}
    decay = options.pop("decay")
    options["total"] = decay if mode == PUBLISHED else options["warmup"] + decay
    return MultiModelOptimizer(models, mode=mode, weights=weights, **options)


def steps(dtype: str, variant: str, count: int = 12) -> Iterator[Measurement]:
    """Whole steps on given gradients and losses: every parameter after each, from warm-up through decay."""
    mode = PUBLISHED if variant.startswith(PUBLISHED) else PAPER
    options = {
        **COMMON,
        **({"sync_every": None, "window": None} if mode == PUBLISHED else {"sync_every": 3, "window": 4}),
    }
    options |= VARIANTS[variant]
    with precision(dtype):
        both, generator = ensemble(), np.random.default_rng(9)
        reference = reference_optimizer(mode, both.torch_models, WEIGHTS, **options)
        ours = our_optimizer(mode, WEIGHTS, **options)
        params = both.tree(dtype)
        state = ours.init(params)

        @jax.jit
        def move(gradients: Any, state: Any, params: Any, losses: Any) -> Any:
            updates, state = ours.update(gradients, state, params, value=losses)
            return optax.apply_updates(params, updates), state

        for step in range(1, count + 1):
            gradients = both.set_gradients(generator, dtype)
            losses = {name: float(np.float32(generator.uniform(0, 4))) for name in WEIGHTS}
            reference.step(losses=losses)
            params, state = move(gradients, state, params, {k: np.asarray(v, dtype) for k, v in losses.items()})
            yield from compare(both.named(params), both.wanted(), f"after step {step}: ")


def checks() -> list[Check]:
    """The layer's checks."""
    found = []
    for dtype in ("float64", "float32"):
        allowed = TOLERANCE.get(dtype)
        for mode in (PAPER, PUBLISHED):
            found.append(Check("gradient sharing", ALL, mode, dtype, partial(sharing, dtype, mode), allowed))
        found.append(Check("synchronisation", ALL, PAPER, dtype, partial(synchronisation, dtype), allowed))
        found.append(Check("convergence rate", ALL, PAPER, dtype, partial(convergence, dtype), allowed))
        for variant in VARIANTS if dtype == "float64" else (PAPER, PUBLISHED):
            found.append(Check("optimizer steps", ALL, variant, dtype, partial(steps, dtype, variant), allowed))
    return found
