"""Replicator dynamics, basins and the logit equilibrium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

from arena_jax import equilibria
from arena_jax.config.errors import ArenaError

RPS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
START = [0.5, 0.25, 0.25]


def test_rock_paper_scissors_conserves_the_product():
    path = equilibria.replicator(RPS, START, np.linspace(0, 200, 401))
    assert path.dtype == np.float64
    assert np.abs(path.prod(axis=1) - 1 / 32).max() < 1e-9  # measured 4e-13; asked for: 1e-6
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-14)


def test_rock_paper_scissors_orbit():
    """Reference: two points, the period and the mean over it, computed with other software (MASGA.md 3a)."""
    path = equilibria.replicator(RPS, START, [0, 5, 10])
    np.testing.assert_allclose(path[1], [0.19794222, 0.45534110, 0.34671669], atol=1e-8)
    np.testing.assert_allclose(path[2], [0.45097113, 0.19664741, 0.35238146], atol=1e-8)
    period = 11.29750057
    np.testing.assert_allclose(
        equilibria.replicator(RPS, START, [0, period, 3 * period])[1:], [START, START], atol=1e-7
    )
    orbit = equilibria.replicator(RPS, START, np.linspace(0, 10 * period, 2001))[:-1]
    np.testing.assert_allclose(orbit.mean(axis=0), 1 / 3, atol=1e-8)


def test_small_orbits_take_two_pi_root_three():
    """Closed form of the linearisation: eigenvalues ±i/√3."""
    start = np.full(3, 1 / 3) + 1e-4 * np.array([1, -1, 0])
    back = equilibria.replicator(RPS, start, [0, 2 * np.pi * np.sqrt(3)])[-1]
    np.testing.assert_allclose(back, start, atol=1e-8)


def test_fourth_order():
    """Halving the step divides the error by 16."""
    exact = equilibria.replicator(RPS, START, [0, 5], max_step=0.002)[-1]
    errors = [
        np.abs(equilibria.replicator(RPS, START, [0, 5], max_step=h)[-1] - exact).max() for h in (0.5, 0.25, 0.125)
    ]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert ((ratios > 13) & (ratios < 19)).all(), ratios


def test_scipy_integrates_to_the_same():
    """Reference: scipy's DOP853 on the equation as it is usually written."""
    rng = np.random.default_rng(0)
    payoff, start = rng.normal(size=(5, 5)), rng.dirichlet(np.ones(5))

    def slope(t, x):
        fitness = payoff @ x
        return x * (fitness - x @ fitness)

    times = np.array([0, 0.3, 1.7, 9.0])
    theirs = integrate.solve_ivp(slope, (0, 9), start, t_eval=times, method="DOP853", rtol=1e-11, atol=1e-13).y.T
    np.testing.assert_allclose(equilibria.replicator(payoff, start, times), theirs, atol=1e-8)


def test_nashpy_agrees():
    nashpy = pytest.importorskip("nashpy", reason="nashpy is the independent reference of this test only")
    times = np.linspace(0, 10, 21)
    theirs = nashpy.Game(RPS).replicator_dynamics(y0=np.array(START), timepoints=times)
    np.testing.assert_allclose(equilibria.replicator(RPS, START, times), theirs, atol=1e-6)


def test_many_starts_at_once():
    starts = np.random.default_rng(1).dirichlet(np.ones(3), size=4)
    times = [0.0, 1.0, 4.0]
    together = equilibria.replicator(RPS, starts, times)
    assert together.shape == (4, 3, 3)
    alone = np.stack([equilibria.replicator(RPS, start, times) for start in starts])
    np.testing.assert_allclose(together, alone, atol=1e-14)
    mapped = jax.vmap(lambda start: equilibria.replicator(RPS, start, times))(jnp.asarray(starts))
    np.testing.assert_allclose(mapped, alone, atol=1e-5)  # float32 inside a jax transformation


def test_faces_and_scales():
    assert equilibria.replicator(RPS, [0, 0.5, 0.5], [0, 3.0])[-1][0] == 0.0  # who is absent stays absent
    assert equilibria.replicator(RPS, [1, 0, 0], [0, 3.0])[-1].tolist() == [1.0, 0.0, 0.0]
    constant = equilibria.replicator(np.full((2, 2), 7.0), [0.3, 0.7], [0, 1e6])
    np.testing.assert_allclose(constant[-1], [0.3, 0.7], atol=1e-14)
    # Constants in columns change nothing; a factor rescales time.
    shifted = equilibria.replicator(100 * RPS + np.array([5.0, -900.0, 40.0]), START, [0, 0.05], max_step=1e-4)
    np.testing.assert_allclose(shifted, equilibria.replicator(RPS, START, [0, 5]), atol=1e-9)


