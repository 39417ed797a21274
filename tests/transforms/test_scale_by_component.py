"""Multipliers by component: bitwise neutral at one, equal to a partition of AdamW, and 0 freezes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError

LABELS = {"embeddings": "emb", "blocks": {"query": "qk", "up": "ffn"}, "scale": "ln"}
RATE, DECAY = 3e-3, 0.1


def params(seed=0):
    a, b, c, d = jax.random.split(jax.random.key(seed), 4)
    return {
        "embeddings": jax.random.normal(a, (5, 4)),
        "blocks": {"query": jax.random.normal(b, (2, 4, 4)), "up": jax.random.normal(c, (2, 4, 8))},
        "scale": jax.random.normal(d, (4,)),
    }


def adamw(link):
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(DECAY), link, optax.scale(-RATE))


def train(optimizer, steps=3, compiled=True, **extra):
    def step(p, state, gradients):
        updates, state = optimizer.update(gradients, state, p, **extra)
        return optax.apply_updates(p, updates), state

    step = jax.jit(step) if compiled else step
    p = params()
    state = optimizer.init(p)
    for seed in range(1, steps + 1):
        p, state = step(p, state, params(seed))
    return p


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("ones", [{}, {"multipliers": dict.fromkeys(["emb", "qk", "ffn", "ln"], 1.0)}])
def test_all_ones_are_bitwise_the_base_optimizer(ones):
    link = tx.scale_by_component(LABELS, dict.fromkeys(["emb", "qk", "ffn", "ln"], 1.0))
    same(train(optax.with_extra_args_support(adamw(link)), **ones), train(adamw(optax.identity())))


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_adamw_with_each_components_rate(normalize):
    """Reference: AdamW with the rate m·rate. Powers of 2 with geometric mean 1 agree to the last bit, uncompiled.

    (Compiled, XLA fuses the two products differently: 1 unit in the last place, as in optax.partition below.)
    """
    multipliers = {"emb": 4.0, "qk": 0.5, "ffn": 0.5, "ln": 1.0}
    trained = train(adamw(tx.scale_by_component(LABELS, multipliers, normalize=normalize)), compiled=False)
    for label, m in multipliers.items():
        alone = train(optax.adamw(RATE * m, weight_decay=DECAY), compiled=False)
        for name, got, want in zip(*map(jax.tree.leaves, (LABELS, trained, alone)), strict=True):
            if name == label:
                np.testing.assert_array_equal(got, want)


def test_equals_a_partition_of_adamw():
    """Reference: optax.partition, itself 1 unit in the last place from AdamW."""
    multipliers = {"emb": 10.0, "qk": 8.0, "ffn": 6.0, "ln": 1.0}  # the block-wise rates of Wang et al.
    mean = 480.0**0.25
    link = tx.scale_by_component(LABELS, multipliers)
    partition = optax.partition(
        {k: optax.adamw(RATE * m / mean, weight_decay=DECAY) for k, m in multipliers.items()}, LABELS
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-7), train(adamw(link)), train(partition)
    )


def test_zero_freezes_weight_decay_included():
    link = tx.scale_by_component(LABELS, {"emb": 0.0, "qk": 2.0, "ffn": 0.5, "ln": 1.0})
    trained, start = train(adamw(link)), params()
    np.testing.assert_array_equal(trained["embeddings"], start["embeddings"])
    assert (trained["blocks"]["up"] != start["blocks"]["up"]).any()
    # The frozen one does not count in the mean: the others are as without it.
    without = train(adamw(tx.scale_by_component(LABELS, {"emb": 1.0, "qk": 2.0, "ffn": 0.5, "ln": 1.0})))
    same(trained["blocks"], without["blocks"])
    # Not even what is not a number gets through.
    updates = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params())
    scaled, _ = link.update(updates, link.init(updates))
    assert not scaled["embeddings"].any()


def test_multipliers_may_change_at_every_step_without_a_new_trace():
    link = tx.scale_by_component(LABELS, dict.fromkeys(["emb", "qk", "ffn", "ln"], 1.0))
    traces = []

    @jax.jit
    def update(u, multipliers):
        traces.append(1)
        return link.update(u, link.init(u), multipliers=multipliers)[0]

    u = params()
    for emb in (16.0, 1.0, 0.0):
        now = {"emb": jnp.float32(emb), "qk": jnp.float32(1), "ffn": jnp.float32(1), "ln": jnp.float32(1)}
        mean = max(emb, 1.0) ** (1 / 4)
        got = update(u, now)
        np.testing.assert_allclose(got["embeddings"], u["embeddings"] * emb / mean, rtol=1e-6)
        np.testing.assert_allclose(got["scale"], u["scale"] / mean, rtol=1e-6)
    assert len(traces) == 1


def test_one_multiplier_per_stacked_layer():
    per_layer = {"emb": 1.0, "qk": [4.0, 0.25], "ffn": 1.0, "ln": 1.0}
    u = params()
    for extra in ({}, {"multipliers": {k: jnp.asarray(v) for k, v in per_layer.items()}}):
        link = tx.scale_by_component(LABELS, per_layer if not extra else dict.fromkeys(per_layer, 1.0))
        scaled, _ = link.update(u, link.init(u), **extra)
        np.testing.assert_allclose(scaled["blocks"]["query"][0], 4 * u["blocks"]["query"][0], rtol=1e-6)
        np.testing.assert_allclose(scaled["blocks"]["query"][1], u["blocks"]["query"][1] / 4, rtol=1e-6)
        np.testing.assert_allclose(scaled["scale"], u["scale"], rtol=1e-6)


def test_labels_as_a_function_of_the_path_or_as_a_prefix():
    u = {"bert": params(1), "gpt2": params(2)}
    by_path = tx.scale_by_component(lambda path: "b" if path[0] == "bert" else path[1], MODELS)
    tree = {"bert": "b", "gpt2": {"embeddings": "embeddings", "blocks": "blocks", "scale": "scale"}}
    by_tree = tx.scale_by_component(tree, MODELS)
    same(by_path.update(u, by_path.init(u))[0], by_tree.update(u, by_tree.init(u))[0])


MODELS = {"b": 4.0, "embeddings": 1.0, "blocks": 0.25, "scale": 1.0}


def link_of(labels, constants, **extra):
    link = tx.scale_by_component(labels, constants)
    return link.update(params(), link.init(params()), **extra)


GOOD = dict.fromkeys(["emb", "qk", "ffn", "ln"], 1.0)
BAD = {
    "missing": (lambda: link_of(LABELS, {"emb": 1.0, "qk": 1.0, "ffn": 1.0}), "no multiplier for the label 'ln'"),
    "unused": (lambda: link_of(LABELS, {**GOOD, "nl": 1.0}), "no parameter is labelled 'nl'; known: emb, ffn, ln, qk"),
    "negative": (lambda: link_of(LABELS, {**GOOD, "ln": -1.0}), "the multiplier of 'ln' is -1.0"),
    "NaN": (lambda: link_of(LABELS, {**GOOD, "ln": np.nan}), "give a number, 0 or more"),
    "text": (lambda: link_of(LABELS, {**GOOD, "ln": "x"}), "the multiplier of 'ln' is 'x'; give a number"),
    "empty": (lambda: link_of(LABELS, {}), "with at least one label"),
    "tree": (lambda: link_of({"embeddings": "emb"}, GOOD), "the labels do not fit the parameters"),
    "update": (lambda: link_of(LABELS, GOOD, multipliers={"emb": 1.0}), "in update(..., multipliers=)"),
    "layers": (lambda: link_of(LABELS, {**GOOD, "qk": [1.0, 2.0, 3.0]}), "one number per layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case):
    call, message = BAD[case]
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_counts_once_in_the_mean_however_many_layers_it_has():
    one, per_layer = dict(GOOD, qk=8.0), dict(GOOD, qk=[8.0, 8.0])
    same(link_of(LABELS, one)[0], link_of(LABELS, per_layer)[0])
    now = {name: jnp.asarray(m) for name, m in per_layer.items()}
    same(link_of(LABELS, one)[0], link_of(LABELS, GOOD, multipliers=now)[0])


TWO = {"bert": {"up": jnp.ones((2, 3)), "head": jnp.ones(3)}, "gpt2": {"up": jnp.ones((3, 3))}}


def rates_of(rates):
    link = tx.scale_by_component_rates(lambda path: path[0], rates)
    return link.update(TWO, link.init(TWO))[0]


def test_rates_by_component_are_scaled_within_each_model():
    scaled = rates_of({"up": 4.0, "head": 9.0})
    np.testing.assert_allclose(scaled["bert"]["up"], np.full((2, 3), 4 / 6))
    np.testing.assert_allclose(scaled["bert"]["head"], np.full(3, 9 / 6), rtol=1e-6)
    np.testing.assert_array_equal(scaled["gpt2"]["up"], TWO["gpt2"]["up"])  # one component alone has the mean of all
    scaled = rates_of({"bert": {"up": [8.0, 2.0]}})
    np.testing.assert_allclose(scaled["bert"]["up"], [[4.0] * 3, [1.0] * 3])
    np.testing.assert_array_equal(scaled["gpt2"]["up"], TWO["gpt2"]["up"])


BAD_RATES = {
    "nobody's": ({"pu": 2.0}, "no model trains a component 'pu'; known: head, up"),
    "another's": ({"gpt2": {"head": 2.0}}, "'gpt2' trains no component 'head'; known: up"),
    "no model": ({"brt": {"up": 2.0}}, "no model 'brt'; did you mean 'bert'"),
    "mixed": ({"bert": {"up": 2.0}, "gpt2": 1.0}, "the rates of 'gpt2' are 1.0"),
    "layers": ({"up": [1.0, 2.0]}, "'gpt2' is given 2 numbers for 'up', and has 3 layers"),
    "negative": ({"up": -1.0}, "the multiplier of 'up' is"),
}


@pytest.mark.parametrize("name", BAD_RATES)
def test_rates_that_fit_no_model_are_refused_when_it_begins(name):
    rates, message = BAD_RATES[name]
    link = tx.scale_by_component_rates(lambda path: path[0], rates)
    with pytest.raises(ArenaError, match=re.escape(message)):
        link.init(TWO)
