"""One divisible good: the best division against brute force, its price by duality, the auction against closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from arena_jax import equilibria
from arena_jax.config.errors import ArenaError

tables = st.tuples(st.integers(2, 4), st.integers(1, 6), st.integers(0, 10**6)).map(
    lambda t: np.random.default_rng(t[2]).normal(size=(t[0], t[1] + 1)).cumsum(axis=1)
)


def concave(seed, models=3, steps=8):
    """Utilities that begin at 0, rise and bend down."""
    slopes = np.sort(np.random.default_rng(seed).exponential(size=(models, steps)), axis=1)[:, ::-1]
    return np.concatenate([np.zeros((models, 1)), slopes.cumsum(axis=1)], axis=1)


@settings(max_examples=60)
@given(tables)
def test_the_best_division_is_the_best_of_all(values):
    models, steps = len(values), values.shape[1] - 1
    welfare = {
        units: sum(values[i, unit] for i, unit in enumerate(units))
        for units in itertools.product(range(steps + 1), repeat=models)
        if sum(units) <= steps
    }
    best = equilibria.best_division(values)
    assert best.welfare == pytest.approx(max(welfare.values()), abs=1e-12)
    assert welfare[tuple(np.round(best.shares * steps).astype(int))] == pytest.approx(best.welfare, abs=1e-12)


@settings(max_examples=60)
@given(tables)
def test_the_price_is_the_multiplier_of_the_hulls_program(values):
    """Reference: scipy's linear programme over convex combinations of the grid's points, and its dual."""
    models, points = values.shape
    at = np.tile(np.linspace(0, 1, points), models)
    one_each = np.kron(np.eye(models), np.ones(points))
    answer = optimize.linprog(
        -values.ravel(), A_ub=at[None], b_ub=[1.0], A_eq=one_each, b_eq=np.ones(models), method="highs"
    )
    price = equilibria.price_of_division(values)

    def dual(p):
        return p + sum((row - p * np.linspace(0, 1, points)).max() for row in values)

    assert dual(price) == pytest.approx(-answer.fun, abs=1e-9)


def test_the_price_is_what_a_piece_more_would_bring():
    """Sold are the pieces that are worth 1 and 0.8; the next is worth 0.5, so 1.0 as a price of the whole."""
    assert equilibria.price_of_division([[0.0, 1.0, 1.5], [0.0, 0.8, 1.0]]) == 1.0


@pytest.mark.parametrize("weights", [[3.0, 1.0], [1.0, 1.0, 1.0], [5.0, 2.0, 0.5, 0.1]])
def test_the_auction_of_logarithms_is_that_of_the_closed_form(weights):
    """Many small steps of w·log(1 + 1000x): near enough to the smooth condition w·1000(1−x)/(1+1000x) = price."""
    steps = 4000
    at = np.linspace(0, 1, steps + 1)
    outcome = equilibria.proportional_share_of([w * np.log1p(1000 * at) for w in weights])

    def shares(price):
        return np.array([max((1000 * w - price) / (1000 * (price + w)), 0) for w in weights])

    price = optimize.brentq(lambda p: shares(p).sum() - 1, 1e-9, 1e6)
    np.testing.assert_allclose(outcome.shares, shares(price), atol=2 / steps)
    assert outcome.price == pytest.approx(price, rel=0.01)
    assert outcome.gap < 1e-4


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 8))
def test_nobody_gains_by_another_bid_and_three_quarters_of_the_welfare_are_sure(seed, models, steps):
    """Johari and Tsitsiklis 2004: the efficiency loss of the auction is at most a quarter."""
    values = concave(seed, models, steps)
    outcome = equilibria.proportional_share_of(values)
    assert outcome.shares.sum() == pytest.approx(1, abs=1e-9)
    assert (outcome.shares >= 0).all()
    assert outcome.gap < 1e-7
    at = np.linspace(0, 1, steps + 1)
    welfare = sum(np.interp(share, at, row) for share, row in zip(outcome.shares, values, strict=True))
    assert 0.75 - 1e-9 <= welfare / equilibria.best_division(values).welfare <= 1 + 1e-9


def test_the_worst_case_of_the_auction_is_reached():
    """Their worst case: one linear utility of slope 1, very many of slope 1/2."""
    values = np.array([[0.0, 1.0], *[[0.0, 0.5]] * 200])
    outcome = equilibria.proportional_share_of(values)
    assert (outcome.shares * values[:, 1]).sum() == pytest.approx(0.75, abs=0.002)


def test_where_nobody_wants_more_the_price_is_zero():
    values = [[0.0, 1.0, 1.0, 1.0, 0.9], [0.0, 1.0, 1.0, 0.5, 0.4]]
    outcome = equilibria.proportional_share_of(values)
    assert outcome == (pytest.approx([0.25, 0.25]), 0.0, 0.0)
    assert equilibria.price_of_division(values) == 0
    np.testing.assert_allclose(equilibria.best_division(values).shares, 0.25)


@settings(max_examples=40)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 10**6))
def test_pure_equilibria_are_those_of_brute_force(players, strategies, seed):
    payoffs = np.random.default_rng(seed).integers(0, 4, (players, *[strategies] * players)).astype(float)
    expected = []
    for profile in itertools.product(range(strategies), repeat=players):
        others = [(*profile[:i], s, *profile[i + 1 :]) for i in range(players) for s in range(strategies)]
        gains = [payoffs[k // strategies][o] > payoffs[k // strategies][profile] for k, o in enumerate(others)]
        if not any(gains):
            expected.append(list(profile))
    assert equilibria.pure_equilibria(payoffs).tolist() == expected


@pytest.mark.filterwarnings("ignore")
def test_nashpy_has_the_same_pure_equilibria():
    nashpy = pytest.importorskip("nashpy", reason="nashpy is the independent reference of this test only")
    for seed in range(10):
        a, b = np.random.default_rng(seed).normal(size=(2, 3, 3))
        theirs = [(x, y) for x, y in nashpy.Game(a, b).support_enumeration() if x.max() == 1 and y.max() == 1]
        assert equilibria.pure_equilibria([a, b]).tolist() == sorted(
            [int(x.argmax()), int(y.argmax())] for x, y in theirs
        )


def test_tables_that_are_none_are_refused():
    with pytest.raises(ArenaError, match="give each utility at shares"):
        equilibria.best_division([[1.0], [2.0]])
    with pytest.raises(ArenaError, match="one bidder"):
        equilibria.proportional_share_of([[0.0, 1.0]])
