"""Markets for something divisible: two auctions, and the competitive equilibrium of equal or unequal budgets.

All are traceable: a policy of the arena calls them inside ``jit``, with the float type of what it is given.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import as_floats

_HALVINGS = 100  # of a bracket that spans the floats' exponents: down to the last digit of float64
_ROUNDS = 2000


class ProportionalShare(NamedTuple):
    """The equilibrium of a proportional-share auction.

    Attributes:
        shares: [n], summing to 1.
        bids: [n], what each pays; shares are bids / Σ bids.
        price: Σ bids, of the whole.
    """

    shares: jax.Array
    bids: jax.Array
    price: jax.Array


class SecondPrice(NamedTuple):
    """The outcome of a second-price auction of equal units.

    Attributes:
        units: [n], how many each has won; fractions where bidders tie.
        payments: [n], what the others would have gained had this bidder stayed away.
    """

    units: jax.Array
    payments: jax.Array


class FisherMarket(NamedTuple):
    """A competitive equilibrium.

    Attributes:
        allocation: [buyers, goods], parts of each good; every column sums to 1.
        prices: [goods]; they sum to the budgets.
        gap: how far the worst buyer is from the best that the prices allow, relative to it; 0 in equilibrium.
    """

    allocation: jax.Array
    prices: jax.Array
    gap: jax.Array


def proportional_share(values: ArrayLike, budgets: ArrayLike = jnp.inf) -> ProportionalShare:
    """Solve the auction in which everybody pays a bid and gets bid / Σ bids, for utilities value · log(share) − bid.

    In its Nash equilibrium value·(1 − share) / share = price for everybody whose budget does not bind, so that
    share = min(value / (value + price), budget / price); the price is where the shares sum to 1. Bidders who know that
    their bid moves the price shade it: the largest value gets less than its part of all values.

    Args:
        values: [n], positive; n is at least 2 (one bidder alone bids nothing).
        budgets: [n] or a number, positive: the most that each can bid.

    Returns:
        The one equilibrium.

    Raises:
        ArenaError: values or budgets that are not positive, or a single bidder.

    Example:
        >>> outcome = proportional_share([3.0, 1.0])
        >>> print([f"{share:.3f}" for share in outcome.shares], f"{outcome.price:.3f}")  # of the values: 0.75 and 0.25
        ['0.634', '0.366'] 1.732

    Source: Kelly 1997; the equilibrium: Johari and Tsitsiklis 2004, Theorem 2.
    """
    value, budget = _positive(values, "values"), _positive(budgets, "budgets", infinite=True)
    if value.ndim != 1 or value.shape[0] < 2:
        raise ArenaError(
            f"proportional_share: values have shape {value.shape}; give one number each of two bidders or more"
        )

    def shares(price: jax.Array) -> jax.Array:
        return jnp.minimum(value / (value + price), budget / price)

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        enough = jnp.sum(shares(middle)) >= 1
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    # At the least value or budget every share is a half or more; at the sum of the values they sum to less than 1.
    bracket = (jnp.minimum(jnp.min(value), jnp.min(budget)), jnp.sum(value))
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, bracket)
    price = jnp.sqrt(low) * jnp.sqrt(high)
    result = shares(price)
    result = result / jnp.sum(result)
    return ProportionalShare(result, result * price, price)


def second_price(marginal_values: ArrayLike, units: int) -> SecondPrice:
    """Sell equal units to whoever values them most, at the price of what the others lose by it (Vickrey's auction).

    The units go to the highest marginal values; those that tie for the last are divided among them. Nobody gains by
    bidding anything but the truth, whatever the others do.

    Args:
        marginal_values: [n, k], positive, what each bidder's 1st, 2nd, … unit is worth to it; each row falls.
        units: how many are sold, at most n·k.

    Returns:
        Units, fractions where bidders tie, and payments.

    Raises:
        ArenaError: values that are not positive, rows that rise, or more units than bids.

    Example:
        >>> outcome = second_price([[10.0, 6.0], [8.0, 1.0]], 2)  # the first one's 10 and the second one's 8
        >>> print(outcome.units, outcome.payments)  # without the first one, the second would also have had its 1
        [1. 1.] [1. 6.]

    Source: Vickrey 1961; Clarke 1971.
    """
    values = _positive(marginal_values, "marginal_values")
    if values.ndim != 2 or not 1 <= units <= values.size:
        raise ArenaError(f"second_price: {units} units for bids of shape {values.shape}; give [bidders, units] of bids")
    if not isinstance(values, jax.core.Tracer) and (np.diff(np.asarray(values), axis=1) > 0).any():
        raise ArenaError(
            "second_price: marginal values rise along a row; another unit is worth at most what the last is"
        )
    last = jax.lax.top_k(values.reshape(-1), units)[0][-1]
    above, tied = jnp.sum(values > last, axis=1), jnp.sum(values == last, axis=1)
    result = above + tied * (units - jnp.sum(above)) / jnp.sum(tied)
    worth = jnp.sum(jnp.where(values > last, values, 0), axis=1) + (result - above) * last

    def without(bidder: jax.Array) -> jax.Array:
        others = jnp.where(jnp.arange(len(values))[:, None] == bidder, 0, values)
        return jnp.sum(jax.lax.top_k(others.reshape(-1), units)[0]) - (jnp.sum(worth) - worth[bidder])

    return SecondPrice(result, jax.vmap(without)(jnp.arange(len(values))))


def fisher_market(utilities: ArrayLike, budgets: ArrayLike = 1.0) -> FisherMarket:
    """Find prices at which buyers with budgets and linear utilities together want exactly what there is of each good.

    It is the optimum of Eisenberg and Gale's program, max Σ B_i·log(Σ_j u_ij x_ij) with Σ_i x_ij = 1: efficient,
    and with equal budgets nobody would rather have what another got, or an equal part of everything. Found by
    proportional response: each buyer divides its budget as the goods contributed to what it had.

    Args:
        utilities: [buyers, goods], not negative; each buyer wants something, each good somebody.
        budgets: [buyers] or a number, positive.

    Returns:
        Allocation, prices, and how far from equilibrium they are. Prices are unique, the allocation need not be: this
        one is reached from budgets that are spent as goods are valued.

    Raises:
        ArenaError: negative utilities, a buyer who wants nothing, or a good that nobody wants.

    Example:
        >>> market = fisher_market([[2.0, 1.0], [1.0, 2.0]])
        >>> print(market.allocation.round(3).tolist(), market.prices.round(3))
        [[1.0, 0.0], [0.0, 1.0]] [1. 1.]

    Source: Eisenberg and Gale 1959; proportional response: Wu and Zhang 2007.
    """
    utility = as_floats(utilities)
    if utility.ndim != 2:
        raise ArenaError(f"fisher_market: utilities have shape {utility.shape}; give [buyers, goods]")
    if not isinstance(utility, jax.core.Tracer):
        there = np.asarray(utility)
        if not (
            np.isfinite(there).all() and (there >= 0).all() and (there > 0).any(0).all() and (there > 0).any(1).all()
        ):
            raise ArenaError(
                "fisher_market: utilities must be finite and not negative; each buyer must want a good, and each good "
                "be wanted"
            )
    budget = jnp.broadcast_to(_positive(budgets, "budgets").astype(utility.dtype), utility.shape[:1])
    utility = utility / jnp.max(utility, axis=1, keepdims=True)  # a buyer's own unit does not matter

    def respond(_: int, bids: jax.Array) -> jax.Array:
        gains = utility * bids / jnp.maximum(jnp.sum(bids, axis=0, keepdims=True), jnp.finfo(bids.dtype).tiny)
        return budget[:, None] * gains / jnp.sum(gains, axis=1, keepdims=True)

    bids = budget[:, None] * utility / jnp.sum(utility, axis=1, keepdims=True)
    bids = jax.lax.fori_loop(0, _ROUNDS, respond, bids)
    prices = jnp.sum(bids, axis=0, keepdims=True)
    allocation = bids / prices
    best = budget * jnp.max(utility / prices, axis=1)
    return FisherMarket(allocation, prices[0], jnp.max(1 - jnp.sum(utility * allocation, axis=1) / best))


def _positive(values: ArrayLike, name: str, *, infinite: bool = False) -> jax.Array:
    """Floats above 0; those that are traced are taken on trust."""
    array = as_floats(values)
    if not isinstance(array, jax.core.Tracer):
        there = np.asarray(array)
        if not there.size or not (there > 0).all() or not (infinite or np.isfinite(there).all()):
            raise ArenaError(f"{name} are {there.tolist()}; each must be above 0")
    return array
