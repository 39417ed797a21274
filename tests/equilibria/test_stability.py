"""Evolutionary stability against closed forms and against invasions tried one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax import equilibria
from arena_jax.config.errors import ArenaError

RPS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def stable_states(payoff):
    return [found.x.round(9).tolist() for found in equilibria.evolutionarily_stable_strategies(payoff)]


@pytest.mark.parametrize(
    ("payoff", "expected"),
    [
        ([[-0.5, 2], [0, 1]], [[0.666666667, 0.333333333]]),  # hawk and dove, V=2, C=3: V/C
        ([[0.5, 4], [0, 2]], [[1, 0]]),  # V=4, C=3: hawk
        ([[3, 0], [5, 1]], [[0, 1]]),  # prisoner's dilemma: defect
        ([[4, 0], [3, 3]], [[1, 0], [0, 1]]),  # stag hunt: both
        (RPS, []),
        ([[0, -1, 2], [2, 0, -1], [-1, 2, 0]], [[0.333333333] * 3]),  # win 2, lose 1
        ([[0, -2, 1], [1, 0, -2], [-2, 1, 0]], []),  # win 1, lose 2
        (np.zeros((3, 3)), []),
        (np.eye(4), np.eye(4).tolist()),
    ],
)
def test_textbook_games(payoff, expected):
    assert stable_states(payoff) == expected


def test_eigenvalues_of_generalised_rock_paper_scissors():
    """Closed form: (win − lose)/6 · (−1) ± i √3/2 for win 2, lose 1, and the reverse."""
    centre = [1 / 3] * 3
    attracting = equilibria.jacobian_eigenvalues([[0, -1, 2], [2, 0, -1], [-1, 2, 0]], centre)
    np.testing.assert_allclose(attracting, [-1 / 6 + 0.8660254j, -1 / 6 - 0.8660254j], atol=1e-7)
    repelling = equilibria.jacobian_eigenvalues([[0, -2, 1], [1, 0, -2], [-2, 1, 0]], centre)
    np.testing.assert_allclose(repelling, [1 / 6 + 0.8660254j, 1 / 6 - 0.8660254j], atol=1e-7)
    np.testing.assert_allclose(
        equilibria.jacobian_eigenvalues(RPS, centre), [1j / np.sqrt(3), -1j / np.sqrt(3)], atol=1e-12
    )


def test_certificates():
    assert equilibria.is_evolutionarily_stable([[-0.5, 2], [0, 1]], [2 / 3, 1 / 3]).certificate == "pd"
    refused = equilibria.is_evolutionarily_stable([[3, 0], [5, 1]], [1, 0])
    assert not refused
    assert refused.reason == "not a symmetric Nash equilibrium"

    # Pure 0 with two unused best replies: the form is [[1, b], [b, 1]], copositive for b > −1, definite for |b| < 1.
    def payoff(b):
        return np.array([[0, 0, 0], [0, -1, -b], [0, -b, -1]], float)

    def certificate(b):
        return equilibria.is_evolutionarily_stable(payoff(b), [1, 0, 0]).certificate

    assert [certificate(b) for b in (0.5, 5.0, -0.9, -1.0, -2.0)] == ["pd", "copositive", "pd", "none", "none"]
    # More than 12 unused best replies, with a form that is not definite: nothing is claimed.
    many = -5 * np.ones((14, 14)) + 4 * np.eye(14)
    many[0], many[:, 0] = 0, 0
    verdict = equilibria.is_evolutionarily_stable(many, np.eye(14)[0])
    assert verdict.certificate == "unverified"
    assert not verdict
    assert "13 unused best replies" in verdict.reason


def test_horn_matrix_is_copositive_but_not_strictly():
    """Hall and Newman 1963: the Horn form is copositive and vanishes inside a face; a little more makes it strict."""
    horn = np.array([[1, -1, 1, 1, -1], [-1, 1, -1, 1, 1], [1, -1, 1, -1, 1], [1, 1, -1, 1, -1], [-1, 1, 1, -1, 1]])
    for extra, expected in ((0.0, "none"), (0.01, "copositive"), (-0.01, "none")):
        payoff = np.zeros((6, 6))
        payoff[1:, 1:] = -(horn + extra * np.eye(5))
        assert equilibria.is_evolutionarily_stable(payoff, np.eye(6)[0]).certificate == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6), st.booleans())
def test_invasions_tried_one_by_one(n, seed, integers):
    """Reference: Maynard Smith's definition at random mutants y near x: x·Ay > y·Ay."""
    rng = np.random.default_rng(seed)
    payoff = rng.integers(-2, 3, size=(n, n)).astype(float) if integers else rng.normal(size=(n, n))
    for x in equilibria.symmetric_equilibria(payoff):
        verdict = equilibria.is_evolutionarily_stable(payoff, x)
        mutants = np.vstack([rng.dirichlet(np.full(n, 0.3), size=4000), np.eye(n)])
        y = x + 1e-3 * (mutants - x)
        margin = ((x - y) * (y @ payoff.T)).sum(axis=1) / ((x - y) ** 2).sum(axis=1).clip(1e-300)
        differs = np.abs(mutants - x).max(axis=1) > 1e-3
        if verdict:
            assert (margin[differs] > 0).all()
        elif margin[differs].min() < -1e-6:
            assert verdict.certificate == "none"
        # The other direction is asked only where an invader was found: random mutants may miss a thin cone.
        if (margin[differs] < -1e-6).any():
            assert not verdict


