"""α-rank: how often an evolving population, or several, visit each strategy or profile."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, count, player_tables, real_number, square

STATE_LIMIT = 4096  # the chain is solved in the cube of this: about two minutes


def alpha_rank(payoffs: Any, population: int = 50, intensity: float = 0.1) -> Array:
    """Rank strategies by the stationary distribution of rare mutants that fixate or vanish.

    A mutant with advantage d takes over a population of m with probability ρ(d) = (1 − e^(−αd)) / (1 − e^(−αmd)), 1/m
    for d = 0. The chain jumps to each neighbour with probability ρ/η, η the number of neighbours. Probabilities
    are kept as logarithms and the chain is solved without subtractions, so ties and strong selection are no
    special cases.

    Args:
        payoffs: (n, n) for one population, where a mutant j among i has the advantage A[j, i] − A[i, j]; or a
            sequence of k tables (s₁, …, s_k), one per player, for k populations.
        population: m, individuals in each population.
        intensity: α ≥ 0, strength of selection per unit of payoff.

    Returns:
        (n,) or (s₁, …, s_k) probabilities.

    Raises:
        ArenaError: payoffs of other shapes, more than 4096 strategies or profiles, population below 2, or a negative
            intensity.

    Example:
        >>> hawk_dove = [[-0.5, 2], [0, 1]]
        >>> alpha_rank(hawk_dove, intensity=0.01).round(3).tolist()
        [0.727, 0.273]

    Source: Omidshafiei et al. 2019 (Scientific Reports 9, 9937), equations 6 and 12.
    """
    count(population, "population", "the number of individuals, of whom one is a mutant", 2)
    real_number(intensity, "intensity", "a finite number, at least 0", lambda x: 0 <= x < np.inf)
    try:
        one_population = np.ndim(payoffs) <= 2
    except ValueError:  # rows, or players' tables, of different shapes
        one_population = False
    if one_population:
        matrix = square(payoffs, "payoffs")
        _affordable(len(matrix))
        chain = _log_fixation(intensity * (matrix.T - matrix), population)
        return _stationary(chain)
    tables = player_tables(payoffs)
    shape = tables[0].shape
    _affordable(tables[0].size)
    profiles = np.argwhere(np.ones(shape, bool))
    states = len(profiles)
    chain = np.full((states, states), -np.inf)
    for player, (size, payoff) in enumerate(zip(shape, tables, strict=True)):
        flat = payoff.ravel()
        for strategy in range(size):
            deviation = profiles.copy()
            deviation[:, player] = strategy
            target: Array = np.asarray(np.ravel_multi_index(deviation.T, shape))
            source = np.flatnonzero(target != np.arange(states))
            gain = intensity * (flat[target[source]] - flat[source])
            chain[source, target[source]] = _log_fixation(gain, population)
    return _stationary(chain).reshape(shape)


def _affordable(states: int) -> None:
    if states > STATE_LIMIT:
        raise ArenaError(
            f"the chain over {states} strategies or profiles is too long to solve; the limit is {STATE_LIMIT}: "
            "leave out actions or players"
        )


def _log_fixation(gain: Array, population: int) -> Array:
    """ln ρ for a mutant with selective advantage ``gain`` (α included)."""
    size = np.abs(gain)
    tie = size * population < 1e-12
    safe = np.where(tie, 1.0, size)
    many = safe * population
    # ρ(d) for d > 0, and ρ(−d) = ρ(d) e^(−(m−1)d): no exponential can overflow.
    upward = np.log(-np.expm1(-safe)) - np.log(-np.expm1(-many))
    result = np.where(gain > 0, upward, upward - (population - 1) * safe)
    return np.where(tie, -np.log(population), result)


def _stationary(log_rates: Array) -> Array:
    """Stationary distribution from logarithms of rates (the diagonal is ignored)."""
    neighbours = log_rates[~np.eye(len(log_rates), dtype=bool)]
    if len(neighbours) == 0:
        return np.ones(1)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is seen and answered by the logarithms
        answer = _eliminate(np.exp(log_rates - neighbours.max()))
    return _eliminate_logs(log_rates) if answer is None else answer


def _eliminate(rates: Array) -> Array | None:
    """Grassmann–Taksar–Heyman elimination: only sums, products and quotients of positive numbers.

    Returns None when a state's way out has underflowed.
    """
    p = rates.copy()
    n = len(p)
    for k in range(n - 1, 0, -1):
        out = p[k, :k].sum()
        if out < 1e-290:
            return None
        p[:k, k] /= out
        p[:k, :k] += np.outer(p[:k, k], p[k, :k])
    weight = np.ones(n)
    for k in range(1, n):
        weight[k] = weight[:k] @ p[:k, k]
        if not np.isfinite(weight[k]):
            return None
    return weight / weight.sum()


def _eliminate_logs(log_rates: Array) -> Array:
    """Do the same with logarithms: slower, but never without an answer."""
    p = log_rates.copy()
    n = len(p)
    for k in range(n - 1, 0, -1):
        p[:k, k] -= np.logaddexp.reduce(p[k, :k])
        p[:k, :k] = np.logaddexp(p[:k, :k], p[:k, k][:, None] + p[k, :k])
    weight = np.zeros(n)
    for k in range(1, n):
        weight[k] = np.logaddexp.reduce(weight[:k] + p[:k, k])
    shares = np.exp(weight - weight.max())
    return np.asarray(shares / shares.sum())
