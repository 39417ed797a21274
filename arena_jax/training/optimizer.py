"""The optimizer of a run, put together from its configuration, and what its learning rates are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax import transforms
from arena_jax.config import OptimizerConfig, RunConfig
from arena_jax.transforms.scale_by_given_rate import GivenRatesState, given_rates

_CORRESPONDENCES = {
    "by_kind": transforms.by_kind,
    "by_role": transforms.by_role,
    "by_layer": transforms.by_layer,
}


class Optimizer(NamedTuple):
    """A transformation and a view of it.

    Attributes:
        transformation: over ``{model: parameters}``.
        learning_rates: ``(step, opt_state) -> {model: {"learning_rate": scalar}}``, the effective ones of the update
            that led to this state: base × warm-up × decay × convergence (× weight, in the published form). Traceable.
    """

    transformation: optax.GradientTransformationExtraArgs
    learning_rates: Callable[[jax.Array, Any], dict[str, dict[str, jax.Array]]]


def warmup_steps(config: OptimizerConfig, total_steps: int) -> int:
    """The warm-up asked for, or as much of it as leaves a short run one step at its peak."""
    return min(config.warmup_steps, max(0, total_steps - 1))


def schedule(config: OptimizerConfig, peak: float, total_steps: int) -> optax.Schedule:
    """The learning rate over updates, counted from 0: warm-up, then the decay to the end of the run.

    Args:
        config: of the optimizer.
        peak: the rate after warm-up.
        total_steps: the run's length.

    Returns:
        ``count -> rate``. The paper's warm-up starts at 0, the published code's at peak / warm-up; the published cosine
        never falls below a tenth of the peak.

    Example:
        >>> from arena_jax.config import OptimizerConfig
        >>> rate = schedule(OptimizerConfig(warmup_steps=10, decay="linear"), 1.0, 110)
        >>> [round(float(rate(t)), 2) for t in (0, 5, 10, 60, 110)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = warmup_steps(config, total_steps)
    length = max(1, total_steps - warmup)
    published = config.form == "published"
    falling = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, length, alpha=0.0),
        "linear": lambda: optax.linear_schedule(peak, 0.0, length),
        "constant": lambda: optax.constant_schedule(peak),
    }[config.decay]()

    def rate(count: Any) -> Any:
        t = count + 1 if published else count
        rising = peak * jnp.asarray(t, jnp.float32) / max(1, warmup)
        after = falling(jnp.maximum(t - warmup, 1 if published else 0))
        if published and config.decay == "cosine":
            after = jnp.maximum(after, 0.1 * peak)
        return jnp.where(t < warmup, rising, after)

    return rate


def make_optimizer(config: RunConfig, total_steps: int) -> Optimizer:
    """Put the run's optimizer together.

    Args:
        config: of the run; what its optimizer leaves open is filled in by its form.
        total_steps: the run's length, for the decay.

    Returns:
        An :class:`Optimizer`. With one learning rate for all models and the paper's form it is
        :func:`arena_jax.transforms.multi_model_adamw`. In a competition, where nobody knows how many steps a model will
        take, learning rates come with each update as ``rates={model: scalar}``
        (:func:`arena_jax.transforms.scale_by_given_rate.given_rates`).
    """
    wanted = config.optimizer.resolved()
    published = wanted.form == "published"
    weights: dict[Hashable, float] = {model.name: model.weight for model in config.models}
    rates = {
        model.name: schedule(wanted, model.learning_rate or wanted.learning_rate, total_steps)
        for model in config.models
    }
    assert wanted.correspondence is not None
    correspondence = _CORRESPONDENCES[wanted.correspondence]
    links: list[optax.GradientTransformation] = []
    if wanted.max_gradient_norm is not None:
        links.append(transforms.clip_by_model_norm(wanted.max_gradient_norm, epsilon=1e-6 if published else 0.0))
    if wanted.share_alpha:
        links.append(
            transforms.share_gradients(
                weights,
                alpha=wanted.share_alpha,
                every=wanted.share_every,
                correspondence=correspondence,
                reduce=wanted.share_reduce,  # type: ignore[arg-type]
                normalize=published,
            )
        )
    links.append(
        transforms.per_model(
            {
                name: optax.chain(
                    transforms.scale_by_adam(
                        wanted.b1,
                        wanted.b2,
                        wanted.epsilon,
                        eps_before_correction=published,
                        amsgrad=wanted.amsgrad,
                    ),
                    optax.add_decayed_weights(wanted.weight_decay),
                    optax.identity() if config.arena else optax.scale_by_learning_rate(rate),
                )
                for name, rate in rates.items()
            }
        )
    )
    if config.arena:
        links.append(given_rates())
    if published:
        links.append(transforms.scale_by_model_weight(weights, base=0.5, normalize=True))
    if wanted.convergence_window:
        links.append(
            transforms.scale_by_convergence(
                window=wanted.convergence_window,
                decay=wanted.convergence_decay,
                every=wanted.convergence_every,
                low=wanted.convergence_low,
                high=wanted.convergence_high,
                slope="signed" if wanted.convergence_signed else "absolute",
            )
        )
    if wanted.synchronize_beta:
        links.append(
            transforms.synchronize_parameters(
                weights,
                beta=wanted.synchronize_beta,
                every=wanted.synchronize_every,
                correspondence=correspondence,
            )
        )

    total = sum(weights.values())

    def learning_rates(step: jax.Array, opt_state: Any) -> dict[str, dict[str, jax.Array]]:
        convergence = _found(opt_state, transforms.ScaleByConvergenceState)
        given = _found(opt_state, GivenRatesState)
        reported = {}
        for name, rate in rates.items():
            value = given.rates[name] if given else jnp.asarray(rate(step), jnp.float32)
            if published:
                value = value * (0.5 + 0.5 * weights[name] / total)
            if convergence is not None:
                factor = jnp.clip(1 / convergence.models[name].rate, wanted.convergence_low, wanted.convergence_high)
                value = value * factor.astype(jnp.float32)
            reported[name] = {"learning_rate": value}
        return reported

    return Optimizer(optax.chain(*links), learning_rates)


def _found(opt_state: Any, kind: type) -> Any:
    """The state of that kind within a chain's, or None where there is none."""
    states = jax.tree.leaves(opt_state, is_leaf=lambda state: isinstance(state, kind))
    return next((state for state in states if isinstance(state, kind)), None)
