"""The games built from measurements, and the budget's equilibrium."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from arena_jax import equilibria, game
from arena_jax.config.errors import ArenaError


def quadratic_table(b, c):
    """w(S) of a quadratic loss: b·s − ½ s'Cs over all subsets."""
    s = game.coalitions(len(b)).astype(float)
    return s @ b - 0.5 * ((s @ c) * s).sum(axis=1)


def test_update_game_of_a_quadratic_loss():
    """Closed forms: solo b − C_ii/2, Shapley b − (C1)_i/2, interactions −C_ij."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    b, c = rng.normal(size=5), root @ root.T
    found = game.update_game(
        quadratic_table(b, c) + 7.0, ["wte", "ln", "qk", "vo", "ffn"]
    )  # a constant changes nothing
    np.testing.assert_allclose(found.solo, b - np.diag(c) / 2, atol=1e-12)
    np.testing.assert_allclose(found.shapley, b - c.sum(axis=1) / 2, atol=1e-12)
    np.testing.assert_allclose(found.last, b - c.sum(axis=1) + np.diag(c) / 2, atol=1e-12)
    np.testing.assert_allclose(found.interactions, -(c - np.diag(np.diag(c))), atol=1e-12)
    assert found.joint == pytest.approx(b.sum() - c.sum() / 2)
    assert found.shapley.sum() == pytest.approx(found.joint)
    assert found.overshoot == pytest.approx((found.solo.sum() - found.joint) / abs(found.joint))
    assert "ffn" in str(found)
    assert found.to_dict()["names"][-1] == "ffn"


def test_tragedy_of_the_commons():
    """Each step helps alone, together they harm: +0.057 summed, −0.008 jointly (the pilot of MASGA.md 1.4)."""
    found = game.update_game([0, 0.03, 0.027, -0.008])
    assert found.overshoot == pytest.approx((0.057 + 0.008) / 0.008)
    assert found.interactions[0, 1] < 0
    nothing = game.update_game(np.zeros(4))
    assert nothing.overshoot == 0.0
    cancelled = game.update_game([0.0, 1.0, 1.0, 0.0])
    assert cancelled.overshoot == np.inf
    assert cancelled.to_dict()["overshoot"] is None


def test_quadratic_gains():
    rng = np.random.default_rng(1)
    b, root = rng.normal(size=4), rng.normal(size=(4, 4))
    c = root @ root.T

    def loss(m):
        return 3.0 - jnp.asarray(b, jnp.float32) @ m + m @ jnp.asarray(c, jnp.float32) @ m / 2

    gain, curvature = game.quadratic_gains(loss, 4)
    np.testing.assert_allclose(gain, b, atol=1e-6)
    np.testing.assert_allclose(curvature, c, atol=1e-5)
    np.testing.assert_array_equal(curvature, curvature.T)


def test_potential_and_directed_payoffs():
    b, c, x = np.array([1.0, 2.0]), np.array([[1.0, 0.5], [0.5, 3.0]]), np.array([0.3, 0.7])
    payoff = game.potential_payoff(b, c, 2.0)
    np.testing.assert_allclose(payoff @ x, b - 2.0 * c @ x)
    assert (
        equilibria.cyclic_ratio(
            game.potential_payoff(np.arange(5.0), np.cov(np.random.default_rng(0).normal(size=(5, 9))), 1.0)
        )
        < 1e-12
    )
    before = np.array([[1.0, 2.0, 0.0]])
    after = np.arange(9.0).reshape(1, 3, 3)
    np.testing.assert_array_equal(game.directed_payoff(before, after)[0], after[0] - before[0][:, None])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6), st.floats(0.05, 5))
def test_budget_equilibrium_is_optimal(n, seed, budget):
    """Karush–Kuhn–Tucker, which are sufficient because the programme is concave; and no random split is better."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 1))
    b, c = rng.normal(size=n), root @ root.T / n
    found = game.budget_equilibrium(b, c, budget)
    assert found.unique
    assert found.gap < 1e-9 * max(1.0, np.abs(b).max() + budget * np.abs(c).max())
    assert found.multipliers.sum() == pytest.approx(budget)
    others = budget * rng.dirichlet(np.ones(n), size=500)
    gains = others @ b - 0.5 * ((others @ c) * others).sum(axis=1)
    assert found.predicted_gain >= gains.max() - 1e-10
    used = found.fitness[list(found.support)]
    np.testing.assert_allclose(used, used[0], atol=1e-8)


