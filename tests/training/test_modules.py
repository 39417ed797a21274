"""Modules of one's own, with dropout and batch statistics, against the module itself run eagerly by Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from arena_jax import models, training
from arena_jax.config.errors import ArenaError
from arena_jax.runs.checkpoints import Checkpoints

RATE = 0.5


class Classifier(nnx.Module):
    """Everything that has a state beside its parameters."""

    def __init__(self, width, seed):
        rngs = nnx.Rngs(seed)
        self.inner = nnx.Linear(4, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.outer = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.outer(self.dropout(jax.nn.tanh(self.norm(self.inner(x)))))


def objective(model, batch, key, train):
    """Cross-entropy, summed."""
    losses = optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["labels"])
    return training.Result({"loss_sum": losses.sum(), "count": jnp.float32(losses.size)}, {})


def batch(rows=8, seed=0):
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=(rows, 4)).astype(np.float32), "labels": random.integers(0, 2, rows)}


@pytest.fixture(scope="module")
def step():
    made = {"a": Classifier(3, 1), "b": Classifier(5, 2)}
    return training.make_step(
        made, optax.sgd(RATE), dict.fromkeys(made, objective), accumulation={"a": 2, "b": 1}, skip_nonfinite=True
    )


def mean_loss(model, part):
    return objective(model, part, None, True).sums["loss_sum"] / 8


def by_flax(model, steps, parts):
    """The same training by Flax alone: the module keeps its own state, and is changed in place."""
    model.train()
    backward = nnx.jit(nnx.grad(mean_loss))
    for number in range(steps):
        rows = batch(seed=number)
        gradients = [
            backward(model, {k: v[i::1][: 8 // parts] for k, v in rows.items()}) for i in range(0, 8, 8 // parts)
        ]
        total = jax.tree.map(lambda *g: sum(g), *gradients)
        nnx.update(model, jax.tree.map(lambda p, g: p - RATE * g, nnx.state(model, nnx.Param), total))
    return model


def test_a_module_with_a_state_trains_as_flax_trains_it(step):
    state = step.init()
    for number in range(3):
        state, metrics = step(state, dict.fromkeys("ab", batch(seed=number)))
    assert float(metrics["a"]["skipped"]) == 0
    for name, (width, seed, parts) in {"a": (3, 1, 2), "b": (5, 2, 1)}.items():
        model = by_flax(Classifier(width, seed), 3, parts)
        params, others = (nnx.to_pure_dict(part) for part in nnx.split(model, nnx.Param, ...)[1:])
        for path, expected in jax.tree_util.tree_leaves_with_path(params):
            got = state.params[name][path[0].key][path[1].key]
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)  # measured: 3e-7
        for statistic in ("mean", "var"):
            got = state.variables[name]["norm"][statistic]
            np.testing.assert_allclose(got, others["norm"][statistic], rtol=0, atol=2e-6)
        assert int(state.variables[name]["dropout"]["rngs"]["count"]) == 3 * parts, "a key per microbatch, in order"
        model.eval()
        expected = objective(model, batch(seed=9), None, False).sums["loss_sum"]
        rows = batch(seed=9)
        sums = step.evaluate(name, state.params[name], rows, variables=state.variables[name]).sums
        np.testing.assert_allclose(sums["loss_sum"], expected, rtol=1e-5)
        with pytest.raises(ArenaError, match=rf"give those of the train state, variables=state.variables\['{name}'\]"):
            step.evaluate(name, state.params[name], rows)


def test_a_model_that_sits_out_keeps_its_variables(step):
    state = step.init()
    before = jax.tree.map(np.array, state.variables)
    rows = batch() | {"x": np.full((8, 4), np.nan, np.float32)}
    active = {"a": np.bool_(False), "b": np.bool_(True)}
    state, metrics = step(state, {"a": batch(), "b": rows}, active=active)
    assert float(metrics["b"]["skipped"]) == 1
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_variables_are_saved_and_read_back(step, tmp_path):
    state, _ = step(step.init(), dict.fromkeys("ab", batch()), active=dict.fromkeys("ab", np.bool_(True)))
    with Checkpoints(tmp_path, writing=True) as checkpoints:
        checkpoints.save(1, state, {})
    loaded, _ = Checkpoints(tmp_path).load(step.init())
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(old, new)


def refuse(match, model=None, *, objectives="given"):
    model = Classifier(3, 1) if model is None else model
    given = {"objectives": {"mine": objective} if objectives == "given" else objectives}
    with pytest.raises(ArenaError, match=match):
        training.make_step({"mine": model}, optax.sgd(RATE), **given)(None, {"mine": batch()})


def test_what_cannot_train_is_told_at_once():
    refuse(
        r"'mine' is a Classifier, which has no task: give objectives=\{'mine': objective, …\}; write def",
        None,
        objectives=None,
    )
    refuse(r"'mine' is a dict, not a flax.nnx.Module", {"kernel": np.ones(3)})
    refuse("'mine' has no nnx.Param", nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    shown = r"write def objective\(model, batch, key, training\)"
    refuse(f"objective of 'mine' cannot be called with .*; {shown}", objectives={"mine": lambda model, batch: 0.0})
    refuse(f"objective of 'mine' is no function; {shown}", objectives={"mine": 3})


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (jnp.float32(1), r"returned a .*; write def objective"),
        (training.Result({"count": jnp.float32(1)}, {}), "returned no 'loss_sum'; write def objective"),
        (training.Result({"loss_sum": jnp.ones(2), "count": 1.0}, {}), r"'loss_sum' of shape \(2,\), not a scalar"),
    ],
)
def test_an_objective_that_returns_something_else(returned, told):
    step = training.make_step(
        {"m": Classifier(3, 1)}, optax.sgd(RATE), {"m": lambda model, batch, key, train: returned}
    )
    with pytest.raises(ArenaError, match=told):
        step(step.init(), {"m": batch()})


def test_models_of_this_package_have_no_variables():
    bert = models.create(models.preset("bert-tiny"), task="sequence-classification")
    state = training.make_step({"bert": bert}, optax.sgd(RATE)).init()
    assert state.variables == {"bert": {}}
