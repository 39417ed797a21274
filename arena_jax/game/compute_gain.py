"""What a change of method is worth in compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from arena_jax.errors import ArenaError
from arena_jax.game._checks import Array, finite_array, random


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
    if resamples < 20 or not 0 < confidence < 1:
        raise ArenaError(f"resamples {resamples}, confidence {confidence}; give at least 20, and a number in (0, 1)")
    log_c, base, treat = _paired(compute, baseline, treated)
    sizes, cell = np.unique(log_c, return_inverse=True)
    if len(sizes) < 3:
        raise ArenaError(f"{len(sizes)} sizes cannot determine a curve with three numbers; measure at least 3")
    centred = log_c - sizes.mean()
    theta = _fit_shift(centred, base, treat, None)
    counts = np.bincount(cell)
    freedom = int((counts - 1).sum())
    interval, error = (np.nan, np.nan), np.nan
    if freedom:
        rng = random(seed)
        members = [np.flatnonzero(cell == k) for k in range(len(sizes))]
        shifts = []
        for _ in range(resamples):
            rows = np.concatenate([rng.choice(group, size=len(group)) for group in members])
            shifts.append(_fit_shift(centred[rows], base[rows], treat[rows], theta)[3])
        mean_seeds = len(cell) / len(sizes)
        error = float(np.std(shifts, ddof=1) * np.sqrt(mean_seeds / (mean_seeds - 1)))
        reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
        interval = (float(np.exp(theta[3] - reach)), float(np.exp(theta[3] + reach)))
    return ComputeGain(
        gain=float(np.exp(theta[3])),
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


def _fit_shift(log_c: Array, base: Array, treat: Array, start: Array | None) -> Array:
    """Least squares of ln L over θ = (ln E, ln c, γ, ln k); both arms stacked."""
    c = np.concatenate([log_c, log_c])
    arm = np.concatenate([np.zeros(len(log_c)), np.ones(len(log_c))])
    target = np.concatenate([base, treat])

    def residual(theta: Array) -> Array:
        return np.logaddexp(theta[0], theta[1] - theta[2] * (c + arm * theta[3])) - target

    def jacobian(theta: Array) -> Array:
        power = theta[1] - theta[2] * (c + arm * theta[3])
        share = np.exp(power - np.logaddexp(theta[0], power))
        return np.stack([1 - share, share, -share * (c + arm * theta[3]), -share * theta[2] * arm], axis=1)

    # For a given E the rest is linear: ln(L − E) = ln c − γ ln C − γ ln k [treated].
    starts = [] if start is None else [start]
    if start is None:
        loss = np.exp(target)
        design = np.stack([np.ones(len(c)), -c, -arm], axis=1)
        for fraction in (1e-6, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99):
            floor = fraction * loss.min()
            level, gamma, shifted = np.linalg.lstsq(design, np.log(loss - floor), rcond=None)[0]
            if gamma > 0:
                starts.append(np.array([np.log(floor), level, gamma, shifted / gamma]))
        if not starts:
            raise ArenaError("the losses do not fall with compute, so a gain in compute has no meaning here")
    options = {"method": "trf", "x_scale": "jac", "ftol": 1e-14, "xtol": 1e-12, "gtol": 1e-14, "max_nfev": 300}
    bounds = ([-60, -60, 1e-4, -20], [20, 60, 10, 20])
    answers = [
        optimize.least_squares(residual, np.clip(s, *bounds), jac=jacobian, bounds=bounds, **options) for s in starts
    ]
    return np.asarray(min(answers, key=lambda answer: answer.cost).x)