def test_motzkin_straus():
    """Motzkin and Straus 1965, Bomze 1997: with A + I/2 the stable states are the maximal cliques, shared evenly."""
    edges = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]
    adjacency = np.eye(5) / 2
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1
    supports = {found.support for found in equilibria.evolutionarily_stable_strategies(adjacency)}
    assert supports == {(0, 1, 2), (2, 3), (3, 4)}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_cyclic_ratio(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n))
    columns = rng.normal(size=n)
    assert equilibria.cyclic_ratio(a + a.T + columns) < 1e-12  # a partnership game, up to constants in columns
    assert equilibria.cyclic_ratio(a) == pytest.approx(equilibria.cyclic_ratio(7 * a + columns), abs=1e-10)
    assert 0 <= equilibria.cyclic_ratio(a) <= 1
    if n > 2:
        assert equilibria.cyclic_ratio(a - a.T + columns) == pytest.approx(1, abs=1e-6) or n == 2


def test_cyclic_ratio_of_known_games():
    assert equilibria.cyclic_ratio(RPS) == 1.0
    assert equilibria.cyclic_ratio(np.zeros((3, 3))) == 0.0
    assert equilibria.cyclic_ratio(np.full((3, 3), 1e6 + 0.1)) == 0.0
    assert equilibria.cyclic_ratio([[-0.5, 2], [0, 1]]) == 0.0  # two strategies can have no cycle


def test_stable_states_stack():
    found = equilibria.evolutionarily_stable_strategies(np.eye(3))
    np.testing.assert_allclose(np.array(found[0]), [1, 0, 0])
    assert [s.support for s in found] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equilibria.cyclic_ratio([[1, 2]]), "needs a square matrix"),
        (lambda: equilibria.cyclic_ratio([[np.nan]]), "payoff holds nan"),
        (lambda: equilibria.evolutionarily_stable_strategies(np.eye(12)), "the limit is 10"),
        (lambda: equilibria.is_evolutionarily_stable(RPS, [0.5, 0.5]), "2 shares for 3 strategies"),
        (lambda: equilibria.is_evolutionarily_stable(RPS, np.eye(3)), "one vector of shares"),
        (lambda: equilibria.jacobian_eigenvalues(RPS, [0.5, 0.5, 0.5]), "sums to 1.5"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
