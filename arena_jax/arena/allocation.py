"""From progress to shares of the memory budget, and from a share to steps: the paper's equations 2 to 6."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria.arguments import as_floats

Variant = Literal["paper", "published-code"]


def allocate(
    progress: ArrayLike,
    shares: ArrayLike,
    *,
    smoothing: float = 0.7,
    floor: float = 0.05,
    epsilon: float = 1e-6,
    variant: Variant = "paper",
) -> jax.Array:
    """Give faster learners a larger share, gradually and never nothing.

    A share is a part of whatever the caller divides. In the paper that is the whole budget, parameters included; a
    competition here divides what parameters, gradients and optimizer states of all models leave of it.

    w = max(λ, ε) / Σ max(λ, ε)        w̃ = α·share + (1−α)·w        ŵ = max(w̃, δ)        share' = ŵ / Σ ŵ

    The normalisation comes last, so a share can end below the floor δ, but never below δ / (1 + N·δ).

    Two variants. ``"paper"`` is the above. ``"published-code"`` is what the authors' program does instead: progress
    below a tenth of the smallest positive progress is raised to that tenth (ε is not used), and when no model
    makes progress every share becomes 1/N at once, past smoothing and floor.

    Args:
        progress: λ [models]; what is not finite counts as no progress.
        shares: current shares [models], summing to 1.
        smoothing: α in [0, 1], the part kept of the current share.
        floor: δ in [0, 1), the smallest share before normalisation.
        epsilon: ε > 0, the progress of a model that makes none.
        variant: ``"paper"`` or ``"published-code"``.

    Returns:
        New shares [models], summing to 1.

    Raises:
        ArenaError: a parameter is outside its range, the variant is unknown, shares and progress are not of the same
            models, or shares are no numbers from 0 up; what is traced is taken on trust, but for its length.

    Example:
        >>> allocate([0.03, 0.01, -0.02], [1 / 3, 1 / 3, 1 / 3])
        Array([0.4583..., 0.3083..., 0.2333...], dtype=float32)

    Source: ModelArena, equations 2 to 6.
    """
    if variant not in get_args(Variant):
        raise ArenaError(f"allocate: unknown variant {variant!r}; {nearest(variant, get_args(Variant))}")
    check_parameters(smoothing, floor, epsilon, "allocate")
    shares = as_floats(shares)
    progress = as_floats(progress)
    _check_models(progress, shares)
    progress = jnp.where(jnp.isfinite(progress), progress, 0)
    if variant == "paper":
        return blend(jnp.maximum(progress, epsilon), shares, smoothing=smoothing, floor=floor)
    smallest = jnp.min(progress, axis=-1, where=progress > 0, initial=jnp.inf, keepdims=True)
    none = jnp.isinf(smallest)
    raised = jnp.where(none, 1.0, jnp.maximum(progress, 0.1 * jnp.where(none, 1.0, smallest)))
    equal = jnp.full_like(shares, 1 / shares.shape[-1])
    return jnp.where(none, equal, blend(raised, shares, smoothing=smoothing, floor=floor))


def blend(weights: ArrayLike, shares: ArrayLike, *, smoothing: float = 0.7, floor: float = 0.05) -> jax.Array:
    """Move the shares towards the weights: normalise, smooth, raise to the floor, normalise.

    Args:
        weights: [models], not negative, not all zero, of any scale.
        shares: current shares [models], summing to 1.
        smoothing: α in [0, 1].
        floor: δ in [0, 1).

    Returns:
        New shares [models], summing to 1.

    Example:
        >>> blend([3.0, 1.0], [0.5, 0.5], smoothing=0.5)
        Array([0.625, 0.375], dtype=float32)

    Source: ModelArena, equations 3 to 5.
    """
    weights, shares = as_floats(weights), as_floats(shares)
    # Sums of huge weights would overflow, and divisions by them, compiled as multiplications, underflow.
    weights = jnp.minimum(weights, jnp.finfo(weights.dtype).max ** 0.5)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    raised = jnp.maximum(smoothing * shares + (1 - smoothing) * weights, floor)
    return raised / jnp.sum(raised, axis=-1, keepdims=True)


def steps_per_round(share: ArrayLike, scale: int = 10) -> jax.Array:
    """Count the optimizer steps that a share of the budget is worth in one round.

    steps = max(1, ⌊scale · share⌋)

    A share comes out of a division, so one that is 3/10 in exact arithmetic may arrive one rounding below it, and
    the literal floor would then take a whole step away (in float64, 29/100 · 100 is 28.999999999999996). A product
    less than 8 machine epsilons (relative; 1.8e-15 in float64, 9.5e-7 in float32) below a whole number therefore
    counts as that number. Everywhere else the result is the literal floor.

    Args:
        share: m/B, in (0, 1], any shape.
        scale: steps of a model that holds everything.

    Returns:
        Steps, int32, the shape of ``share``.

    Example:
        >>> steps_per_round([0.3, 0.25, 0.02]).tolist()
        [3, 2, 1]

    Source: ModelArena, Algorithm 1, line 14.
    """
    share = as_floats(share)
    product = scale * share * (1 + 8 * jnp.finfo(share.dtype).eps)
    return jnp.maximum(1, jnp.floor(product)).astype(jnp.int32)


def accumulation_steps(batch: int, target: int) -> int:
    """Count the micro-batches that make up a target batch which memory cannot hold at once.

    Args:
        batch: examples that fit, at least 1.
        target: examples wanted for one optimizer step.

    Returns:
        ⌈target / batch⌉, at least 1; the effective batch is then at least the target.

    Raises:
        ArenaError: the batch is not positive.

    Example:
        >>> accumulation_steps(12, 32)
        3

    Source: ModelArena, section 3.4.
    """
    if batch < 1:
        raise ArenaError(f"accumulation_steps: the batch is {batch}; it must be 1 or more")
    return max(1, -(-target // batch))


def check_parameters(smoothing: float, floor: float, epsilon: float, caller: str) -> None:
    """Refuse what would give shares that are no shares; traced parameters are taken on trust.

    Raises:
        ArenaError: a parameter is outside its range; the message begins with the caller's name.
    """
    for name, value, inside, allowed in (
        ("smoothing", smoothing, lambda v: 0 <= v <= 1, "between 0 and 1"),
        ("floor", floor, lambda v: 0 <= v < 1, "at least 0 and below 1"),
        ("epsilon", epsilon, lambda v: v > 0, "positive"),
    ):
        if not isinstance(value, jax.core.Tracer) and not (np.ndim(value) == 0 and inside(value)):
            raise ArenaError(f"{caller}: {name} is {value}; it must be one number, {allowed}")


def _check_models(progress: jax.Array, shares: jax.Array) -> None:
    """Refuse shares that are not one of each model; where it can be seen, also those that are no numbers from 0 up."""
    if not progress.ndim or not shares.ndim or progress.shape[-1] != shares.shape[-1]:
        raise ArenaError(
            f"allocate: progress has shape {progress.shape} and shares {shares.shape}; give both for the same models"
        )
    if not isinstance(shares, jax.core.Tracer) and not (np.isfinite(shares).all() and (np.asarray(shares) >= 0).all()):
        raise ArenaError(f"allocate: shares are {shares.tolist()}; each must be finite and not below 0")