def test_budget_equilibrium_is_where_the_replicator_ends():
    """A second route: the dynamics of the potential game."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 8))
    b, c = rng.normal(size=6), root @ root.T
    found = game.budget_equilibrium(b, c, 0.5)
    payoff = game.potential_payoff(b, c, 0.5)
    end = equilibria.replicator(payoff, np.full(6, 1 / 6), [0, 400], max_step=0.02)[-1]
    np.testing.assert_allclose(found.shares, end, atol=1e-6)
    assert equilibria.is_evolutionarily_stable(payoff, found.shares)
    np.testing.assert_allclose(equilibria.symmetric_equilibria(payoff), [found.shares], atol=1e-8)


def test_budget_water_filling():
    """Closed form for diagonal C: m_i = max(0, (b_i − ν)/C_ii), with ν from Σm = B (by scipy's brentq)."""
    rng = np.random.default_rng(4)
    b, d = rng.normal(size=30), rng.uniform(0.5, 3, size=30)

    def fill(nu):
        return np.maximum(0, (b - nu) / d)

    nu = optimize.brentq(lambda nu: fill(nu).sum() - 2.0, -50, 50, xtol=1e-14)
    np.testing.assert_allclose(game.budget_equilibrium(b, np.diag(d), 2.0).multipliers, fill(nu), atol=1e-9)


def test_budget_without_curvature_and_with_negative_curvature():
    flat = game.budget_equilibrium([1.0, 3.0, 2.0], np.zeros((3, 3)), 1.0)
    np.testing.assert_allclose(flat.shares, [0, 1, 0], atol=1e-9)
    assert not flat.unique
    # Convex: the best vertex wins, whatever the many local maxima.
    convex = game.budget_equilibrium([0.0, 0.1, 0.0], -np.diag([1.0, 1.0, 5.0]), 1.0)
    np.testing.assert_allclose(convex.shares, [0, 0, 1], atol=1e-9)
    assert not convex.unique
    scaled = game.budget_equilibrium([1e-6, 1e-6], np.diag([1e-6, 3e-6]), 0.4)
    np.testing.assert_allclose(scaled.shares, [0.75, 0.25], atol=1e-9)


def test_protocol_game():
    """Identical interests: the best profile is a pure equilibrium (a potential game's maximum)."""
    losses = np.random.default_rng(5).normal(size=(3, 3, 3))
    tables = game.protocol_payoffs(losses)
    best = np.unravel_index(losses.argmin(), losses.shape)
    assert game.pure_equilibria(tables)[0] == best
    assert equilibria.alpha_rank(tables, intensity=5.0).argmax() == losses.argmin()
    own = np.zeros((3, 3, 3, 3))
    own[0, 2] = 100.0  # the first player always wants its third action
    assert all(profile[0] == 2 for profile in game.pure_equilibria(game.protocol_payoffs(losses, own, 1.0)))
    pennies = np.array([[1, -1], [-1, 1]])
    assert game.pure_equilibria([pennies, -pennies]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: game.update_game([0.0, 1.0, 2.0]), "one per subset of K components, 2^K"),
        (lambda: game.update_game([0.0, 1.0], ["a", "b"]), "names has 2 entries for 1"),
        (lambda: game.update_game([0.0, np.nan]), "gains holds nan"),
        (lambda: game.budget_equilibrium([1, 2], [[1, 2], [0, 1]], 1.0), "curvature is not symmetric"),
        (lambda: game.budget_equilibrium([1, 2, 3], np.eye(2), 1.0), "gain has 3 entries and curvature 2"),
        (lambda: game.budget_equilibrium([1, 2], np.eye(2), 0.0), "budget is 0.0"),
        (lambda: game.directed_payoff([1, 2], np.eye(3)), "give (…, n) and (…, n, n)"),
        (lambda: game.protocol_payoffs(np.eye(2), np.eye(2)[None], 1.0), "it must be (2, 2, 2)"),
        (lambda: game.potential_payoff([1, 2], [[1, 2], [0, 1]], 1.0), "pass (curvature + curvature.T) / 2"),
        (lambda: game.pure_equilibria([np.eye(2)]), "k players need k tables"),
        (lambda: game.pure_equilibria([]), "holds no tables"),
        (lambda: game.quadratic_gains(lambda m: m, 2), "the loss returned float32 of shape (2,)"),
        (lambda: game.quadratic_gains(lambda m: 3, 2), "the loss returned int32"),
        (lambda: game.quadratic_gains(lambda m: float(m.sum()), 2), "the loss raised ConcretizationTypeError"),
        (lambda: game.quadratic_gains(jnp.sum, 0), "n is 0; give the number of components"),
        (lambda: game.bootstrap(np.ones((2, 2, 2)), solve=lambda a: [1.0]), "solve returned 1 shares for 2 strategies"),
        (lambda: game.bootstrap(np.ones((2, 2, 2)), solve=lambda a: 1 // 0), "solve raised ZeroDivisionError"),
        (lambda: game.quadratic_gains(lambda m: jnp.sqrt(m[0]), 1), "the gradient of the loss holds"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
