"""One divisible good and utilities that were measured at equal steps of it: the best division, its price, an auction.

A utility is a row of values at shares 0, 1/k, 2/k, …, 1, straight between them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, finite_array

_HALVINGS = 200


class BestDivision(NamedTuple):
    """The division that a planner would make.

    Attributes:
        shares: [n], multiples of 1/k, summing to at most 1: what would harm whoever got it is left over.
        welfare: the sum of the utilities there.
    """

    shares: Array
    welfare: float


class Auction(NamedTuple):
    """The equilibrium of a proportional-share auction.

    Attributes:
        shares: [n], summing to 1; to less where the price is 0, as nobody wants the rest.
        price: the sum of the bids; each pays its part.
        gap: what the best other bid would earn somebody, at most; 0 in equilibrium, and for concave utilities.
    """

    shares: Array
    price: float
    gap: float


def best_division(values: Any) -> BestDivision:
    """Find the division of the good with the largest sum of utilities, whatever their form.

    The steps are handed out by dynamic programming. Between them utilities are straight, so no other division, of
    multiples of 1/k or not, is better.

    Args:
        values: [n, k + 1], the utilities.

    Returns:
        The division; of several, the one that gives the earlier ones more, and hands out least.

    Raises:
        ArenaError: values that are no table of finite numbers with two columns or more.

    Example:
        >>> best_division([[0.0, 1.0, 1.5], [0.0, 0.8, 2.0]])  # all to the second: 2 is more than 1.8
        BestDivision(shares=array([0., 1.]), welfare=2.0)
    """
    table = _table(values)
    steps = table.shape[1] - 1
    best, choices = np.zeros(steps + 1), []
    for row in table:
        # [total, part]: what this one and those before reach with so many steps in all.
        total, part = np.indices((steps + 1, steps + 1))
        reached = np.where(part <= total, best[np.maximum(total - part, 0)] + row[part], -np.inf)
        choices.append(reached.argmax(axis=1))
        best = reached.max(axis=1)
    left, units = int(best.argmax()), []
    for choice in reversed(choices):
        units.append(int(choice[left]))
        left -= units[-1]
    return BestDivision(np.array(units[::-1]) / steps, float(best.max()))


def price_of_division(values: Any) -> float:
    """Compute the price at which the concave hulls of the utilities together demand the whole good.

    It is the opportunity cost of the good: what the last piece of it is worth where it is worth most. For concave
    utilities everybody who buys at this price gets what :func:`best_division` gives.

    Args:
        values: [n, k + 1], the utilities.

    Returns:
        The price of the whole good, at least 0; 0 where nobody wants the last of it.

    Example:
        >>> price_of_division([[0.0, 1.0, 1.5], [0.0, 0.8, 1.0]])  # one step each: a third is worth 0.5, so 1 the whole
        1.0
    """
    table = _table(values)
    slopes, widths = [], []
    for row in table:
        corners = _hull(row)
        slopes.append(np.diff(row[corners]) / np.diff(corners))
        widths.append(np.diff(corners))
    slope, width = np.concatenate(slopes), np.concatenate(widths)
    order = np.argsort(-slope)
    # Where the whole is just given out, anything down to the next slope clears; the next one's is what a piece more
    # would bring.
    last = int(np.searchsorted(np.cumsum(width[order]), table.shape[1] - 1, side="right"))
    if last == len(order):
        return 0.0
    return max(float(slope[order[last]]) * (table.shape[1] - 1), 0.0)


def proportional_share_of(values: Any) -> Auction:
    """Solve the auction in which everybody pays a bid and gets bid / Σ bids, for measured utilities.

    In its Nash equilibrium u'(x)·(1 − x) is the price for everybody who has a share x: to the left of x it is more, to
    the right less. It is computed for the utilities' concave hulls, which have exactly one; ``gap`` says whether it is
    one of the utilities as they are.

    Args:
        values: [n, k + 1], the utilities.

    Returns:
        The equilibrium.

    Raises:
        ArenaError: values that are no table, or a single bidder.

    Example:
        >>> outcome = proportional_share_of([[0.0, 3.0], [0.0, 1.0]])  # straight: 3(1 − x) = 1(1 − y), x + y = 1
        >>> outcome.shares.round(6).tolist(), round(outcome.price, 6)
        ([0.75, 0.25], 0.75)

    Source: Kelly 1997; the equilibrium: Johari and Tsitsiklis 2004, Theorem 2. Its welfare is at least 3/4 of the best
    (their Theorem 3) where utilities are concave, rise and begin at 0.
    """
    table = _table(values)
    if len(table) < 2:
        raise ArenaError("proportional_share_of: there is one bidder; give the values of two or more")
    steps = table.shape[1] - 1
    hulls = [(corners / steps, row[corners]) for row in table for corners in (_hull(row),)]

    def demand(price: float) -> Array:
        return np.array([_demand(*hull, price) for hull in hulls])

    low, high = 0.0, max(float((np.diff(row) / np.diff(at)).max()) for at, row in hulls)
    if demand(0.0).sum() <= 1 or high <= 0:
        price, shares = 0.0, demand(0.0)
    else:
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if demand(middle).sum() >= 1 else (low, middle)
        price, shares = high, demand(high)
        # A share where the demand jumps is any between; the rest goes to those who are indifferent there.
        rest, upper = 1 - shares.sum(), demand(low)
        jump = upper - shares
        shares = shares + (rest * jump / jump.sum() if jump.sum() > 0 else rest * shares / shares.sum())
    return Auction(shares, price, _gap(table, shares, price))


def _demand(at: Array, values: Array, price: float) -> float:
    """The largest x with u'(x)·(1 − x) at least the price, left of x."""
    slopes = np.diff(values) / np.diff(at)
    starts = (slopes > 0) & (slopes * (1 - at[:-1]) > price)
    if not starts.any():
        return 0.0
    last = int(np.flatnonzero(starts)[-1])
    return float(min(at[last + 1], 1 - price / slopes[last]))


def _gap(table: Array, shares: Array, price: float) -> float:
    """What the best other bid would earn somebody: to have x, beside bids b of the others, costs b·x / (1 − x)."""
    at = np.linspace(0, 1, table.shape[1])
    fine = np.linspace(0, 1, 20 * (table.shape[1] - 1) + 1)[:-1]
    gains = []
    for share, row in zip(shares, table, strict=True):
        others = price * (1 - share)
        now = np.interp(share, at, row) - price * share
        gains.append((np.interp(fine, at, row) - others * fine / (1 - fine)).max() - now)
    return max(float(np.max(gains)), 0.0)


def _hull(row: Array) -> Array:
    """The corners of the least concave function above a row."""
    corners: list[int] = []
    for point in range(len(row)):
        while len(corners) > 1:
            first, middle = corners[-2:]
            if (row[middle] - row[first]) * (point - first) > (row[point] - row[first]) * (middle - first):
                break
            corners.pop()
        corners.append(point)
    return np.array(corners)


def _table(values: Any) -> Array:
    table = finite_array(values, "values", 2)
    if table.shape[1] < 2:
        raise ArenaError(f"values have shape {table.shape}; give each utility at shares 0, 1/k, …, 1")
    return table