@pytest.mark.parametrize(("start", "end"), [(0.74, 0.0), (0.76, 1.0)])
def test_stag_hunt_threshold(start, end):
    last = equilibria.replicator([[4, 0], [3, 3]], [start, 1 - start], [0, 60])[-1]
    np.testing.assert_allclose(last, [end, 1 - end], atol=1e-6)


def test_basins():
    """Closed forms: the stag hunt's threshold 3/4; one interior attractor; cycles that never rest."""
    found = equilibria.basins([[4, 0], [3, 3]], starts=400)
    np.testing.assert_allclose(found.limits, [[0, 1], [1, 0]], atol=1e-5)
    assert abs(found.shares[0] - 0.75) < 4 * found.standard_errors[0]
    hawk = equilibria.basins([[-0.5, 2], [0, 1]], starts=20)
    np.testing.assert_allclose(hawk.limits, [[2 / 3, 1 / 3]], atol=1e-4)
    cycle = equilibria.basins(RPS, starts=20)
    assert cycle.moving == 1.0
    assert cycle.limits.shape == (0, 3)
    assert equilibria.basins(np.zeros((3, 3)), starts=5).moving == 0.0


def test_logit_of_two_strategies():
    """Reference: the scalar equation by bisection (scipy.optimize.brentq)."""
    hawk_dove = np.array([[-0.5, 2], [0, 1]])
    for temperature in (5.0, 0.5, 0.05):

        def scalar(p, t=temperature):
            return np.log(p / (1 - p)) - np.array([1, -1]) @ hawk_dove @ [p, 1 - p] / t

        expected = optimize.brentq(scalar, 1e-9, 1 - 1e-9, xtol=1e-14)
        assert equilibria.logit_equilibrium(hawk_dove, temperature)[0] == pytest.approx(expected, abs=1e-9)


def test_logit_is_a_fixed_point_and_has_the_right_limits():
    rng = np.random.default_rng(2)
    for n in (2, 3, 6, 20):
        payoff = rng.normal(size=(n, n))
        sweep = np.array([100.0, 1.0, 0.3, 0.1])
        shares = equilibria.logit_equilibrium(payoff, sweep)
        for x, temperature in zip(shares, sweep, strict=True):
            z = payoff @ x / temperature
            np.testing.assert_allclose(x, np.exp(z - z.max()) / np.exp(z - z.max()).sum(), atol=1e-9)
        np.testing.assert_allclose(shares[0], 1 / n, atol=0.05)
        assert equilibria.nash_gap(payoff, shares[-1]) < 0.1 * np.log(n) + 1e-9  # an entropy bound: gap ≤ τ ln n
    np.testing.assert_allclose(equilibria.logit_equilibrium(RPS, 0.01), 1 / 3, atol=1e-12)
    # A symmetric coordination game has a pitchfork at τ = 1/2; the principal branch goes straight on.
    np.testing.assert_allclose(equilibria.logit_equilibrium(np.eye(2), [2.0, 0.1]), 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equilibria.replicator([[1, 2, 3]], [1], [0, 1]), "needs a square matrix"),
        (lambda: equilibria.replicator(RPS, [0.5, 0.5], [0, 1]), "2 shares for 3 strategies"),
        (lambda: equilibria.replicator(RPS, [0.5, 0.5, 0.5], [0, 1]), "sums to 1.5"),
        (lambda: equilibria.replicator(RPS, [1.5, -0.5, 0], [0, 1]), "negative share"),
        (lambda: equilibria.replicator(RPS, START, [0, 2, 1]), "times must increase"),
        (lambda: equilibria.replicator(RPS, START, [0, 1e9]), "steps are needed"),
        (lambda: equilibria.replicator(RPS * np.nan, START, [0, 1]), "payoff holds nan at (0, 0)"),
        (lambda: equilibria.replicator([["a"]], [1], [0, 1]), "not an array of real numbers"),
        (lambda: equilibria.basins(RPS, starts=0), "starts is 0"),
        (lambda: equilibria.logit_equilibrium(RPS, 0.0), "temperature is 0"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
