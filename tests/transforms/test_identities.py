"""What must be equal to what, whatever the numbers are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError

CORRESPONDENCES = {"kind": tx.by_kind, "role": tx.by_role, "layer": tx.by_layer}


def block(key, layers, width=4):
    key = iter(jax.random.split(key, 4))
    normal = lambda *shape: jax.random.normal(next(key), shape)  # noqa: E731
    return {
        "blocks": {
            "attention": {
                "query": {"kernel": normal(layers, width, width)},
                "key": {"kernel": normal(layers, width, width)},
            },
            "norm": {"scale": normal(layers, width)},
        },
        "embeddings": {"token": {"embedding": normal(6, width)}},
    }


@pytest.fixture(scope="module")
def params():
    return {name: block(jax.random.key(i), layers) for i, (name, layers) in enumerate({"a": 2, "b": 4, "c": 2}.items())}


def run(optimizer, params, steps=3, **extra):
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        gradients = jax.tree.map(jnp.sin, params)
        updates, state = optimizer.update(gradients, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_alpha_and_beta_0_are_the_plain_optimizer_to_the_bit(params):
    optimizer = tx.multi_model_adamw(optax.constant_schedule(0.1), max_norm=0, alpha=0, beta=0)
    assert_equal(run(optimizer, params), run(optax.adamw(0.1, weight_decay=0.01), params))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_one_model_alone_is_the_plain_optimizer_to_the_bit(params, reduce):
    alone = {"a": params["a"]}
    optimizer = tx.multi_model_adamw(
        optax.constant_schedule(0.1), {"a": 3.0}, alpha=0.5, beta=0.5, sync_every=1, reduce=reduce, max_norm=0
    )
    assert_equal(run(optimizer, alone), run(optax.adamw(0.1, weight_decay=0.01), alone))


@pytest.mark.parametrize("correspondence", CORRESPONDENCES.values(), ids=CORRESPONDENCES)
def test_renaming_the_models_renames_the_result(params, correspondence):
    weights = {"a": 1.0, "b": 0.5, "c": 2.0}
    names = {"a": "z", "b": "y", "c": "x"}  # which also turns their order round

    def optimizer(weights):
        return optax.chain(
            tx.share_gradients(weights, correspondence=correspondence),
            tx.per_model(optax.adam(0.1)),
            tx.synchronize_parameters(weights, every=2, correspondence=correspondence),
        )

    want = run(optimizer(weights), params)
    got = run(optimizer({names[m]: w for m, w in weights.items()}), {names[m]: p for m, p in params.items()})
    assert_close({m: got[names[m]] for m in names}, want, 2e-5)


@pytest.mark.parametrize("correspondence", CORRESPONDENCES.values(), ids=CORRESPONDENCES)
@pytest.mark.parametrize("active", [None, {"a": True, "b": False, "c": True}])
def test_equal_gradients_stay_equal_under_a_mean(params, correspondence, active):
    share = tx.share_gradients({"a": 1.0, "b": 0.5, "c": 2.0}, alpha=0.7, reduce="mean", correspondence=correspondence)
    gradients = jax.tree.map(lambda p: jnp.full_like(p, 0.3), params)
    got, _ = share.update(gradients, share.init(params), active=active)
    if active is not None:
        gradients["b"] = jax.tree.map(jnp.zeros_like, gradients["b"])
    assert_close(got, gradients)


def test_a_mean_of_one_active_member_is_its_own_gradient():
    share = tx.share_gradients(alpha=0.5, reduce="mean")
    gradients = {"a": {"up": jnp.array([1.0, 2.0])}, "b": {"up": jnp.array([jnp.nan, jnp.inf])}}
    got, _ = share.update(gradients, share.init(gradients), active={"a": True, "b": False})
    np.testing.assert_array_equal(got["a"]["up"], [1.0, 2.0])
    np.testing.assert_array_equal(got["b"]["up"], [0.0, 0.0])


def test_a_group_whose_weights_sum_to_0_is_left_alone():
    params = {"a": {"up": jnp.array([1.0, 2.0])}, "b": {"up": jnp.array([3.0, 4.0])}}
    share = tx.share_gradients(alpha=0.5, reduce="mean")
    synchronize = tx.synchronize_parameters({"a": 0.0, "b": 0.0}, every=1)
    nothing = {"a": 0.0, "b": 0.0}
    assert_equal(jax.jit(lambda p: share.update(p, share.init(p), weights=nothing)[0])(params), params)
    assert_equal(synchronize.update(params, synchronize.init(params), params)[0], params)


def test_a_group_of_one_and_a_key_of_none_are_untouched_to_the_bit(params):
    lonely = {**params, "c": {"odd": jnp.arange(5.0)}}
    share = tx.share_gradients(
        correspondence=lambda path, shape: None if "embeddings" in path else tx.by_layer(path, shape)
    )
    got, _ = share.update(lonely, share.init(lonely))
    np.testing.assert_array_equal(got["c"]["odd"], lonely["c"]["odd"])
    assert_equal(got["a"]["embeddings"], params["a"]["embeddings"])
    query = got["b"]["blocks"]["attention"]["query"]["kernel"]
    own = params["b"]["blocks"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(query[0], own[0])  # depth 1/4: the model with 2 layers has none
    assert np.all(query[1] != own[1])


def test_sharing_every_other_update_counts_from_1():
    gradients = {"a": jnp.array([1.0]), "b": jnp.array([3.0])}
    share = tx.share_gradients(every=2, alpha=0.5)
    state = share.init(gradients)
    seen = []
    for _ in range(4):
        got, state = jax.jit(share.update)(gradients, state)
        seen.append(float(got["a"][0]))
    assert seen == [1.0, 2.5, 1.0, 2.5]


def test_bfloat16_pools_are_summed_in_float32():
    """256 + 1 + 1 is 256 in bfloat16 one by one, 258 in float32."""
    gradients = {m: {"up": jnp.full(2, v, jnp.bfloat16)} for m, v in {"a": 256.0, "b": 1.0, "c": 1.0}.items()}
    share = tx.share_gradients(alpha=1.0)
    got, _ = share.update(gradients, share.init(gradients))
    assert float(got["a"]["up"][0]) == 258.0
    assert got["a"]["up"].dtype == jnp.bfloat16


def test_the_default_adam_is_optax_to_the_bit(params):
    assert_equal(run(tx.scale_by_adam(0.8, 0.95, 1e-6), params), run(optax.scale_by_adam(0.8, 0.95, 1e-6), params))


def test_a_model_that_sat_out_goes_on_where_it_stopped(params):
    """Its momentum and its place in the warm-up are those of a model that never knew of the pause."""
    optimizer = tx.multi_model_adamw(0.1, alpha=0, beta=0, warmup_steps=3)
    update = jax.jit(optimizer.update)

    def train(mask):
        now, state = params, optimizer.init(params)
        for on in mask:
            updates, state = update(jax.tree.map(jnp.sin, now), state, now, active={"a": on, "b": True, "c": True})
            now = optax.apply_updates(now, updates)
        return now["a"]

    assert_equal(train([True, False, False, True]), train([True, True]))


def test_frozen_parameters_do_not_move_and_are_not_seen(params):
    inner = tx.multi_model_adamw(optax.constant_schedule(0.1), sync_every=1)
    after = run(tx.freeze(["a/blocks", "*/embed*"], inner), params)
    assert_equal(after["a"], params["a"])
    assert_equal(after["b"]["embeddings"], params["b"]["embeddings"])
    without = {m: {"blocks": params[m]["blocks"]} for m in "bc"}
    assert_close({m: after[m]["blocks"] for m in "bc"}, {m: p["blocks"] for m, p in run(inner, without).items()})
    state = tx.freeze(lambda model, path: model == "a", inner).init(params)
    assert not any("['a']['blocks']" in jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state))


def test_clipping_is_per_model_and_agrees_with_optax():
    gradients = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([30.0, 40.0])}
    got, _ = tx.clip_by_model_norm({"a": 1.0, "b": 100.0}).update(gradients, optax.EmptyState())
    want, _ = optax.clip_by_global_norm(1.0).update(gradients["a"], optax.EmptyState())
    np.testing.assert_allclose(got["a"], want, rtol=1e-6)
    np.testing.assert_array_equal(got["b"], gradients["b"])


def test_per_model_hands_each_optimizer_its_own_loss():
    seen = {}

    def spy(name):
        def update(updates, state, params=None, *, value, **extra_args):
            seen[name] = value
            return updates, state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    optimizer = tx.per_model({name: spy(name) for name in params})
    optimizer.update(params, optimizer.init(params), value={"a": 1.0, "b": 2.0})
    assert seen == {"a": 1.0, "b": 2.0}


PARAMS = {"bert": jnp.ones(2), "gpt2": jnp.ones(2)}
MISTAKES = {
    "unknown model": (lambda: tx.share_gradients({"brt": 1.0, "gpt2": 1.0}).init(PARAMS), "did you mean 'bert'"),
    "missing model": (lambda: tx.synchronize_parameters({"bert": 1.0}).init(PARAMS), "nothing is given for gpt2"),
    "unknown traced": (
        lambda: tx.share_gradients().update(PARAMS, tx.share_gradients().init(PARAMS), weights={"x": 1.0}),
        "no model 'x'",
    ),
    "negative": (lambda: tx.scale_by_model_weight({"bert": -1.0}), "at least 0"),
    "nan": (lambda: tx.multi_model_adamw(0.1, {"bert": float("nan")}), "finite"),
    "no number": (lambda: tx.share_gradients({"bert": "heavy"}), "give a number"),
    "no mapping": (lambda: tx.share_gradients([1.0, 2.0]), "{model: number}"),
    "all zero": (lambda: tx.share_gradients({"bert": 0, "gpt2": 0}, normalize=True).init(PARAMS), "normalised"),
    "alpha": (lambda: tx.share_gradients(alpha=1.5), "from 0 to 1"),
    "beta": (lambda: tx.synchronize_parameters(beta=float("nan")), "from 0 to 1"),
    "every": (lambda: tx.share_gradients(every=0), "1 or more"),
    "reduce": (lambda: tx.share_gradients(reduce="median"), "'sum' or 'mean'"),
    "slope": (lambda: tx.scale_by_convergence(slope="up"), "'absolute', 'signed' or 'studentized'"),
    "window": (lambda: tx.scale_by_convergence(window=1), "at least 2"),
    "no losses": (
        lambda: jax.jit(tx.scale_by_convergence().update)(PARAMS, tx.scale_by_convergence().init(PARAMS)),
        r"value=\{model: loss\}",
    ),
    "no params": (
        lambda: tx.synchronize_parameters().update(PARAMS, tx.synchronize_parameters().init(PARAMS)),
        "needs the parameters",
    ),
    "norm": (lambda: tx.clip_by_model_norm(0.0), "above 0"),
    "frozen": (lambda: tx.freeze(["bart"]).init(PARAMS), "did you mean 'bert'"),
    "frozen text": (lambda: tx.freeze("bert"), "give a list"),
    "active": (
        lambda: tx.per_model(optax.sgd(1)).update(
            PARAMS, tx.per_model(optax.sgd(1)).init(PARAMS), active={"bert": True}
        ),
        "nothing is given for gpt2",
    ),
    "optimizers": (lambda: tx.per_model({"bert": optax.sgd(1)}).init(PARAMS), "nothing is given for gpt2"),
    "bare array": (lambda: tx.share_gradients().init(jnp.ones(2)), "bare array"),
    "warm-up": (lambda: tx.multi_model_adamw(0.1, warmup_steps=-1), "warmup_steps is -1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake):
    act, message = MISTAKES[mistake]
    with pytest.raises(ArenaError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [1.5, 0, float("nan"), "2", None, True])
def test_every_is_a_whole_number(wrong):
    for build in (tx.share_gradients, tx.synchronize_parameters, tx.scale_by_convergence):
        with pytest.raises(ArenaError, match="every is"):
            build(every=wrong)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_parts_and_rates_are_numbers(wrong):
    with pytest.raises(ArenaError, match="alpha is"):
        tx.share_gradients(alpha=wrong)
    with pytest.raises(ArenaError, match="beta is"):
        tx.synchronize_parameters(beta=wrong)
    if wrong is not None:  # None: rates come with the update
        with pytest.raises(ArenaError, match="learning_rate is"):
            tx.multi_model_adamw(wrong)


def test_a_loss_that_was_not_reduced_is_told():
    scale = tx.scale_by_convergence()
    updates = {"a": jnp.ones(2)}
    with pytest.raises(ArenaError, match=r"loss of 'a' has shape \(3,\)"):
        scale.update(updates, scale.init(updates), value={"a": jnp.ones(3)})
