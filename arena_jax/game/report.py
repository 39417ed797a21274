"""Everything that is known about the equilibria of one game, gathered and printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_jax.errors import ArenaError
from arena_jax.game._checks import Array, finite_array, labels, random, square
from arena_jax.game.alpha_rank import alpha_rank
from arena_jax.game.dynamics import Basins, basins, replicator
from arena_jax.game.logit import logit_equilibrium
from arena_jax.game.nash import ENUMERATION_LIMIT, nash_gap, symmetric_equilibria
from arena_jax.game.stability import Stability, cyclic_ratio, is_evolutionarily_stable, jacobian_eigenvalues

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
            shares is taken (its mean over time, if it does not come to rest).

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
    unit = 1.0 / max(float(np.ptp(matrix)), 1e-300)
    path = replicator(matrix * unit, np.full(n, 1 / n), np.linspace(0, 500, 501), max_step=0.1)
    end = path[-1] if np.abs(path[-1] - path[-50]).max() < 1e-4 else path[250:].mean(axis=0)
    end = np.where(end < 1e-4, 0.0, end)
    return np.asarray(end / end.sum())


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
        ArenaError: fewer than two windows, or matrices that are not square.

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
    if resamples < 1 or not 0 < confidence < 1:
        raise ArenaError(f"resamples {resamples}, confidence {confidence}; give at least 1, and a number in (0, 1)")
    rng = random(seed)
    mean = samples.mean(axis=0)
    # Removing the mean's antisymmetric part (up to constants in columns) leaves the same noise around a potential.
    centred = mean - mean.mean(axis=0)
    centred = centred - centred.mean(axis=1, keepdims=True)
    without_cycles = samples - (centred - centred.T) / 2
    shares, ratios, null = [], [], []
    for _ in range(resamples):
        rows = rng.integers(windows, size=windows)
        drawn = samples[rows].mean(axis=0)
        shares.append(np.asarray(solve(drawn), dtype=np.float64))
        ratios.append(cyclic_ratio(drawn))
        null.append(cyclic_ratio(without_cycles[rows].mean(axis=0)))
    tail = (1 - confidence) / 2 * 100
    played = np.array(shares) > 1e-6
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Bootstrap(
        resamples=resamples,
        windows=windows,
        shares=np.mean(shares, axis=0),
        shares_interval=np.percentile(shares, [tail, 100 - tail], axis=0),
        support_frequency=played.mean(axis=0),
        same_support=float((played == (np.asarray(solve(mean)) > 1e-6)).all(axis=1).mean()),
        cyclic_ratio=cyclic_ratio(mean),
        cyclic_ratio_interval=(float(low), float(high)),
        cyclic_ratio_null=float(np.percentile(null, 100 * confidence)),
    )


@dataclass(frozen=True)
class EquilibriumReport:
    """One game's equilibria and dynamics; ``print`` shows them, ``to_dict`` makes JSON of them.

    Attributes:
        names: (n) the strategies.
        x: (n,) the chosen equilibrium (``select_equilibrium``).
        support: its strategies.
        payoff: x·Ax.
        nash_gap: what the best reply gains over x.
        is_nash: whether the gap is below 1e-6 of the payoffs' range.
        is_ess: whether x is proved evolutionarily stable.
        ess_certificate: "pd", "copositive", "unverified" or "none".
        equilibria: (k, n) all symmetric equilibria (n ≤ 10), else x alone.
        stable: those of them that are evolutionarily stable, or unverified.
        cyclic_ratio: 0 = optimisation in disguise, 1 = purely cyclic.
        basins: where random starts end.
        limit_of: the replicator's end from a start near each pure strategy and from equal shares.
        jacobian_eigenvalues: (n − 1,) of the replicator at x.
        logit: {temperature: (n,) shares}.
        alpha_rank: (n,) stationary distribution of rare mutants.
        bootstrap: what survives the noise; None if one payoff matrix was given.
        method: how x was found.
        seconds: what it took.
    """

    names: tuple[str, ...]
    x: Array
    support: tuple[int, ...]
    payoff: float
    nash_gap: float
    is_nash: bool
    is_ess: bool
    ess_certificate: str
    equilibria: Array
    stable: tuple[Stability, ...]
    cyclic_ratio: float
    basins: Basins
    limit_of: dict[str, Array]
    jacobian_eigenvalues: np.ndarray
    logit: dict[float, Array]
    alpha_rank: Array
    bootstrap: Bootstrap | None
    method: str
    seconds: float

    @property
    def basin_share(self) -> float:
        """Fraction of random starts that end at x."""
        near = [np.abs(limit - self.x).max() < 2e-2 for limit in self.basins.limits]
        return float(sum(share for share, close in zip(self.basins.shares, near, strict=True) if close))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able content."""
        eigenvalues = [[float(value.real), float(value.imag)] for value in self.jacobian_eigenvalues]
        content: dict[str, Any] = {
            "names": list(self.names),
            "x": self.x.tolist(),
            "support": list(self.support),
            "payoff": self.payoff,
            "nash_gap": self.nash_gap,
            "is_nash": self.is_nash,
            "is_ess": self.is_ess,
            "ess_certificate": self.ess_certificate,
            "equilibria": self.equilibria.tolist(),
            "stable": [{"x": s.x.tolist(), "certificate": s.certificate} for s in self.stable],
            "cyclic_ratio": self.cyclic_ratio,
            "basin_share": self.basin_share,
            "basins": {
                "limits": self.basins.limits.tolist(),
                "shares": self.basins.shares.tolist(),
                "standard_errors": self.basins.standard_errors.tolist(),
                "moving": self.basins.moving,
                "starts": self.basins.starts,
            },
            "limit_of": {start: end.tolist() for start, end in self.limit_of.items()},
            "jacobian_eigenvalues": eigenvalues,
            "logit": {f"{tau:g}": shares.tolist() for tau, shares in self.logit.items()},
            "alpha_rank": self.alpha_rank.tolist(),
            "method": self.method,
            "seconds": self.seconds,
            "bootstrap": None,
        }
        if (noise := self.bootstrap) is not None:
            content["bootstrap"] = {
                k: v.tolist() if isinstance(v, np.ndarray) else list(v) if isinstance(v, tuple) else v
                for k, v in noise.__dict__.items()
            }
        return content

    def __str__(self) -> str:
        width = max(map(len, [*self.names, "strategy"]))
        temperatures = list(self.logit)
        noise = self.bootstrap
        head = f"{'strategy':<{width}} {'share':>7} {'α-rank':>7}" + "".join(f" τ={t:<6.3g}" for t in temperatures)
        lines = [head + (" in support" if noise else "")]
        for i, name in enumerate(self.names):
            row = f"{name:<{width}} {self.x[i]:>7.3f} {self.alpha_rank[i]:>7.3f}"
            row += "".join(f" {self.logit[t][i]:<8.3f}" for t in temperatures)
            lines.append(row + (f" {noise.support_frequency[i]:>9.0%}" if noise else ""))
        verdict = f"evolutionarily stable ({self.ess_certificate})" if self.is_ess else "not shown to be stable"
        lines += [
            f"payoff {self.payoff:.4g}, Nash gap {self.nash_gap:.2g}, {verdict}; {self.method}",
            f"{len(self.equilibria)} symmetric equilibria, {len(self.stable)} stable; this one attracts "
            f"{self.basin_share:.0%} of {self.basins.starts} starts, {self.basins.moving:.0%} never rest",
            f"cyclic ratio {self.cyclic_ratio:.3f} (0 = optimisation in disguise, 1 = purely cyclic)",
        ]
        if noise:
            low, high = noise.cyclic_ratio_interval
            called = ", ".join(self.names[i] for i in noise.called()) or "none"
            lines += [
                f"over {noise.resamples} resamples of {noise.windows} windows: cyclic ratio {low:.3f}–{high:.3f}, "
                + ("above" if noise.is_game else "not above: no game")
                + f" what noise alone gives ({noise.cyclic_ratio_null:.3f})",
                f"in the support in at least {CALLED_FROM:.0%} of them: {called}",
            ]
        return "\n".join([*lines, f"{self.seconds:.2f} s"])


