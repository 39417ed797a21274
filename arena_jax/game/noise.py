"""One equilibrium out of several, and how much of it survives the noise of the measured payoffs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, ask, certainty, finite_array, random, square
from arena_jax.equilibria.dynamics import replicator
from arena_jax.equilibria.nash import ENUMERATION_LIMIT, on_support, symmetric_equilibria
from arena_jax.equilibria.stability import cyclic_ratio, is_evolutionarily_stable

CALLED_FROM = 0.9  # a member of the support is named as such only if so many resamples agree


@dataclass(frozen=True)
class Bootstrap:
    """How much of an equilibrium survives the noise of its payoffs.

    Attributes:
        resamples: number of resampled mean payoffs.
        windows: number of measured payoff matrices.
        shares: (n,) mean shares.
        shares_interval: (2, n) percentiles.
        support_frequency: (n,) how often each strategy is played.
        same_support: how often the support is the one of the mean payoff.
        cyclic_ratio: ρ of the mean payoff.
        cyclic_ratio_interval: percentiles of ρ. Noise alone is never symmetric, so ρ is biased upwards …
        cyclic_ratio_null: … by about this: the percentile of ρ when the mean's antisymmetric part is removed first.
    """

    resamples: int
    windows: int
    shares: Array
    shares_interval: Array
    support_frequency: Array
    same_support: float
    cyclic_ratio: float
    cyclic_ratio_interval: tuple[float, float]
    cyclic_ratio_null: float

    @property
    def is_game(self) -> bool:
        """Whether the cyclic ratio exceeds what noise alone would give: otherwise, say "no game"."""
        return self.cyclic_ratio > self.cyclic_ratio_null

    def called(self, threshold: float = CALLED_FROM) -> tuple[int, ...]:
        """Return the strategies that are played in at least this fraction of the resamples."""
        return tuple(int(i) for i in np.flatnonzero(self.support_frequency >= threshold))


def select_equilibrium(payoff: Any) -> Array:
    """Choose one symmetric equilibrium by a fixed rule: stable ones first, then the highest payoff x·Ax.

    Args:
        payoff: (n, n). Up to 10 strategies all equilibria are compared; above, the replicator's limit from equal
            shares is taken (its mean over time, if it does not come to rest), and solved exactly on its support.

    Returns:
        (n,) shares.

    Raises:
        ArenaError: the payoff is not square.

    Example:
        >>> select_equilibrium([[4, 0], [3, 3]]).tolist()
        [1.0, 0.0]
    """
    matrix = square(payoff)
    n = len(matrix)
    if n <= ENUMERATION_LIMIT:
        candidates = list(symmetric_equilibria(matrix))
        stable = [x for x in candidates if is_evolutionarily_stable(matrix, x)]
        return max(stable or candidates, key=lambda x: float(x @ matrix @ x))
    unit = (matrix - matrix.min()) / max(float(np.ptp(matrix)), 1e-300)
    path = replicator(unit, np.full(n, 1 / n), np.linspace(0, 500, 501), max_step=0.1)
    end = path[-1] if np.abs(path[-1] - path[-50]).max() < 1e-4 else path[250:].mean(axis=0)
    # Shares that still shrink are told from small ones by trying: the exact solution must be an equilibrium.
    for threshold in np.unique(end[end < end.max()])[::-1]:
        if threshold < 0.1:
            x = on_support(unit, np.flatnonzero(end > threshold))
            if x is not None:
                return x
    x = on_support(unit, np.arange(n))
    return np.asarray(end) if x is None else x


def bootstrap(
    payoffs: Any,
    *,
    resamples: int = 300,
    seed: int = 0,
    confidence: float = 0.95,
    solve: Callable[[Array], Any] = select_equilibrium,
) -> Bootstrap:
    """Resample noisy payoff matrices, solve each mean, and count which strategies stay in the support.

    Args:
        payoffs: (windows, n, n), at least 2 independent measurements of the same game.
        resamples: number of resamples.
        seed: seed of the resamples.
        confidence: of the percentile intervals.
        solve: payoff (n, n) → shares (n,).

    Returns:
        Frequencies and intervals.

    Raises:
        ArenaError: fewer than two windows, matrices that are not square, or a ``solve`` that raises or gives other
            than n finite shares.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (8, 2, 2))
        >>> found = bootstrap(np.array([[-0.5, 2], [0, 1]]) + noise, resamples=50)
        >>> found.support_frequency.tolist(), found.called()
        ([1.0, 1.0], (0, 1))
    """
    samples = finite_array(payoffs, "payoffs", 3)
    windows, n = samples.shape[:2]
    if samples.shape[2] != n:
        raise ArenaError(f"payoffs has shape {samples.shape}; give (windows, n, n)")
    if windows < 2:
        raise ArenaError("one window has no spread to resample; measure the payoffs in at least 2, better 8")
    certainty(resamples, confidence, 1)
    rng = random(seed)
    mean = samples.mean(axis=0)
    # Removing the mean's antisymmetric part (up to constants in columns) leaves the same noise around a potential.
    centred = mean - mean.mean(axis=0)
    centred = centred - centred.mean(axis=1, keepdims=True)
    without_cycles = samples - (centred - centred.T) / 2

    def solved(payoff: Array) -> Array:
        x = finite_array(ask(solve, "solve", payoff), "the answer of solve", 1)
        if len(x) != n:
            raise ArenaError(f"solve returned {len(x)} shares for {n} strategies; return one each")
        return x

    shares, ratios, null = [], [], []
    for _ in range(resamples):
        rows = rng.integers(windows, size=windows)
        resample = samples[rows].mean(axis=0)
        shares.append(solved(resample))
        ratios.append(cyclic_ratio(resample))
        null.append(cyclic_ratio(without_cycles[rows].mean(axis=0)))
    tail = (1 - confidence) / 2 * 100
    in_support = np.array(shares) > 1e-6
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Bootstrap(
        resamples=resamples,
        windows=windows,
        shares=np.mean(shares, axis=0),
        shares_interval=np.percentile(shares, [tail, 100 - tail], axis=0),
        support_frequency=in_support.mean(axis=0),
        same_support=float((in_support == (solved(mean) > 1e-6)).all(axis=1).mean()),
        cyclic_ratio=cyclic_ratio(mean),
        cyclic_ratio_interval=(float(low), float(high)),
        cyclic_ratio_null=float(np.percentile(null, 100 * confidence)),
    )
