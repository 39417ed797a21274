"""One battery over a table of all transformations: what anyone may expect of a link in an Optax chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from arena_jax import transforms as tx

WEIGHTS = {"ant": 1.0, "bee": 0.8}
TABLE = {
    "share_gradients": lambda: tx.share_gradients(WEIGHTS),
    "share_gradients mean every 2": lambda: tx.share_gradients(WEIGHTS, reduce="mean", every=2, normalize=True),
    "share_gradients by layer": lambda: tx.share_gradients(correspondence=tx.by_layer),
    "synchronize_parameters": lambda: tx.synchronize_parameters(WEIGHTS, every=2),
    "synchronize_parameters always": lambda: tx.synchronize_parameters(every=1, correspondence=tx.by_role),
    "scale_by_convergence": lambda: tx.scale_by_convergence(window=2),
    "scale_by_convergence signed": lambda: tx.scale_by_convergence(window=2, slope="signed", every=2),
    "scale_by_convergence studentized": lambda: tx.scale_by_convergence(window=3, slope="studentized"),
    "scale_by_learning_rates": lambda: tx.scale_by_learning_rates({"ant": 0.1, "bee": optax.constant_schedule(0.2)}),
    "scale_by_model_weight": lambda: tx.scale_by_model_weight(WEIGHTS, base=0.5),
    "scale_by_component": lambda: tx.scale_by_component(
        lambda path: "embeddings" if "embeddings" in path else "rest", {"embeddings": 3.0, "rest": 1.0}
    ),
    "scale_by_component_rates": lambda: tx.scale_by_component_rates(
        lambda path: "embeddings" if "embeddings" in path else "rest", {"ant": {"embeddings": 3.0}}
    ),
    "clip_by_model_norm": lambda: tx.clip_by_model_norm(0.5),
    "per_model": lambda: tx.per_model({"ant": optax.adam(0.1), "bee": optax.sgd(0.1, momentum=0.9)}),
    "freeze": lambda: tx.freeze(["*/embeddings"], tx.per_model(optax.adamw(0.1))),
    "scale_by_adam": lambda: tx.scale_by_adam(),
    "scale_by_adam published": lambda: tx.scale_by_adam(eps_before_correction=True, amsgrad=True),
    "multi_model_adamw": lambda: tx.multi_model_adamw(
        0.1, WEIGHTS, warmup_steps=1, window=2, sync_every=2, max_norm=1.0
    ),
    "multi_model_adamw paper": lambda: tx.multi_model_adamw(0.1, WEIGHTS, form="paper", warmup_steps=1, window=2),
    "multi_model_adamw published": lambda: tx.multi_model_adamw(
        0.1, WEIGHTS, form="published", warmup_steps=1, window=2, sync_every=2, max_norm=1.0
    ),
    "multi_model_adamw lion": lambda: tx.multi_model_adamw(0.1, WEIGHTS, inner=optax.scale_by_lion, warmup_steps=1),
    "multi_model_adamw by component": lambda: tx.multi_model_adamw(
        0.1, WEIGHTS, component_rates={"embeddings": 3.0}, components=lambda path: path[0], warmup_steps=1
    ),
    "multi_model_adamw muon": lambda: tx.multi_model_adamw(0.1, WEIGHTS, inner=tx.scale_by_muon, warmup_steps=1),
}
LOSSES = {"ant": 2.0, "bee": 3.0}
pytestmark = pytest.mark.parametrize("name", TABLE)


def tree(seed=0, dtype=jnp.float32):
    """Two small models of different depth: one stacked, one a list of blocks."""
    key = iter(jax.random.split(jax.random.key(seed), 8))
    normal = lambda *shape: jax.random.normal(next(key), shape).astype(dtype)  # noqa: E731
    return {
        "ant": {
            "embeddings": {"token": normal(5, 3)},
            "blocks": {"attention": {"query": {"kernel": normal(2, 3, 3)}}},
        },
        "bee": {
            "embeddings": {"token": normal(5, 3)},
            "blocks": [{"attention": {"query": {"kernel": normal(3, 3)}}} for _ in range(2)],
            "scale": normal(),
        },
    }


def signature(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf), leaf.weak_type), tree)


def test_one_trace_serves_two_steps_and_the_state_keeps_its_types(name):
    optimizer = TABLE[name]()
    traces = []

    @jax.jit
    def step(gradients, state, params):
        traces.append(1)
        updates, state = optimizer.update(gradients, state, params, value=LOSSES, unknown="ignored")
        return optax.apply_updates(params, updates), state

    params = tree()
    state = optimizer.init(params)
    assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in jax.tree.leaves(state))
    first = signature(state)
    for seed in (1, 2):
        params, state = step(tree(seed), state, params)
    assert len(traces) == 1
    assert signature(state) == first
    assert jax.tree.structure(params) == jax.tree.structure(tree())
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_results_have_the_gradients_dtype_and_can_be_evaluated_abstractly(name, dtype):
    optimizer = TABLE[name]()
    with jax.enable_x64(dtype == jnp.float64):
        params = tree(dtype=dtype)
        state = jax.eval_shape(optimizer.init, params)
        assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))
        update = lambda g, s, p: optimizer.update(g, s, p, value=LOSSES)  # noqa: E731
        updates, after = jax.eval_shape(update, params, state, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)


def test_works_inside_multi_steps_and_cond(name):
    """MultiSteps of twice the same gradient is one update with it, made under a cond."""
    optimizer = TABLE[name]()
    params, gradients = tree(), tree(1)
    multi = optax.MultiSteps(optimizer, every_k_schedule=2)
    update = jax.jit(lambda g, s, p: multi.update(g, s, p, value=LOSSES))
    state = multi.init(params)
    nothing, state = update(gradients, state, params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(nothing))
    got, state = update(gradients, state, params)
    want, _ = optimizer.update(gradients, optimizer.init(params), params, value=LOSSES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), got, want)


def test_nnx_state_and_dictionary_give_the_same_numbers(name):
    optimizer = TABLE[name]()

    def as_state(tree):
        tree = jax.tree.map(nnx.Param, tree)
        tree["bee"]["blocks"] = dict(enumerate(tree["bee"]["blocks"]))
        return {model: nnx.State(parameters) for model, parameters in tree.items()}

    params, gradients = tree(), tree(1)
    want, _ = optimizer.update(gradients, optimizer.init(params), params, value=LOSSES)
    for wrap in (as_state, lambda t: nnx.State(as_state(t))):
        wrapped = wrap(params)
        got, _ = optimizer.update(wrap(gradients), optimizer.init(wrapped), wrapped, value=LOSSES)
        assert jax.tree.structure(got) == jax.tree.structure(wrapped)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_an_inactive_model_may_hold_nan_and_leaves_no_trace(name):
    """What the others get is what they get beside a model of zero gradients that weighs nothing."""
    if name.startswith(("scale_by_adam",)):
        pytest.skip("keeps one count for the whole tree; per_model is what honours active")
    optimizer = TABLE[name]()
    params = tree()
    state = optimizer.init(params)
    step = jax.jit(lambda g, s, p, active: optimizer.update(g, s, p, value={"ant": 2.0, "bee": jnp.nan}, active=active))
    for seed in (1, 2):
        gradients = tree(seed)
        gradients["bee"] = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), gradients["bee"])
        updates, after = step(gradients, state, params, {"ant": True, "bee": False})
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates["bee"]))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates["ant"]))
        before = dict(jax.tree_util.tree_leaves_with_path(state))
        for path, leaf in jax.tree_util.tree_leaves_with_path(after):
            if "bee" in jax.tree_util.keystr(path):
                np.testing.assert_array_equal(leaf, before[path])
        state = after
    everyone, _ = step(tree(1), optimizer.init(params), params, {"ant": True, "bee": True})
    plain, _ = optimizer.update(tree(1), optimizer.init(params), params, value={"ant": 2.0, "bee": jnp.nan})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), everyone, plain)


@pytest.mark.parametrize("diverged", ["ant", "bee"])
def test_a_diverged_model_moves_no_bit_of_the_others(name, diverged):
    """NaN or infinity in a model that is left out; against a run in which its numbers were finite, and left out too.

    As the training step does it: what is non-finite makes the model inactive, and a gradient that an optimizer without
    `active` would see is 0.
    """
    optimizer = TABLE[name]()
    healthy = "bee" if diverged == "ant" else "ant"
    knows_active = not name.startswith("scale_by_adam")

    def step(gradients, state, params, losses):
        norms = {model: optax.tree.norm(gradients[model]) for model in params}
        active = {model: jnp.isfinite(losses[model]) & jnp.isfinite(norms[model]) for model in params}
        active[diverged] = active[diverged] & False  # the run compared with leaves it out, finite
        if not knows_active:
            keep = lambda g, on: jnp.where(on, g, 0).astype(g.dtype)  # noqa: E731
            gradients = {m: jax.tree.map(lambda g, m=m: keep(g, active[m]), gradients[m]) for m in params}
        updates, state = optimizer.update(gradients, state, params, value=losses, active=active)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step)

    def end(bad=None, where=()):
        params = tree()
        state = optimizer.init(params)
        for seed in (1, 2, 3):
            gradients, losses = tree(seed), dict(LOSSES)
            if seed != 2:  # diverged, healthy (but left out alike), diverged
                if "gradient" in where:
                    gradients[diverged] = jax.tree.map(lambda leaf: jnp.full_like(leaf, bad), gradients[diverged])
                if "loss" in where:
                    losses[diverged] = bad
            params, state = step(gradients, state, params, losses)
        return params, state

    absent = end()
    moved = zip(jax.tree.leaves(absent[0][healthy]), jax.tree.leaves(tree()[healthy]), strict=True)
    assert any(np.any(a != b) for a, b in moved)
    for bad in (np.nan, np.inf, -np.inf):
        for where in (("gradient",), ("loss",), ("gradient", "loss")):
            for a, b in zip(*map(jax.tree.leaves, (absent, end(bad, where))), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{bad} in {where}")