def analyze(
    payoff: Any,
    *,
    names: Sequence[str] | None = None,
    temperatures: Sequence[float] | None = None,
    starts: int = 200,
    resamples: int = 300,
    seed: int = 0,
) -> EquilibriumReport:
    """Analyse one population game: equilibria, stability, dynamics, and what survives noise.

    Args:
        payoff: (n, n), or (windows, n, n) noisy measurements of it, whose mean is analysed and bootstrapped.
        names: the strategies' names.
        temperatures: of the logit equilibria, in units of the payoff. Default: 1, 1/3 and 1/10 of its range.
        starts: random starts for the basins.
        resamples: bootstrap resamples.
        seed: seed of starts and resamples.

    Returns:
        The report.

    Raises:
        ArenaError: a payoff of another shape, or names that do not fit.

    Example:
        >>> report = analyze([[-0.5, 2], [0, 1]], names=["hawk", "dove"])
        >>> report.x.round(6).tolist(), report.is_ess, report.ess_certificate, report.basin_share
        ([0.666667, 0.333333], True, 'pd', 1.0)
    """
    began = time.perf_counter()
    measured = finite_array(payoff, "payoff", (2, 3))
    matrix = square(measured if measured.ndim == 2 else measured.mean(axis=0))
    n = len(matrix)
    chosen_names = labels(names, n)
    spread = float(np.ptp(matrix)) or 1.0
    if temperatures is None:
        temperatures = [spread, spread / 3, spread / 10]
    x = select_equilibrium(matrix)
    exhaustive = n <= ENUMERATION_LIMIT
    equilibria = symmetric_equilibria(matrix) if exhaustive else x[None]
    verdicts = [is_evolutionarily_stable(matrix, state) for state in equilibria]
    verdict = is_evolutionarily_stable(matrix, x)
    near_pure = 0.98 * np.eye(n) + 0.02 / n
    origins = np.vstack([near_pure, np.full(n, 1 / n)])
    ends = replicator(matrix / spread, origins, [0.0, 400.0], max_step=0.1)[:, -1]
    gap = nash_gap(matrix, x)
    return EquilibriumReport(
        names=chosen_names,
        x=x,
        support=tuple(int(i) for i in np.flatnonzero(x > 1e-7)),
        payoff=float(x @ matrix @ x),
        nash_gap=gap,
        is_nash=gap <= 1e-6 * spread,
        is_ess=bool(verdict),
        ess_certificate=verdict.certificate,
        equilibria=equilibria,
        stable=tuple(v for v in verdicts if v.certificate != "none"),
        cyclic_ratio=cyclic_ratio(matrix),
        basins=basins(matrix, starts=starts, seed=seed),
        limit_of=dict(zip([*chosen_names, "equal shares"], ends, strict=True)),
        jacobian_eigenvalues=jacobian_eigenvalues(matrix, x),
        logit={float(t): logit_equilibrium(matrix, float(t)) for t in temperatures},
        alpha_rank=alpha_rank(matrix),
        bootstrap=bootstrap(measured, resamples=resamples, seed=seed) if measured.ndim == 3 else None,
        method="support enumeration" if exhaustive else "replicator from equal shares",
        seconds=time.perf_counter() - began,
    )
