"""The report and the bootstrap behind it."""

import json

import numpy as np
import pytest

from arena_jax import game
from arena_jax.config.errors import ArenaError

HAWK_DOVE = np.array([[-0.5, 2], [0, 1]])
RPS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], float)


def test_report_of_hawk_dove():
    report = game.analyze(HAWK_DOVE, names=["hawk", "dove"], starts=50)
    np.testing.assert_allclose(report.x, [2 / 3, 1 / 3], atol=1e-9)
    assert report.support == (0, 1)
    assert report.payoff == pytest.approx(1 / 3)  # (V − C)/2 · … at the mixed state: (1 − V/C) V/2
    assert report.is_nash
    assert report.is_ess
    assert report.ess_certificate == "pd"
    assert report.basin_share == 1.0
    assert (report.jacobian_eigenvalues.real < 0).all()
    for end in report.limit_of.values():
        np.testing.assert_allclose(end, [2 / 3, 1 / 3], atol=1e-6)
    text = str(report)
    assert "hawk" in text
    assert "evolutionarily stable (pd)" in text
    json.dumps(report.to_dict())


def test_report_of_rock_paper_scissors():
    report = game.analyze(RPS, starts=20)
    assert report.is_nash
    assert not report.is_ess
    assert report.stable == ()
    assert report.cyclic_ratio == 1.0
    assert report.basins.moving == 1.0
    np.testing.assert_allclose(report.alpha_rank, 1 / 3)
    assert "100% never rest" in str(report)


def test_report_of_many_strategies_follows_the_dynamics():
    """Above 10 strategies; the game is concave, so that the budget's equilibrium is the independent answer."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(14, 40))
    b, c = rng.uniform(1, 2, size=14), root @ root.T / 10
    report = game.analyze(game.potential_payoff(b, c, 1.0), starts=10)
    np.testing.assert_allclose(report.x, game.budget_equilibrium(b, c, 1.0).shares, atol=1e-8)
    assert report.is_nash
    assert report.ess_certificate == "pd"
    assert report.method == "replicator from equal shares"


def test_bootstrap_calls_only_what_survives_the_noise():
    rng = np.random.default_rng(1)
    clear = np.array([[0.0, 2, 0], [2, 0, 0], [-3, -3, -3]])  # the third never pays
    found = game.bootstrap(clear + rng.normal(0, 0.1, (8, 3, 3)), resamples=100)
    assert found.called() == (0, 1)
    assert found.support_frequency[2] == 0
    assert found.same_support == 1.0
    low, high = found.shares_interval
    assert (low <= found.shares + 1e-12).all()
    assert (found.shares <= high + 1e-12).all()
    noise = game.bootstrap(rng.normal(0, 1, (4, 4, 4)), resamples=60)
    assert noise.same_support < 1.0


def test_bootstrap_tells_a_game_from_noise():
    """A potential game with noise has ρ > 0 (noise is not symmetric); only a real cycle is above what noise gives."""
    rng = np.random.default_rng(2)
    identical = np.diag([1.0, 2.0, 3.0])
    false_alarms = 0
    for _ in range(20):
        found = game.bootstrap(identical + rng.normal(0, 0.5, (10, 3, 3)), resamples=60, solve=lambda a: np.ones(3) / 3)
        assert found.cyclic_ratio > 0
        false_alarms += found.is_game
    assert false_alarms <= 4  # 5 % each, were the resamples perfect
    cyclic = game.bootstrap(RPS + rng.normal(0, 0.3, (10, 3, 3)), resamples=60)
    assert cyclic.is_game
    assert cyclic.cyclic_ratio_interval[0] > 0.5


def test_windows_make_the_report_bootstrap():
    samples = HAWK_DOVE + np.random.default_rng(3).normal(0, 0.05, (8, 2, 2))
    report = game.analyze(samples, names=["hawk", "dove"], starts=20, resamples=40)
    assert report.bootstrap.support_frequency.tolist() == [1.0, 1.0]
    assert "in the support in at least 90% of them: hawk, dove" in str(report)
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: game.analyze([1.0, 2.0]), "give an array with 2 or 3 axes"),
        (lambda: game.analyze(np.ones((2, 3))), "needs a square matrix"),
        (lambda: game.analyze(HAWK_DOVE, names=["a"]), "names has 1 entries for 2"),
        (lambda: game.bootstrap([HAWK_DOVE]), "at least 2, better 8"),
        (lambda: game.bootstrap(np.ones((3, 2, 4))), "give (windows, n, n)"),
        (lambda: game.bootstrap([HAWK_DOVE] * 2, confidence=2.0), "a number in (0, 1)"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
