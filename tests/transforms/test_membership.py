"""Models leave and join in mid-training: what belongs to the others stays what it is, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError

WEIGHTS = {"a": 1.0, "b": 0.5, "c": 2.0}
KINDS = {
    "default": lambda names: tx.multi_model_adamw(0.1, {n: WEIGHTS[n] for n in names}, sync_every=2),
    "paper": lambda names: tx.multi_model_adamw(dict.fromkeys(names, 0.1), form="paper", window=2),
    "published, clipped": lambda names: tx.multi_model_adamw(0.1, form="published", max_norm=1.0, sync_every=2),
    "muon": lambda names: tx.multi_model_adamw(0.1, inner=tx.scale_by_muon),
    "frozen": lambda names: tx.freeze(["a/embeddings"] if "a" in names else [], tx.multi_model_adamw(0.1)),
    "rates that arrive": lambda names: tx.multi_model_adamw(None),
    "Optax's own": lambda names: optax.adamw(0.1),
    "in MultiSteps": lambda names: optax.MultiSteps(tx.multi_model_adamw(0.1), 2),
    "injected": lambda names: optax.inject_hyperparams(tx.multi_model_adamw)(0.1),
}


def parameters(names):
    return {
        name: {
            "embeddings": {"token": jnp.arange(6.0).reshape(3, 2) + i},
            "blocks": {"mlp": {"kernel": jnp.ones((2, 2, 3)) * (i + 1)}},
        }
        for i, name in enumerate("abc")
        if name in names
    }


def extra(kind, names):
    rates = {"learning_rates": dict.fromkeys(names, 0.1)} if kind == "rates that arrive" else {}
    return {"value": dict.fromkeys(names, 1.0), **rates}


def trained(kind, names, steps=3):
    optimizer = KINDS[kind](names)
    params = parameters(names)
    state = optimizer.init(params)
    for _ in range(steps):
        gradients = jax.tree.map(jnp.sin, params)
        updates, state = optimizer.update(gradients, state, params, **extra(kind, names))
        params = optax.apply_updates(params, updates)
    return params, state


def by_path(state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_stay_keep_every_bit_and_go_on(kind):
    params, state = trained(kind, "abc")
    left = tx.select_models(state, ["c", "a"])
    optimizer = KINDS[kind]("ac")
    before, after = by_path(state), by_path(left)
    assert set(after) == {path for path in before if "['b']" not in path}
    for path, leaf in after.items():
        np.testing.assert_array_equal(leaf, before[path], err_msg=path)
    rest = {name: params[name] for name in "ac"}
    assert jax.tree.structure(left) == jax.tree.structure(optimizer.init(rest))
    optimizer.update(jax.tree.map(jnp.sin, rest), left, rest, **extra(kind, "ac"))


@pytest.mark.parametrize("kind", KINDS)
def test_who_joins_begins_and_the_others_go_on(kind):
    params, state = trained(kind, "ab")
    everyone = {**params, "c": parameters("c")["c"]}
    optimizer = KINDS[kind]("abc")
    joined = tx.add_models(optimizer, state, everyone)
    fresh, before = by_path(optimizer.init(everyone)), by_path(state)
    assert jax.tree.structure(joined) == jax.tree.structure(optimizer.init(everyone))
    for path, leaf in by_path(joined).items():
        np.testing.assert_array_equal(leaf, before[path] if path in before else fresh[path], err_msg=path)
    optimizer.update(jax.tree.map(jnp.sin, everyone), joined, everyone, **extra(kind, "abc"))


def test_leaving_and_joining_again_is_a_new_beginning():
    params, state = trained("paper", "abc")
    again = tx.add_models(KINDS["paper"]("abc"), tx.select_models(state, "ab"), params)
    assert int(again[2].models["c"].count) == 0
    assert int(again[2].models["a"].count) == 3


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda state, params: tx.select_models(state, ["a", "bert"]), "no model 'bert'"),
        (lambda state, params: tx.select_models(state, ["bert"]), "no model 'bert'"),
        (lambda state, params: tx.select_models(state, []), "name those that stay"),
        (lambda state, params: tx.add_models(tx.multi_model_adamw(0.1), state, {"a": params["a"]}), "among the param"),
        (
            lambda state, params: tx.add_models(
                tx.multi_model_adamw(0.1), state, {**params, "a": jax.tree.map(lambda p: p[:1], params["a"])}
            ),
            r"float32\[2, 2, 3\] in the state and float32\[1, 2, 3\]",
        ),
        (lambda state, params: tx.add_models(tx.multi_model_adamw(0.1, form="paper"), state, params), "do not fit"),
    ],
)
def test_a_mistake_is_told_in_one_line(act, message):
    params = parameters("ab")
    state = tx.multi_model_adamw(0.1).init(params)
    with pytest.raises(ArenaError, match=message) as caught:
        act(state, params)
    assert "\n" not in str(caught.value)
