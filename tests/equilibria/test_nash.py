"""Nash equilibria against closed forms, nashpy, and brute force."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from arena_jax import equilibria
from arena_jax.config.errors import ArenaError


def test_nash_gap():
    hawk_dove = [[-0.5, 2], [0, 1]]
    assert equilibria.nash_gap(hawk_dove, [2 / 3, 1 / 3]) == pytest.approx(0, abs=1e-15)
    assert equilibria.nash_gap(hawk_dove, [0, 1]) == 1.0
    assert equilibria.nash_gap(hawk_dove, [1, 0]) == 0.5


@pytest.mark.parametrize(
    ("payoff", "expected"),
    [
        ([[-0.5, 2], [0, 1]], [[2 / 3, 1 / 3]]),  # hawk and dove, V=2, C=3
        ([[0.5, 4], [0, 2]], [[1, 0]]),  # V=4, C=3
        ([[3, 0], [5, 1]], [[0, 1]]),  # prisoner's dilemma
        ([[4, 0], [3, 3]], [[1, 0], [0, 1], [0.75, 0.25]]),  # stag hunt
        ([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], [[1 / 3] * 3]),  # rock, paper, scissors
        ([[5.0]], [[1.0]]),
    ],
)
def test_symmetric_equilibria_of_textbook_games(payoff, expected):
    np.testing.assert_allclose(equilibria.symmetric_equilibria(payoff), expected, atol=1e-9)


def test_coordination_has_one_equilibrium_for_every_support():
    """Closed form: of the identity game, the uniform shares on each of the 2ⁿ − 1 supports."""
    found = equilibria.symmetric_equilibria(np.eye(5))
    assert len(found) == 31
    for x in found:
        np.testing.assert_allclose(x[x > 0], 1 / (x > 0).sum(), atol=1e-9)


def test_a_degenerate_game_has_its_continuum_represented():
    found = equilibria.symmetric_equilibria(np.zeros((3, 3)))
    assert len(found) == 7  # every state is an equilibrium: one for each face
    np.testing.assert_allclose(found[-1], 1 / 3, atol=1e-9)
    # Two identical strategies: the mixtures of both are equilibria, too.
    twins = equilibria.symmetric_equilibria([[1, 1, 0], [1, 1, 0], [0, 0, 0.5]])
    assert {tuple(np.flatnonzero(x > 1e-9)) for x in twins} >= {(0,), (1,), (0, 1), (2,)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_random_games_have_an_equilibrium_and_all_are_ones(n, seed):
    """Nash 1951: a symmetric game has a symmetric equilibrium; in general position, an odd number of them."""
    payoff = np.random.default_rng(seed).normal(size=(n, n))
    found = equilibria.symmetric_equilibria(payoff)
    assert len(found) % 2 == 1
    for x in found:
        assert equilibria.nash_gap(payoff, x) < 1e-8
        assert x.sum() == pytest.approx(1)
        assert x.min() >= 0


def test_nashpy_finds_the_same_symmetric_equilibria():
    nashpy = pytest.importorskip("nashpy", reason="nashpy is the independent reference of this test only")
    for seed in range(6):
        payoff = np.random.default_rng(seed).normal(size=(4, 4))
        theirs = [x for x, y in nashpy.Game(payoff, payoff.T).vertex_enumeration() if np.allclose(x, y, atol=1e-9)]
        ours = equilibria.symmetric_equilibria(payoff)
        assert len(ours) == len(theirs)
        for x in theirs:
            assert np.abs(ours - x).max(axis=1).min() < 1e-9


def test_battle_of_the_sexes():
    pairs = equilibria.bimatrix_equilibria([[3, 0], [0, 2]], [[2, 0], [0, 3]])
    expected = [([1, 0], [1, 0]), ([0, 1], [0, 1]), ([0.6, 0.4], [0.4, 0.6])]
    np.testing.assert_allclose(np.array(pairs), np.array(expected), atol=1e-12)


def test_bimatrix_of_other_shapes_has_an_odd_number():
    """Lemke and Howson 1964: in general position the number is odd; each is checked by its best replies."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
        pairs = equilibria.bimatrix_equilibria(a, b)
        assert len(pairs) % 2 == 1
        for x, y in pairs:
            assert (a @ y).max() == pytest.approx(x @ a @ y)
            assert (b.T @ x).max() == pytest.approx(x @ b @ y)


