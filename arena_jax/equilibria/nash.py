"""Nash equilibria: symmetric ones, pure ones of any players, those of two players, and zero-sum games."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, distribution, finite_array, player_tables, square

ENUMERATION_LIMIT = 10
_TOLERANCE = 1e-9


def nash_gap(payoff: Any, x: Any) -> float:
    """Measure how much the best reply gains over x itself: max(Ax) − x·Ax, 0 exactly at a symmetric equilibrium.

    Args:
        payoff: (n, n).
        x: (n,) shares.

    Returns:
        The gain, in units of the payoff, at least 0.

    Raises:
        ArenaError: a payoff that is not square, or shares that are none.

    Example:
        >>> nash_gap([[-0.5, 2], [0, 1]], [1, 0])
        0.5
    """
    matrix = square(payoff)
    shares = distribution(x, len(matrix))
    if shares.ndim != 1:
        raise ArenaError(f"x has shape {shares.shape}; give one vector of shares")
    fitness = matrix @ shares
    return max(float(fitness.max() - shares @ fitness), 0.0)


def symmetric_equilibria(payoff: Any) -> Array:
    """Find the symmetric Nash equilibria of a game within one population, one for each support that has any.

    Every support is solved for equal payoffs; where the equations are singular, a linear programme finds the most
    interior equilibrium of that support, so that a continuum is represented once per face.

    Args:
        payoff: (n, n), n ≤ 10 (2ⁿ − 1 supports).

    Returns:
        (k, n) shares, small supports first; k ≥ 1.

    Raises:
        ArenaError: the payoff is not square, or n is above 10.

    Example:
        >>> hawk_dove = [[-0.5, 2], [0, 1]]
        >>> symmetric_equilibria(hawk_dove).round(6).tolist()
        [[0.666667, 0.333333]]
    """
    matrix = square(payoff)
    n = len(matrix)
    if n > ENUMERATION_LIMIT:
        raise ArenaError(
            f"support enumeration of {n} strategies is too long; the limit is {ENUMERATION_LIMIT}: "
            "group the strategies, or use game.analyze, which follows the dynamics instead"
        )
    unit = (matrix - matrix.min()) / max(float(np.ptp(matrix)), 1e-300)
    equilibria = []
    for size in range(1, n + 1):
        for support in combinations(range(n), size):
            x = on_support(unit, np.array(support))
            if x is not None:
                equilibria.append(x)
    return np.array(equilibria)


def on_support(matrix: Array, support: Array) -> Array | None:
    """Return the symmetric equilibrium with exactly this support, or None; payoffs between 0 and 1."""
    n, size = len(matrix), len(support)
    system, right = _indifference(matrix[np.ix_(support, support)])
    x = np.zeros(n)
    if np.linalg.cond(system) < 1e10:
        solution = np.linalg.solve(system, right)
        if solution[:size].min() <= _TOLERANCE:
            return None
        x[support] = solution[:size]
        level = solution[size]
    else:
        # Maximise t subject to x_i >= t on the support, equal payoffs there, no better payoff elsewhere.
        others = np.setdiff1d(np.arange(n), support)
        equal = np.hstack([system, np.zeros((size + 1, 1))])
        at_least = np.hstack([-np.eye(size), np.zeros((size, 1)), np.ones((size, 1))])
        no_better = np.hstack([matrix[np.ix_(others, support)], np.tile([-1.0, 0.0], (len(others), 1))])
        cost = np.zeros(size + 2)
        cost[-1] = -1.0
        answer = optimize.linprog(
            cost,
            A_ub=np.vstack([at_least, no_better]),
            b_ub=np.zeros(size + len(others)),
            A_eq=equal,
            b_eq=right,
            bounds=[(0, 1)] * size + [(None, None), (None, 1)],
            method="highs",
        )
        if answer.status != 0 or answer.x[-1] <= 1e-7:
            return None
        x[support] = answer.x[:size]
        level = answer.x[size]
    if (matrix @ x).max() > level + 1e-8:
        return None
    return x / x.sum()


def pure_equilibria(payoffs: Any, tolerance: float = 1e-12) -> Array:
    """Find the pure Nash equilibria of any number of players, by looking at every profile.

    Args:
        payoffs: k tables with k axes each; table i holds what player i earns, axis j is player j's strategy.
        tolerance: gains up to this part of the largest payoff are taken for rounding.

    Returns:
        (equilibria, k) strategies, in the order of the tables; none is possible.

    Raises:
        ArenaError: tables that are not one a player.

    Example:
        >>> pure_equilibria([[[3, 0], [0, 2]], [[2, 0], [0, 3]]]).tolist()  # the battle of the sexes
        [[0, 0], [1, 1]]
        >>> pure_equilibria([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]]).tolist()  # matching pennies
        []
    """
    tables = player_tables(payoffs)
    slack = tolerance * max(float(np.abs(table).max()) for table in tables)
    stable = np.ones(tables[0].shape, bool)
    for player, table in enumerate(tables):
        stable &= table >= table.max(axis=player, keepdims=True) - slack
    return np.argwhere(stable)


def bimatrix_equilibria(row: Any, column: Any) -> list[tuple[Array, Array]]:
    """Find the Nash equilibria of a two-player game by support enumeration (supports of equal size).

    All equilibria of a nondegenerate game; of a degenerate one, those with square non-singular supports.

    Args:
        row: (n, m) the row player's payoffs.
        column: (n, m) the column player's; at most 10 strategies each.

    Returns:
        Pairs of shares (n,), (m,), pure ones first.

    Raises:
        ArenaError: the two shapes differ, or there are more than 10 strategies.

    Example:
        >>> battle = bimatrix_equilibria([[3, 0], [0, 2]], [[2, 0], [0, 3]])
        >>> [(x.round(6).tolist(), y.round(6).tolist()) for x, y in battle]
        [([1.0, 0.0], [1.0, 0.0]), ([0.0, 1.0], [0.0, 1.0]), ([0.6, 0.4], [0.4, 0.6])]
    """
    a, b = finite_array(row, "row", 2), finite_array(column, "column", 2)
    if a.shape != b.shape:
        raise ArenaError(f"row has shape {a.shape} and column {b.shape}; both hold one payoff per pair of strategies")
    if max(a.shape) > ENUMERATION_LIMIT:
        raise ArenaError(f"support enumeration of {a.shape} strategies is too long; the limit is {ENUMERATION_LIMIT}")
    a = (a - a.min()) / max(float(np.ptp(a)), 1e-300)
    b = (b - b.min()) / max(float(np.ptp(b)), 1e-300)
    n, m = a.shape
    equilibria = []
    for size in range(1, min(n, m) + 1):
        for rows, columns in product(combinations(range(n), size), combinations(range(m), size)):
            y = _indifferent(a[np.ix_(rows, columns)])
            x = _indifferent(b[np.ix_(rows, columns)].T)
            if x is None or y is None:
                continue
            full_x, full_y = np.zeros(n), np.zeros(m)
            full_x[list(rows)], full_y[list(columns)] = x, y
            for_row, for_column = a @ full_y, b.T @ full_x
            best = for_row.max() - full_x @ for_row, for_column.max() - full_y @ for_column
            if max(best) < 1e-8:
                equilibria.append((full_x, full_y))
    return equilibria


def _indifferent(block: Array) -> Array | None:
    """Return positive shares of the columns that make all rows equally good, or None."""
    system, right = _indifference(block)
    if np.linalg.cond(system) > 1e10:
        return None
    solution = np.linalg.solve(system, right)[: len(block)]
    return solution if solution.min() > _TOLERANCE else None


def _indifference(block: Array) -> tuple[Array, Array]:
    """Return M, b such that M (shares, level) = b says: every row pays the level, and the shares sum to 1."""
    size = len(block)
    system, right = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
    system[:size, :size] = block
    system[:size, size] = -1.0
    system[size, :size] = right[size] = 1.0
    return system, right


class ZeroSum(NamedTuple):
    """The solution of a zero-sum game: what both should play, and what the row player then earns."""

    row: Array
    column: Array
    value: float


def zero_sum(payoff: Any) -> ZeroSum:
    """Solve a two-player zero-sum game: max over x of min over y of x'Ay, by one linear programme and its dual.

    Args:
        payoff: (n, m) what the row player earns and the column player loses.

    Returns:
        (row, column, value): shares (n,) and (m,), and the value of the game.

    Raises:
        ArenaError: a payoff that is not a matrix of finite numbers, or a programme that the solver gave up.

    Example:
        >>> x, y, value = zero_sum([[3, -1], [-2, 4]])
        >>> x.round(6).tolist(), y.round(6).tolist(), round(value, 6)
        ([0.6, 0.4], [0.5, 0.5], 1.0)
    """
    matrix = finite_array(payoff, "payoff", 2)
    n, m = matrix.shape
    low, spread = float(matrix.min()), max(float(np.ptp(matrix)), 1e-300)
    unit = (matrix - low) / spread
    # Variables: the row player's shares and the value; each column must leave at least the value.
    answer = optimize.linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.hstack([-unit.T, np.ones((m, 1))]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
        method="highs",
    )
    if answer.status != 0:
        raise ArenaError(f"the linear programme of this {n}x{m} game failed: {answer.message}; check its payoffs")
    x = np.maximum(answer.x[:n], 0.0)
    y = np.maximum(-answer.ineqlin.marginals, 0.0)
    x, y = x / x.sum(), y / y.sum()
    return ZeroSum(x, y, float(x @ matrix @ y))
