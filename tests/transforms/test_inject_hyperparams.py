"""``optax.inject_hyperparams`` with every transformation: eagerly and under jit, the numbers are those without it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError

WEIGHTS = {"ant": 1.0, "bee": 0.8}
LOSSES = {"ant": 2.0, "bee": 3.0}
PARTS = {"labels": {"ant": "a", "bee": "b"}, "multipliers": {"a": 2, "b": 1}}
# name: (the factory, its arguments). Every number among them, and every default that is one, is traced but for lengths.
TABLE = {
    "share_gradients": (tx.share_gradients, {"weights": WEIGHTS, "alpha": 0.3, "every": 2}),
    "synchronize_parameters": (tx.synchronize_parameters, {"weights": WEIGHTS, "beta": 0.3, "every": 2}),
    "scale_by_convergence": (tx.scale_by_convergence, {"window": 3, "decay": 0.5, "low": 0.7, "high": 1.4}),
    "scale_by_model_weight": (tx.scale_by_model_weight, {"weights": WEIGHTS, "base": 0.5}),
    "scale_by_learning_rates": (tx.scale_by_learning_rates, {"learning_rates": 0.1}),
    "scale_by_component": (tx.scale_by_component, PARTS),
    "scale_by_component_rates": (
        tx.scale_by_component_rates, {"components": lambda path: path[0], "rates": {"blocks": 4.0}}
    ),
    "clip_by_model_norm": (tx.clip_by_model_norm, {"max_norm": 0.5, "epsilon": 1e-3}),
    "per_model": (tx.per_model, {"optimizer": optax.adam(0.1)}),
    "freeze": (tx.freeze, {"frozen": ["*/embeddings"], "optimizer": optax.sgd(0.1)}),
    "scale_by_adam": (tx.scale_by_adam, {"b1": 0.8, "b2": 0.9, "eps": 1e-3}),
    "scale_by_adam published": (tx.scale_by_adam, {"b1": 0.8, "eps_before_correction": True, "amsgrad": True}),
    "multi_model_adamw": (
        tx.multi_model_adamw,
        {"learning_rate": 0.1, "weights": WEIGHTS, "window": 3, "b1": 0.8, "eps": 1e-3, "alpha": 0.3, "share_every": 2,
         "max_norm": 1.0, "beta": 0.2, "sync_every": 2, "warmup_steps": 2, "decay_steps": 9, "weight_decay": 0.1,
         "low": 0.7, "high": 1.3, "convergence_decay": 0.5, "convergence_every": 1},
    ),
    "multi_model_adamw published": (
        tx.multi_model_adamw, {"learning_rate": 0.1, "weights": WEIGHTS, "form": "published", "b2": 0.9}
    ),
    "multi_model_adamw by its form alone": (tx.multi_model_adamw, {"learning_rate": 0.1}),
}  # fmt: skip


def tree(seed=0, dtype=jnp.float32):
    key = iter(jax.random.split(jax.random.key(seed), 4))
    normal = lambda *shape: jax.random.normal(next(key), shape).astype(dtype)  # noqa: E731
    return {
        "ant": {"embeddings": {"token": normal(5, 3)}, "blocks": {"mlp": {"kernel": normal(2, 3, 3)}}},
        "bee": {"embeddings": {"token": normal(5, 3)}, "blocks": {"mlp": {"kernel": normal(3, 3, 3)}}},
    }


def injected(factory, arguments):
    """Lengths and functions of a path are static; what is a number or has one as default is traced."""
    lengths = [name for name in inspect.signature(factory).parameters if name in ("window", "components")]
    return optax.inject_hyperparams(factory, static_args=lengths)(**arguments)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("under", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_the_numbers_are_those_without_it(name, under):
    factory, arguments = TABLE[name]
    results = []
    for optimizer in (factory(**arguments), injected(factory, arguments)):
        params = tree()
        state = under(optimizer.init)(params)
        update = under(lambda g, s, p, o=optimizer: o.update(g, s, p, value=LOSSES))
        for seed in (1, 2, 3):
            updates, state = update(tree(seed), state, params)
            params = optax.apply_updates(params, updates)
        results.append(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), *results)
    traced = {k for k, v in arguments.items() if isinstance(v, int | float) and not isinstance(v, bool)} - {"window"}
    assert traced <= set(state.hyperparams)


@pytest.mark.parametrize("name", TABLE)
def test_half_precision_keeps_its_types(name):
    """A traced coefficient has the parameters' own type, which must spread to no state and no update."""
    optimizer = injected(*TABLE[name])
    params = tree(dtype=jnp.bfloat16)
    state = optimizer.init(params)
    updates, after = jax.jit(lambda g, s, p: optimizer.update(g, s, p, value=LOSSES))(
        tree(1, jnp.bfloat16), state, params
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    types = lambda state: jax.tree.map(lambda leaf: leaf.dtype, state.inner_state)  # noqa: E731
    assert types(after) == types(state)


def test_a_rate_is_changed_in_the_midst_of_training():
    """What it is for: the state's own number decides from the next update on."""
    optimizer = optax.inject_hyperparams(tx.multi_model_adamw)(1e-2, warmup_steps=0, decay="constant")
    update = jax.jit(optimizer.update)
    params = tree()
    _, state = update(tree(1), optimizer.init(params), params)
    assert tx.learning_rates(state)["ant"] == pytest.approx(1e-2)
    state.hyperparams["learning_rate"] = jnp.float32(1e-3)
    _, state = update(tree(1), state, params)
    assert tx.learning_rates(state)["ant"] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: optax.inject_hyperparams(tx.scale_by_convergence)(window=3), "window"),
        (lambda: optax.inject_hyperparams(tx.multi_model_adamw)(0.1, window=3), "window"),
        (lambda: optax.inject_hyperparams(tx.share_gradients)(correspondence=tx.by_role), "correspondence"),
        (lambda: optax.inject_hyperparams(tx.multi_model_adamw)(0.1, correspondence=tx.by_layer), "correspondence"),
    ],
)
def test_what_must_stay_static_is_named(build, name):
    optimizer = build()
    for init in (optimizer.init, jax.jit(optimizer.init)):
        with pytest.raises(ArenaError, match=rf"static_args=\('{name}',\)"):
            init(tree())


def test_the_table_holds_every_transformation():
    """A new one must be added above."""
    factories = {
        getattr(tx, name)
        for name in tx.__all__
        if name.startswith(("share_", "synchronize_", "scale_by_", "clip_", "per_", "freeze", "multi_"))
    }
    assert factories - {factory for factory, _ in TABLE.values()} == {tx.scale_by_muon}  # Optax's own, for one model
