"""What a change of method is worth in compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, certainty, finite_array, random
from arena_jax.game._least_squares import minimise


@dataclass(frozen=True)
class ComputeGain:
    """How much less compute the treated arm needs: L_treated(C) = L_baseline(k·C).

    Attributes:
        gain: k; 1.1 saves as much as 10 % more compute would buy.
        interval: of k; NaN with one seed per size.
        log_standard_error: of ln k, with the small-sample factor.
        degrees_of_freedom: of the t interval, Σ (seeds − 1).
        E: irreducible loss of the shared curve E + c·C^(−gamma).
        gamma: its exponent.
        confidence: of the interval.
    """

    gain: float
    interval: tuple[float, float]
    log_standard_error: float
    degrees_of_freedom: int
    E: float
    gamma: float
    confidence: float

    def __str__(self) -> str:
        low, high = self.interval
        return f"compute-equivalent gain {self.gain:.4f} [{low:.4f}, {high:.4f}] at {self.confidence:.0%}"


def compute_equivalent_gain(
    compute: Any,
    baseline: Any,
    treated: Any,
    *,
    resamples: int = 400,
    confidence: float = 0.95,
    seed: int = 0,
) -> ComputeGain:
    """Fit both arms to one curve, the treated one shifted in compute: L_B = E + c·C^(−γ), L_T(C) = L_B(k·C).

    Joint least squares of ln L. Seeds are paired: seed s of both arms shares data and initialisation, and is resampled
    as a pair within its size. The interval is ln k ± t(1 − (1−p)/2, Σ(S−1)) · sd_bootstrap · √(S/(S−1)): percentiles
    of a bootstrap over few seeds are too narrow.

    Args:
        compute: (cells,) floating-point operations; or one per run, flat, where equal values are seeds of one size
            (sizes may then have different numbers of seeds).
        baseline: (cells, seeds) final losses, or flat like compute.
        treated: the same shape; entry by entry the same seed as baseline.
        resamples: bootstrap resamples.
        confidence: of the interval.
        seed: seed of the resamples.

    Returns:
        The gain with its interval (NaN if no size has two seeds).

    Raises:
        ArenaError: shapes that do not fit, fewer than 3 sizes, losses or compute not above 0, or a baseline that
            does not improve with compute.

    Example:
        >>> c = np.logspace(13, 16, 6)
        >>> law = lambda compute: 1.5 + 60 * compute**-0.15
        >>> found = compute_equivalent_gain(c, law(c), law(1.2 * c))
        >>> round(found.gain, 6)
        1.2
    """
    certainty(resamples, confidence, 20)
    log_c, base, treat = _paired(compute, baseline, treated)
    sizes, cell = np.unique(log_c, return_inverse=True)
    if len(sizes) < 3:
        raise ArenaError(f"{len(sizes)} sizes cannot determine a curve with three numbers; measure at least 3")
    centred = log_c - sizes.mean()
    theta = _fit_shift(centred, base, treat, np.ones((1, len(base))), None)
    counts = np.bincount(cell)
    freedom = int((counts - 1).sum())
    interval, error = (np.nan, np.nan), np.nan
    if freedom:
        rng = random(seed)
        weights = np.zeros((resamples, len(cell)))
        for k in range(len(sizes)):
            members = np.flatnonzero(cell == k)
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
        shifts = _fit_shift(centred, base, treat, weights, theta)[:, 3]
        mean_seeds = len(cell) / len(sizes)
        error = float(np.std(shifts, ddof=1) * np.sqrt(mean_seeds / (mean_seeds - 1)))
        reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
        with np.errstate(over="ignore"):  # noise that says nothing about the gain: an interval without an upper end
            interval = (float(np.exp(theta[3] - reach)), float(np.exp(theta[3] + reach)))
    return ComputeGain(
        gain=float(np.exp(min(theta[3], 700.0))),
        interval=interval,
        log_standard_error=error,
        degrees_of_freedom=freedom,
        E=float(np.exp(theta[0])),
        gamma=float(theta[2]),
        confidence=confidence,
    )


def _paired(compute: Any, baseline: Any, treated: Any) -> tuple[Array, Array, Array]:
    c = finite_array(compute, "compute", (1, 2))
    base, treat = finite_array(baseline, "baseline", (1, 2)), finite_array(treated, "treated", (1, 2))
    if base.shape != treat.shape or base.shape[0] != c.shape[0]:
        raise ArenaError(
            f"compute {c.shape}, baseline {base.shape}, treated {treat.shape}: give (cells,) and twice (cells, seeds)"
        )
    if c.ndim == 1 and base.ndim == 2:
        c = np.broadcast_to(c[:, None], base.shape)
    if c.shape != base.shape:
        raise ArenaError(f"compute has shape {c.shape} and baseline {base.shape}; give one compute per run or per size")
    if min(c.min(), base.min(), treat.min()) <= 0:
        raise ArenaError("compute and losses must be above 0; the curve is fitted to logarithms")
    return np.log(c).ravel(), np.log(base).ravel(), np.log(treat).ravel()


def _fit_shift(log_c: Array, base: Array, treat: Array, weights: Array, start: Array | None) -> Array:
    """Least squares of ln L over θ = (ln E, ln c, γ, ln k), both arms stacked; one fit per row of weights."""
    c = np.concatenate([log_c, log_c])
    arm = np.concatenate([np.zeros(len(log_c)), np.ones(len(log_c))])
    target = np.concatenate([base, treat])

    def model(thetas: Array) -> tuple[Array, Callable[[], Array]]:
        floor, level, gamma, shift = (thetas[:, k, None] for k in range(4))
        power = level - gamma * (c + arm * shift)
        predicted = np.logaddexp(floor, power)

        def derivatives() -> Array:
            share = np.exp(power - predicted)
            return np.stack([1 - share, share, -share * (c + arm * shift), -share * gamma * arm], axis=-1)

        return predicted - target, derivatives

    arm_weights = np.hstack([weights, weights])
    if start is not None:
        return minimise(model, np.tile(start, (len(weights), 1)), arm_weights, positive=(2,), rounds=100)[0]
    # For a given E the rest is linear: ln(L − E) = ln c − γ ln C − γ ln k [treated].
    loss = np.exp(target)
    design = np.stack([np.ones(len(c)), -c, -arm], axis=1)
    starts = []
    for fraction in (1e-6, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99):
        floor = fraction * loss.min()
        level, gamma, shifted = np.linalg.lstsq(design, np.log(loss - floor), rcond=None)[0]
        if gamma > 0:
            starts.append([np.log(floor), level, gamma, shifted / gamma])
    if not starts:
        raise ArenaError("the losses do not fall with compute, so a gain in compute has no meaning here")
    thetas, values = minimise(model, np.array(starts), arm_weights, positive=(2,))
    return np.asarray(thetas[np.argmin(values)])
