"""Where the paper's rule for shares ends up when progress stays as it is: equation 16, in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from arena_jax.arena.allocation import check_parameters
from arena_jax.config.errors import ArenaError


class Limit(NamedTuple):
    """A fixed point of the paper's rule, and how it is reached.

    Attributes:
        shares: [models], summing to 1.
        at_the_floor: [models], whether a share is held up by the floor δ alone.
        total: Z ≥ 1, the sum before the last normalisation; a share at the floor is δ / Z.
        contraction: the part of a small distance from the limit that one application leaves, at most α.
    """

    shares: np.ndarray
    at_the_floor: np.ndarray
    total: float
    contraction: float


def limit_of_shares(
    progress: ArrayLike, *, smoothing: float = 0.7, floor: float = 0.05, epsilon: float = 1e-6
) -> Limit:
    """Compute what `allocate` tends to when every model keeps its progress, from whatever shares it starts.

    With w = max(λ, ε) / Σ max(λ, ε), and k models at the floor whose weights leave W = Σ w to the others, a share is

    (1−α)·w / (Z−α)  above the floor,  δ / Z  at it,  with  Z² − (α + (1−α)·W + k·δ)·Z + α·k·δ = 0, the larger root.

    Models come to the floor in the order of their weights, so k is the first number for which those above it stay
    above. Without any, Z is 1 and the shares are w: smoothing delays, and does not change, the limit. The rule
    contracts by α / Z near its fixed point (by less where only one model is above the floor), so that the distance
    falls by half in ln 2 / ln(Z/α) reallocations.

    Args:
        progress: λ [models]; what is not finite counts as no progress.
        smoothing: α in [0, 1); with 1 every share is a fixed point.
        floor: δ in [0, 1).
        epsilon: ε > 0.

    Returns:
        The fixed point, in float64.

    Raises:
        ArenaError: a parameter is outside its range, or there is no model.

    Example:
        >>> limit = limit_of_shares([0.02, 0.0, 0.0, -0.1])  # one learns, three do not
        >>> limit.shares.round(4).tolist(), round(limit.total, 3)
        ([0.8571, 0.0476, 0.0476, 0.0476], 1.05)

    Source: ModelArena, equation 16, for the rule of equations 2 to 5; the closed form is this project's.
    """
    check_parameters(smoothing, floor, epsilon, "limit_of_shares")
    if smoothing == 1:
        raise ArenaError("limit_of_shares: with smoothing 1 shares never move; give one below 1")
    rates = np.asarray(progress, float)
    if rates.ndim != 1 or not rates.size:
        raise ArenaError(f"limit_of_shares: progress has shape {rates.shape}; give one number a model")
    weights = np.maximum(np.where(np.isfinite(rates), rates, 0), epsilon)
    weights = weights / weights.max()  # sums of huge numbers would overflow
    weights = weights / weights.sum()
    order = np.argsort(weights, kind="stable")
    for count in range(len(weights) + 1):
        total = _total(weights[order[count:]].sum(), count, smoothing, floor)
        lowest = weights[order[count]] if count < len(weights) else np.inf
        if (1 - smoothing) * lowest * total >= floor * (total - smoothing):
            break
    shares = np.full(len(weights), floor / total)
    above = order[count:]
    shares[above] = (1 - smoothing) * weights[above] / (total - smoothing)
    at_the_floor = np.ones(len(weights), bool)
    at_the_floor[above] = False
    left = 1.0 if len(above) > 1 else 1 - shares[above].sum()  # along one share alone the last normalisation helps
    return Limit(shares, at_the_floor, total, float(smoothing / total * left) if len(above) else 0.0)


def _total(weight: float, count: int, smoothing: float, floor: float) -> float:
    """Z, the larger root; weight is W, what is left to the models above the floor."""
    half = (smoothing + (1 - smoothing) * weight + count * floor) / 2
    return float(half + np.sqrt(max(half**2 - smoothing * count * floor, 0.0)))
