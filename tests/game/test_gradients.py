"""Utilities from backward passes: closed forms, and the coalition values they approximate."""

import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import game
from arena_jax.config.errors import ArenaError

WEIGHTS = np.random.default_rng(0).normal(size=(5, 5))


def multilinear(gates):
    """Each gate is linear; pairs interact."""
    return (
        jnp.array([1.0, -2.0, 3.0, 0.5, 0.0]) @ gates + gates @ jnp.triu(jnp.asarray(WEIGHTS, jnp.float32), 1) @ gates
    )


def test_aumann_shapley_equals_shapley_of_a_pairwise_game():
    def value(s):
        return np.array([float(multilinear(jnp.asarray(row, jnp.float32))) for row in s])

    smooth = game.aumann_shapley(multilinear, 5, points=2)
    np.testing.assert_allclose(smooth.values, game.shapley(value, 5, exact=True).values, atol=2e-6)
    assert smooth.gradients == 2 + 2  # the nodes, and the ends that its sum is compared with


def test_aumann_shapley_is_efficient():
    def curved(g):
        return jnp.tanh(g @ jnp.arange(1.0, 4.0)) + g[0] * g[1] * g[2]

    total = float(curved(jnp.ones(3)) - curved(jnp.zeros(3)))
    assert game.aumann_shapley(curved, 3, points=32).values.sum() == pytest.approx(total, abs=1e-5)


def test_nodes_are_doubled_until_the_values_sum_to_the_whole():
    """A steep step on the way: 16 nodes miss it by a few per cent."""

    def steep(g):
        return jnp.tanh(20 * (g.mean() - 0.31)) + g[0]

    rough = game.aumann_shapley(steep, 3, most=16)
    assert abs(rough.gap) > 0.02 * np.abs(rough.values).sum()
    assert (rough.method, rough.gradients) == ("Aumann–Shapley (16 nodes)", 2 + 16)
    total = float(steep(jnp.ones(3)) - steep(jnp.zeros(3)))
    assert rough.gap == pytest.approx(rough.values.sum() - total, abs=1e-5)
    fine = game.aumann_shapley(steep, 3)
    assert abs(fine.gap) <= 0.01 * np.abs(fine.values).sum()
    assert fine.gradients == 2 + 16 + 32


def test_a_gap_that_no_quadrature_closes_is_told():
    """A step has no gradient anywhere, and yet a value at both ends."""
    found = game.aumann_shapley(lambda g: jnp.round(g.mean()) + 0 * g[0], 2)
    assert (found.values.tolist(), found.gap) == ([0.0, 0.0], -1.0)
    assert found.gradients == 2 + 16 + 32 + 64
    assert "the sum misses v(N) − v(∅) by -1" in str(found)
    assert found.to_dict()["gap"] == -1.0


def test_sensitivity_takes_the_absolute_value_inside():
    """Closed form: gradients of the losses are the rows of a matrix."""
    rows = jnp.array([[1.0, 2.0], [-3.0, 0.0], [5.0, -4.0]])
    found = game.sensitivity(lambda g: rows @ g, 2)
    np.testing.assert_allclose(found.values, [3.0, 2.0])
    np.testing.assert_allclose(found.standard_errors, [2 / np.sqrt(3), 2 / np.sqrt(3)], rtol=1e-6)


def test_second_order_is_exact_for_a_quadratic():
    """Reference: the loss itself, with each gate closed in turn."""

    def loss(g):
        return g @ jnp.asarray(WEIGHTS, jnp.float32) @ g + 2 * g[1]

    closed = [float(loss(jnp.ones(5).at[i].set(0.0)) - loss(jnp.ones(5))) for i in range(5)]
    np.testing.assert_allclose(game.second_order(loss, 5).values, closed, atol=1e-5)


def test_attention_entropy():
    """Closed forms: a causal uniform head is as even as can be, a head on one key not at all."""
    t = 6
    uniform = np.tril(np.ones((t, t))) / np.arange(1, t + 1)[:, None]
    attention = np.stack([uniform, np.eye(t)])[None]
    np.testing.assert_allclose(game.attention_entropy(attention), [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: game.aumann_shapley(lambda g: g, 2), "returned float32 of shape (2,)"),
        (lambda: game.aumann_shapley(lambda g: jnp.sqrt(g[0] - 2), 2), "not finite"),
        (lambda: game.aumann_shapley(lambda g: jnp.sqrt(g[0]), 2, points="4"), "points is '4'"),
        (lambda: game.aumann_shapley(lambda g: jnp.where(g[0] < 0.7, jnp.sqrt(g[0] - 0.5), g[1]), 2), "not finite"),
        (lambda: game.aumann_shapley(jnp.sum, 2, points=0), "points is 0"),
        (lambda: game.aumann_shapley(jnp.sum, 2, most=None), "most is None"),
        (lambda: game.aumann_shapley(jnp.sum, 2, tolerance=-1), "tolerance is -1"),
        (lambda: game.aumann_shapley(jnp.sum, 2, tolerance="1 %"), "tolerance is '1 %'"),
        (lambda: game.aumann_shapley(lambda g: g.sum() * 1j, 2), "returned complex64"),
        (lambda: game.aumann_shapley(jnp.sum, 0), "n is 0; give the number of gates"),
        (lambda: game.second_order(lambda g: g[0] // 0 if bool(g[0]) else g, 2), "raised TracerBoolConversionError"),
        (lambda: game.sensitivity(lambda g: 1 // 0, 2), "raised ZeroDivisionError"),
        (lambda: game.sensitivity(jnp.sum, 2), "one loss per example"),
        (lambda: game.attention_entropy(np.ones((2, 3, 3))), "do not sum to 1"),
        (lambda: game.attention_entropy(np.ones(3)), "(..., heads, queries, keys)"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
