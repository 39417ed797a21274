"""The update game of a model: what the windows measure, against direct evaluations and the games' identities."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import ArenaError, equilibria, game, models
from arena_jax.training.objectives import objective_for

STEPS = 2


@pytest.fixture(scope="module")
def setting():
    model = models.create("gpt2-tiny", "causal-lm", seed=1)
    ids = np.random.default_rng(0).integers(3, 256, (4, 4, 8)).astype(np.int32)
    batches = [{"input_ids": rows, "attention_mask": np.ones_like(rows)} for rows in ids]
    return model, batches


def endless(batches):
    while True:
        yield from batches


@pytest.fixture(scope="module")
def played(setting):
    model, batches = setting
    table = game.type_players(model.config, models.split(model)[1])
    options = {"windows": 3, "steps": STEPS, "learning_rate": 3e-3}
    return game.train_windows(model, objective_for("causal-lm"), endless(batches[:3]), batches[3:], table, **options)


@pytest.mark.slow
def test_all_steps_together_are_the_training(played):
    assert played.gains.shape == (3, 2**6)
    assert (played.gains[:, 0] == 0).all()
    np.testing.assert_allclose(played.losses[:-1] - played.gains[:, -1], played.losses[1:], atol=2e-6)


@pytest.mark.slow
def test_losses_are_those_of_an_independent_training(setting, played):
    """The same steps by hand, without dropout's key: the models here have dropout, so keys must be the same ones."""
    model, batches = setting
    structure, params = models.split(model)
    objective, optimizer = objective_for("causal-lm"), optax.adamw(3e-3)
    state, stream, key = optimizer.init(params), endless(batches[:3]), jax.random.key(0)

    @jax.jit
    def train(params, state, batch, key):
        def loss(p):
            sums = objective(models.merge(structure, p), batch, key, True).sums
            return sums["loss_sum"] / sums["count"]

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for i in range(2 * STEPS):
        params, state = train(params, state, next(stream), jax.random.fold_in(key, 1 + i))
    sums = jax.jit(lambda p: objective(models.merge(structure, p), batches[3], key, False).sums)(params)
    assert played.losses[1] == pytest.approx(float(sums["loss_sum"] / sums["count"]), abs=2e-5)


@pytest.mark.slow
def test_derivatives_predict_the_gains_of_small_steps(played):
    """First order and curvature against the measured gains of single types and pairs."""
    quadratic = played.slope - np.einsum("wii->wi", played.curvature) / 2
    solo = played.gains[:, 1 << np.arange(6)]
    assert np.abs(quadratic - solo).max() < 0.1 * np.abs(solo).max()
    np.testing.assert_allclose(played.curvature, np.swapaxes(played.curvature, 1, 2), atol=1e-7)
    assert all(
        equilibria.cyclic_ratio(payoff) < 1e-6 for payoff in played.potential
    )  # a potential game by construction


@pytest.mark.slow
def test_directed_game_is_directed(played):
    assert played.directed.shape == (3, 6, 6)
    assert all(equilibria.cyclic_ratio(payoff) > 0.01 for payoff in played.directed)


def test_bad_input(setting):
    model, batches = setting
    types = game.type_players(model.config, models.split(model)[1])
    fine = game.fine_players(model.config)
    objective = objective_for("causal-lm")
    wrong = (
        (fine, {}, "played by types"),
        (types, {"windows": 1}, "at least 2 windows"),
        (types, {"learning_rate": float("inf")}, "learning_rate is inf"),
    )
    for table, options, told in wrong:
        with pytest.raises(ArenaError, match=told):
            game.train_windows(model, objective, endless(batches), batches, table, **options)
    assert jnp.isfinite(types.sizes(models.split(model)[1])).all()
