"""Everything that is known about the equilibria of one game, gathered and printed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_jax.equilibria.arguments import Array, finite_array, labels, square
from arena_jax.equilibria.dynamics import Basins, basins, replicator
from arena_jax.equilibria.logit import logit_equilibrium
from arena_jax.equilibria.nash import ENUMERATION_LIMIT, nash_gap, symmetric_equilibria
from arena_jax.equilibria.ranking import alpha_rank
from arena_jax.equilibria.stability import Stability, cyclic_ratio, is_evolutionarily_stable, jacobian_eigenvalues
from arena_jax.game.noise import CALLED_FROM, Bootstrap, bootstrap, select_equilibrium


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
                + ("above" if noise.is_game else "not above")
                + f" what noise alone gives ({noise.cyclic_ratio_null:.3f})"
                + ("" if noise.is_game else ": no game"),
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
    if temperatures is not None:
        temperatures = finite_array(temperatures, "temperatures", 1).tolist()
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
