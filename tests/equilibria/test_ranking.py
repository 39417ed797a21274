"""α-rank against open_spiel, closed forms, and the cases where open_spiel gives up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax import equilibria
from arena_jax.config.errors import ArenaError

HAWK_DOVE = np.array([[-0.5, 2], [0, 1]])
BATTLE = [np.array([[3.0, 0], [0, 2]]), np.array([[2.0, 0], [0, 3]])]


def test_hawk_dove():
    """Known answers (MASGA.md 1.5); two states in closed form: the ratio of fixation probabilities is e^(α(m−1)d)."""
    assert equilibria.alpha_rank(HAWK_DOVE, intensity=0.01)[0] == pytest.approx(0.727, abs=5e-4)
    assert equilibria.alpha_rank(HAWK_DOVE)[0] == pytest.approx(0.99994, abs=5e-6)
    for intensity in (0.0, 0.01, 0.1, 1.0, 50.0):
        ratio = np.exp(-intensity * 49 * 2.0)
        assert equilibria.alpha_rank(HAWK_DOVE, 50, intensity)[0] == pytest.approx(1 / (1 + ratio), rel=1e-12)


def open_spiel_alpha_rank(payoffs, alpha, m=50):
    alpharank = pytest.importorskip(
        "open_spiel.python.egt.alpharank", reason="open_spiel is the independent reference of this test only"
    )
    return alpharank.compute(payoffs, m=m, alpha=alpha)[2]


@pytest.mark.filterwarnings("ignore")  # whatever open_spiel's own numerics have to say
@pytest.mark.parametrize("seed", range(4))
def test_open_spiel_agrees(seed):
    rng = np.random.default_rng(seed)
    single = rng.normal(size=(6, 6))
    theirs = open_spiel_alpha_rank([single], 0.1)
    np.testing.assert_allclose(equilibria.alpha_rank(single, 50, 0.1), theirs, atol=1e-8)
    tables = [rng.normal(size=(3, 2, 4)) for _ in range(3)]
    theirs = open_spiel_alpha_rank(tables, 0.05)
    np.testing.assert_allclose(equilibria.alpha_rank(tables, 50, 0.05).ravel(), theirs, atol=1e-8)


def test_ties_and_strong_selection_have_an_answer():
    """open_spiel raises 'Expected 1 stationary distribution, but found 2' on this game at α = 1."""
    shares = equilibria.alpha_rank(BATTLE, intensity=1.0)
    np.testing.assert_allclose(shares, [[0.5, 0], [0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(equilibria.alpha_rank(BATTLE, intensity=1e6), [[0.5, 0], [0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(equilibria.alpha_rank(np.zeros((4, 4)), intensity=10.0), 0.25)
    np.testing.assert_allclose(equilibria.alpha_rank(np.ones((4, 4)) * 1e9), 0.25)
    rps = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    np.testing.assert_allclose(equilibria.alpha_rank(rps, intensity=1e4), 1 / 3)
    assert equilibria.alpha_rank([[3.0]]).tolist() == [1.0]


def test_logarithms_give_the_same_chain():
    """Two solvers of one chain: direct elimination, and elimination of logarithms."""
    from arena_jax.equilibria.ranking import _eliminate, _eliminate_logs

    logs = np.random.default_rng(0).normal(size=(7, 7)) * 3
    direct = _eliminate(np.exp(logs))
    np.testing.assert_allclose(_eliminate_logs(logs), direct, rtol=1e-12)
    rates = np.exp(logs) * ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(direct @ rates, direct * rates.sum(axis=1), rtol=1e-12)  # what flows in flows out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.floats(0, 1e3), st.integers(2, 1000))
def test_always_a_distribution(n, seed, intensity, population):
    rng = np.random.default_rng(seed)
    payoff = rng.integers(-2, 3, size=(n, n))  # many ties
    shares = equilibria.alpha_rank(payoff, population, intensity)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    order = rng.permutation(n)
    renamed = equilibria.alpha_rank(payoff[np.ix_(order, order)], population, intensity)
    np.testing.assert_allclose(renamed, shares[order], atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equilibria.alpha_rank([[1, 2]]), "needs a square matrix"),
        (lambda: equilibria.alpha_rank([np.eye(2), np.eye(3)]), "k players need k tables"),
        (lambda: equilibria.alpha_rank([np.eye(2)]), "k players need k tables"),
        (lambda: equilibria.alpha_rank([[1, 2], [3]]), "k players need k tables"),
        (lambda: equilibria.alpha_rank(None), "payoffs has shape ()"),
        (
            lambda: equilibria.alpha_rank(np.zeros((9,) + (3,) * 9)),
            "over 19683 strategies or profiles is too long to solve",
        ),
        (lambda: equilibria.alpha_rank(np.zeros((4097, 4097))), "the limit is 4096"),
        (lambda: equilibria.alpha_rank(np.eye(2), population=1), "population is 1"),
        (lambda: equilibria.alpha_rank(np.eye(2), intensity=-1.0), "intensity is -1.0"),
        (lambda: equilibria.alpha_rank([[np.nan, 1], [1, 1]]), "payoffs holds nan"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
