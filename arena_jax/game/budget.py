"""How components that learn at different speeds should share a budget of steps: a small quadratic programme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.equilibria.nash import nash_gap
from arena_jax.game.payoffs import potential_payoff


@dataclass(frozen=True)
class BudgetEquilibrium:
    """The equilibrium of the budget game.

    Attributes:
        shares: (n,) fractions of the budget.
        multipliers: (n,) budget × shares, the steps themselves.
        predicted_gain: b·m − ½ m'Cm at these multipliers.
        fitness: (n,) b − Cm: equal on the support, not larger elsewhere.
        gap: how far the best reply is above the mean fitness; 0 at an exact equilibrium.
        unique: whether C is positive definite along the simplex: then this is the only equilibrium, and stable.
    """

    shares: Array
    multipliers: Array
    predicted_gain: float
    fitness: Array
    gap: float
    unique: bool

    @property
    def support(self) -> tuple[int, ...]:
        """The components that get a share."""
        return tuple(int(i) for i in np.flatnonzero(self.shares > 0))


def budget_equilibrium(gain: Any, curvature: Any, budget: float) -> BudgetEquilibrium:
    """Maximise b·m − ½ m'Cm over m ≥ 0 with Σm = B; its shares are the potential game's equilibrium.

    Solved by an active-set search whose last step is an exact linear solve on the support; if C is not positive
    semidefinite along the simplex, from many starts, and the best local maximum is returned.

    Args:
        gain: (n,) b.
        curvature: (n, n) C, symmetric.
        budget: B > 0.

    Returns:
        The equilibrium, with its Karush–Kuhn–Tucker gap.

    Raises:
        ArenaError: shapes that do not fit, an asymmetric curvature, or a budget that is not positive.

    Example:
        >>> found = budget_equilibrium([1.0, 1.0, 0.1], [[1, 0, 0], [0, 3, 0], [0, 0, 1]], 0.4)
        >>> found.shares.round(6).tolist(), found.unique
        ([0.75, 0.25, 0.0], True)
    """
    payoff = potential_payoff(gain, curvature, budget)
    b = np.array(gain, dtype=np.float64)
    c = np.array(curvature, dtype=np.float64)
    c = (c + c.T) / 2
    n = len(b)
    scale = max(float(np.ptp(payoff)), 1e-300)
    slope, bend = b / scale, budget * c / scale
    spectrum = np.zeros(0)
    if n > 1:
        basis = np.linalg.qr(np.hstack([np.ones((n, 1)), np.eye(n)[:, : n - 1]]))[0][:, 1:]
        spectrum = np.linalg.eigvalsh(basis.T @ bend @ basis)
    concave = len(spectrum) == 0 or spectrum[0] > -1e-10
    starts = [np.full(n, 1 / n)]
    if not concave:
        starts += [0.9 * vertex + 0.1 / n for vertex in np.eye(n)]
        starts += list(np.random.default_rng(0).dirichlet(np.ones(n), size=4 * n))
    best, height = starts[0], -np.inf
    for start in starts:
        x = _climb(slope, bend, start)
        w = float(slope @ x - x @ bend @ x / 2)
        if w > height + 1e-12:
            best, height = x, w
    multipliers = budget * best
    return BudgetEquilibrium(
        shares=best,
        multipliers=multipliers,
        predicted_gain=float(b @ multipliers - multipliers @ c @ multipliers / 2),
        fitness=b - c @ multipliers,
        gap=nash_gap(payoff, best),
        unique=len(spectrum) == 0 or bool(spectrum[0] > 1e-10),
    )


def _climb(slope: Array, bend: Array, start: Array) -> Array:
    """Return a local maximum of slope·x − ½ x'(bend)x on the simplex."""
    answer = optimize.minimize(
        lambda x: x @ bend @ x / 2 - slope @ x,
        start,
        jac=lambda x: bend @ x - slope,
        bounds=[(0, 1)] * len(start),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    rough = np.clip(answer.x, 0, None)
    rough /= rough.sum()
    return _polish(slope, bend, rough)


def _polish(slope: Array, bend: Array, rough: Array) -> Array:
    """Solve equal fitness exactly on the support, dropping and adding members until the conditions hold."""
    n = len(rough)

    def gap(x: Array) -> float:
        fitness = slope - bend @ x
        return float(fitness.max() - fitness @ x)

    support = rough > 1e-6
    best = rough
    for _ in range(4 * n):
        index = np.flatnonzero(support)
        k = len(index)
        system = np.zeros((k + 1, k + 1))
        system[:k, :k] = bend[np.ix_(index, index)]
        system[:k, k] = system[k, :k] = 1.0
        solved = np.linalg.lstsq(system, np.append(slope[index], 1.0), rcond=1e-12)[0][:k]
        if solved.min() < 0 and k > 1:
            support[index[int(np.argmin(solved))]] = False
            continue
        x = np.zeros(n)
        x[index] = np.where(solved > 1e-12, solved, 0.0)
        if not x.sum() > 0:
            break
        x /= x.sum()
        if gap(x) < gap(best) + 1e-13:  # of two that are equally good, the solved one is the cleaner
            best = x
        fitness = slope - bend @ x
        outside = np.where(support, -np.inf, fitness)
        if outside.max() <= fitness[index].max() + 1e-13:
            break
        support[int(np.argmax(outside))] = True
    if gap(best) > 1e-6:
        raise ArenaError("the budget's quadratic programme did not converge; rescale gain and curvature")
    return best
