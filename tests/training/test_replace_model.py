"""A model replaced in mid-run: the others do not notice, to the bit."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from arena_jax import training, transforms
from arena_jax.config.errors import ArenaError
from tests.training.test_modules import Classifier, batch, objective

NAMES = ("a", "b")


def optimizer():
    """With a state for each model, and counts that belong to none."""
    return optax.chain(
        transforms.share_gradients(alpha=0.0),
        transforms.per_model(optax.adam(0.1)),
        transforms.scale_by_convergence(window=3),
    )


def make(width):
    made = {"a": Classifier(3, 1), "b": Classifier(width, 2)}
    return training.make_step(made, optimizer(), dict.fromkeys(made, objective)), made["b"]


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def train(step, state, numbers):
    for number in numbers:
        state, _ = step(state, dict.fromkeys(NAMES, batch(seed=number)))
    return state


def on_device(step, saved):
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), saved, step.init())


@pytest.fixture(scope="module")
def narrow():
    step, _ = make(5)
    return step, jax.tree.map(np.asarray, train(step, step.init(), range(3)))


def test_the_others_do_not_notice(narrow):
    step, saved = narrow
    wide, model = make(9)
    fresh = wide.optimizer.init({**saved.params, "b": nnx.to_pure_dict(nnx.state(model, nnx.Param))})
    state = on_device(step, saved)
    replaced = training.replace_model(state, "b", model, fresh)
    assert int(replaced.step) == 3
    assert replaced.params["b"]["inner"]["kernel"].shape == (4, 9)
    adam = replaced.opt_state[1].models
    assert bits(adam["a"]) == bits(state.opt_state[1].models["a"])
    assert int(adam["b"][0].count) == 0
    assert int(replaced.opt_state[0].count) == 3, "what belongs to no model goes on"
    assert bits(replaced.opt_state[2].models["a"]) == bits(state.opt_state[2].models["a"])
    for field in ("params", "variables"):
        assert bits(getattr(replaced, field)["a"]) == bits(getattr(state, field)["a"])
    # And so it goes on: without sharing, the other model trains as if nothing had happened.
    expected = train(step, on_device(step, saved), range(3, 5))
    after = train(wide, replaced, range(3, 5))
    np.testing.assert_allclose(after.params["a"]["inner"]["kernel"], expected.params["a"]["inner"]["kernel"], atol=1e-6)
    assert not np.array_equal(after.params["b"]["inner"]["kernel"], nnx.state(model)["inner"]["kernel"][...])


def test_refusals(narrow):
    step, _ = narrow
    state = step.init()
    with pytest.raises(ArenaError, match="the state has no model 'c'"):
        training.replace_model(state, "c", Classifier(5, 2), state.opt_state)
    with pytest.raises(ArenaError, match="optimizer_state is of another optimizer"):
        training.replace_model(state, "b", Classifier(5, 2), optax.adam(0.1).init(state.params))
    with pytest.raises(ArenaError, match=r"is a dict, not a flax\.nnx\.Module"):
        training.replace_model(state, "b", state.params["b"], state.opt_state)
