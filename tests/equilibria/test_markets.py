"""Markets against definitions: best responses, brute force, and the convex program solved by scipy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria import fisher_market, proportional_share, second_price

positive = st.floats(0.01, 10)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(positive, min_size=2, max_size=5), budget=st.sampled_from([np.inf, 2.0, 0.3]))
def test_nobody_gains_by_another_bid(values, budget):
    with jax.enable_x64(True):
        outcome = jax.tree.map(np.asarray, proportional_share(np.array(values), np.full(len(values), budget)))
    assert outcome.shares.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(outcome.bids / outcome.bids.sum(), outcome.shares, atol=1e-14)
    assert (outcome.bids <= budget * (1 + 1e-12)).all()
    for value, bid in zip(values, outcome.bids, strict=True):
        others = outcome.bids.sum() - bid

        def loss(mine, value=value, others=others):
            return mine - value * np.log(mine / (mine + others))

        best = optimize.minimize_scalar(
            loss, bounds=(1e-9, min(budget, 4 * max(values))), method="bounded", options={"xatol": 1e-12}
        )
        assert loss(bid) <= best.fun + 1e-9


def test_two_bidders_in_closed_form():
    """v₁(1−x)/x = v₂x/(1−x), so that x/(1−x) = √(v₁/v₂)."""
    with jax.enable_x64(True):
        shares = np.asarray(proportional_share([4.0, 1.0]).shares)
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3], atol=1e-14)


def units_by_brute_force(values, units):
    splits = (split for split in itertools.product(range(units + 1), repeat=len(values)) if sum(split) == units)
    return max(splits, key=lambda split: sum(row[:k].sum() for row, k in zip(values, split, strict=True)))


@pytest.mark.parametrize("seed", range(5))
def test_units_go_where_they_are_worth_most_and_lies_do_not_pay(seed):
    random = np.random.default_rng(seed)
    values = -np.sort(-random.uniform(0.1, 1, (3, 4)), axis=1)

    def gain_of_first(bids):
        outcome = second_price(bids, 4)
        won = int(outcome.units[0])
        return values[0, :won].sum() - float(outcome.payments[0])

    with jax.enable_x64(True):
        outcome = jax.tree.map(np.asarray, second_price(values, 4))
        assert tuple(outcome.units) == units_by_brute_force(values, 4)
        for bidder in range(3):  # the payment by its definition
            others = np.delete(values, bidder, axis=0)
            without = sum(row[:k].sum() for row, k in zip(others, units_by_brute_force(others, 4), strict=True))
            others_units = np.delete(outcome.units, bidder).astype(int)
            with_it = sum(row[:k].sum() for row, k in zip(others, others_units, strict=True))
            assert outcome.payments[bidder] == pytest.approx(without - with_it, abs=1e-14)
        truth = gain_of_first(values)
        for _ in range(10):
            lie = values.copy()
            lie[0] = -np.sort(-random.uniform(0.1, 1, 4))
            assert gain_of_first(lie) <= truth + 1e-12


def test_ties_for_the_last_units_are_divided():
    outcome = second_price(jnp.array([[3.0, 1.0], [2.0, 1.0], [2.0, 0.5]]), 4)
    np.testing.assert_allclose(outcome.units, [1.5, 1.5, 1.0])


@pytest.mark.parametrize("seed", range(4))
def test_the_market_is_the_optimum_of_the_convex_program(seed):
    random = np.random.default_rng(seed)
    utilities, budgets = random.uniform(0.1, 1, (3, 4)), random.uniform(0.5, 2, 3)

    def objective(allocation):
        return -budgets @ np.log((utilities * allocation.reshape(3, 4)).sum(axis=1))

    reference = optimize.minimize(
        objective,
        np.full(12, 1 / 3),
        method="SLSQP",
        bounds=[(0, 1)] * 12,
        constraints={"type": "eq", "fun": lambda allocation: allocation.reshape(3, 4).sum(axis=0) - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    with jax.enable_x64(True):
        market = jax.tree.map(np.asarray, fisher_market(utilities, budgets))
    assert market.gap < 1e-12
    np.testing.assert_allclose(market.allocation.sum(axis=0), 1, atol=1e-12)
    assert market.prices.sum() == pytest.approx(budgets.sum(), abs=1e-12)
    assert objective(market.allocation.ravel()) == pytest.approx(reference.fun, abs=1e-12)


def test_with_equal_budgets_nobody_envies_anybody_or_equal_parts():
    utilities = np.random.default_rng(0).uniform(0, 1, (4, 6))
    with jax.enable_x64(True):
        allocation = np.asarray(fisher_market(utilities).allocation)
    worth = utilities @ allocation.T  # (i, j): what i would have of j's part
    own = np.diag(worth)
    assert (worth <= own[:, None] * (1 + 1e-9)).all()
    assert (own >= utilities.mean(axis=1) * 6 / 4 * (1 - 1e-9)).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: proportional_share([1.0]), "two bidders or more"),
        (lambda: proportional_share([1.0, 0.0]), "above 0"),
        (lambda: proportional_share([1.0, 1.0], [1.0, np.nan]), "budgets"),
        (lambda: second_price([[1.0, 2.0]], 1), "rise along a row"),
        (lambda: second_price([[2.0, 1.0]], 3), "3 units"),
        (lambda: fisher_market([1.0, 2.0]), r"give \[buyers, goods\]"),
        (lambda: fisher_market([[1.0, 0.0], [1.0, 0.0]]), "be wanted"),
    ],
)
def test_what_is_no_market_is_refused_in_one_line(wrong, message):
    with pytest.raises(ArenaError, match=message) as error:
        wrong()
    assert "\n" not in str(error.value)