def morra(fingers):
    """Show and call: who alone calls the sum wins it."""
    moves = [(show, call) for show in range(1, fingers + 1) for call in range(1, fingers + 1)]

    def score(a, b):
        return (a[1] == b[0]) * (a[0] + b[0])

    return np.array([[score(a, b) - score(b, a) for b in moves] for a in moves], float)


def test_zero_sum_games():
    x, y, value = equilibria.zero_sum([[3, -1], [-2, 4]])
    np.testing.assert_allclose([*x, *y, value], [0.6, 0.4, 0.5, 0.5, 1.0], atol=1e-9)
    x, y, value = equilibria.zero_sum([[1, 2, -1], [2, -1, 4], [-1, 4, -3]])
    np.testing.assert_allclose([*x, *y, value], [0.25, 0.5, 0.25, 0.25, 0.5, 0.25, 1.0], atol=1e-9)
    x, y, value = equilibria.zero_sum(morra(3))
    assert value == pytest.approx(0, abs=1e-12)
    assert (morra(3).T @ x).min() == pytest.approx(0, abs=1e-9)
    saddle = equilibria.zero_sum([[4, 3, 8], [2, 1, 9]])
    assert saddle.value == pytest.approx(3)
    assert saddle.row.tolist() == [1, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
def test_zero_sum_is_a_saddle_point(n, m, seed):
    """The minimax theorem: what x secures is what y concedes."""
    payoff = 100 * np.random.default_rng(seed).normal(size=(n, m))
    x, y, value = equilibria.zero_sum(payoff)
    assert (payoff.T @ x).min() == pytest.approx(value, abs=1e-7)
    assert (payoff @ y).max() == pytest.approx(value, abs=1e-7)


def test_zero_sum_of_64_strategies_is_fast():
    payoff = np.random.default_rng(0).normal(size=(64, 64))
    began = time.process_time()
    x, y, value = equilibria.zero_sum(payoff)
    assert time.process_time() - began < 2.0  # measured 0.03 s
    assert (payoff @ y).max() - (payoff.T @ x).min() < 1e-9
    # Reference: the same value by the other solver, from the other player's side.
    dual = optimize.linprog(
        [0.0] * 64 + [1.0],
        A_ub=np.hstack([payoff, -np.ones((64, 1))]),
        b_ub=np.zeros(64),
        A_eq=[[1.0] * 64 + [0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * 64 + [(None, None)],
        method="highs-ipm",
    )
    assert dual.fun == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equilibria.symmetric_equilibria(np.eye(11)), "the limit is 10"),
        (lambda: equilibria.symmetric_equilibria(np.ones((2, 3))), "needs a square matrix"),
        (lambda: equilibria.bimatrix_equilibria(np.eye(2), np.eye(3)), "row has shape (2, 2) and column (3, 3)"),
        (lambda: equilibria.bimatrix_equilibria(np.eye(11), np.eye(11)), "the limit is 10"),
        (lambda: equilibria.evolutionarily_stable_strategies(np.eye(11)), "the limit is 10"),
        (
            lambda: equilibria.symmetric_equilibria([["1", "2"], ["3", "4"]]),
            "not an array of real numbers (they are of type <U1",
        ),
        (
            lambda: equilibria.symmetric_equilibria([[1j, 0], [0, 1]]),
            "not an array of real numbers (they are of type complex",
        ),
        (lambda: equilibria.symmetric_equilibria([[1, 2], [3]]), "not an array of real numbers"),
        (lambda: equilibria.zero_sum([1, 2]), "give an array with 2 axes"),
        (lambda: equilibria.zero_sum([[np.inf]]), "payoff holds inf at (0, 0)"),
        (lambda: equilibria.zero_sum([[]]), "is empty"),
        (lambda: equilibria.nash_gap(np.eye(2), [[1, 0]]), "one vector of shares"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
