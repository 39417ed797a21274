"""The jitted multi-model step against the same mathematics written out: per model, per microbatch, per device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models, runtime, training, transforms
from arena_jax.config.errors import ArenaError

SIZES = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 24,
    "max_positions": 40,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "embedding_dropout": 0.0,
}
TASKS = {"bert": "masked-lm", "gpt2": "causal-lm", "roberta": "sequence-classification"}
LENGTH = 12


# What is compared was compiled alike, or is compared within a tolerance that was measured under both.
pytestmark = pytest.mark.usefixtures("compile_quickly")


def make_models():
    return {
        family: models.create(models.preset(f"{family}-tiny", **SIZES), task=task, seed=3)
        for family, task in TASKS.items()
    }


def make_batches(rows=16, seed=0):
    random = np.random.default_rng(seed)
    batches = {}
    for family in TASKS:
        ids = random.integers(5, 60, (rows, LENGTH)).astype(np.int32)
        mask = (np.arange(LENGTH)[None] < random.integers(4, LENGTH + 1, rows)[:, None]).astype(np.int32)
        batches[family] = {"input_ids": np.where(mask, ids, 1).astype(np.int32), "attention_mask": mask}
    batches["roberta"]["labels"] = random.integers(0, 2, rows).astype(np.int32)
    return batches


def make_objectives():
    return {
        "bert": training.masked_token(4),
        "gpt2": training.next_token,
        "roberta": training.classification,
    }


@pytest.fixture(scope="module")
def made():
    return make_models()


@pytest.fixture(scope="module")
def joint(made):
    """One step of all three, one device, no accumulation: what the others are compared with."""
    step = training.make_step(made, optax.sgd(0.5), make_objectives(), seed=5, gradient_norms=True)
    state, metrics = step(step.init(), make_batches())
    return step, state, metrics


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)


def test_the_joint_step_is_three_steps_written_out(made, joint):
    _, state, metrics = joint
    for name, objective in make_objectives().items():
        structure, params = models.split(made[name])
        batch = make_batches()[name]
        key = jax.random.fold_in(training.model_key(5, name, 0), 0)

        @jax.jit
        def loss(p, batch=batch, key=key, structure=structure, objective=objective):
            sums = objective(models.merge(structure, p), batch, key, True).sums
            return sums["loss_sum"] / sums["count"]

        value, gradient = jax.value_and_grad(loss)(params)
        np.testing.assert_allclose(metrics[name]["loss"], value, rtol=2e-6)
        np.testing.assert_allclose(metrics[name]["gradient_norm"], optax.tree.norm(gradient), rtol=2e-5)
        expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
        assert largest_difference(state.params[name], expected) < 1e-6, name


def test_accumulation_is_the_whole_batch(made, joint):
    """Microbatches of different fill against the whole batch at once (no masking: its draw depends on the shape)."""
    names = ("gpt2", "roberta")
    subset, objectives = {n: made[n] for n in names}, {n: make_objectives()[n] for n in names}
    batches = {n: make_batches()[n] for n in names}
    parts = training.make_step(subset, optax.sgd(0.5), objectives, accumulation={"gpt2": 4, "roberta": 2}, seed=5)
    _, expected, expected_metrics = joint
    got, metrics = parts(parts.init(), batches)
    for name in names:
        assert largest_difference(expected.params[name], got.params[name]) < 1e-6
        np.testing.assert_allclose(metrics[name]["loss"], expected_metrics[name]["loss"], rtol=1e-6)
        np.testing.assert_array_equal(metrics[name]["count"], expected_metrics[name]["count"])


@pytest.fixture(scope="module")
def spread(made):
    """The same step on eight devices."""
    step = training.make_step(made, optax.sgd(0.5), make_objectives(), mesh=runtime.make_mesh(8), seed=5)
    state, metrics = step(step.init(), make_batches())
    return step, state, metrics


def test_eight_devices_are_one_device(joint, spread):
    _, state, metrics = joint
    step, spread_state, spread_metrics = spread
    placed = step.place(make_batches())["bert"]["input_ids"]
    assert len(placed.sharding.device_set) == 8
    assert placed.addressable_shards[0].data.shape == (1, 2, LENGTH), "each device holds its per-device batch"
    for name in TASKS:
        np.testing.assert_allclose(spread_metrics[name]["loss"], metrics[name]["loss"], rtol=1e-6)
    assert largest_difference(spread_state.params, state.params) < 1e-6


def test_eight_devices_are_pmap(made, spread):
    """The same per-device batch under jax.pmap, gradients averaged by example: the update must be the same."""
    _, state, metrics = spread
    objectives, batches = make_objectives(), make_batches()
    name = "gpt2"
    structure, params = models.split(made[name])

    def per_device(p, batch):
        def loss_sum(p):
            sums = objectives[name](models.merge(structure, p), batch, jax.random.key(0), True).sums
            return sums["loss_sum"], sums["count"]

        (total, count), gradient = jax.value_and_grad(loss_sum, has_aux=True)(p)
        total, count, gradient = jax.lax.psum((total, count, gradient), "data")
        return jax.tree.map(lambda p, g: p - 0.5 * g / count, p, gradient), total / count

    per = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batches[name])
    copies = jax.tree.map(lambda p: jnp.broadcast_to(p, (8, *p.shape)), params)
    expected, loss = jax.pmap(per_device, axis_name="data")(copies, per)
    np.testing.assert_allclose(metrics[name]["loss"], loss[0], rtol=1e-6)
    assert largest_difference(state.params[name], jax.tree.map(lambda x: x[0], expected)) < 1e-6


def test_each_model_has_its_own_keys(made):
    """Dropout and masking of a model do not depend on which other models train beside it."""
    dropped = {**SIZES, "hidden_dropout": 0.3, "embedding_dropout": 0.3}
    bert = models.create(models.preset("bert-tiny", **dropped), task="masked-lm")
    objectives = make_objectives()
    together = training.make_step(
        {"bert": bert, "gpt2": made["gpt2"]}, optax.sgd(0.1), {n: objectives[n] for n in ("bert", "gpt2")}
    )
    alone = training.make_step({"bert": bert}, optax.sgd(0.1), {"bert": objectives["bert"]})
    _, both = together(together.init(), make_batches())
    state, single = alone(alone.init(), make_batches())
    np.testing.assert_allclose(both["bert"]["loss"], single["bert"]["loss"], rtol=1e-6)
    _, later = alone(state, make_batches())
    assert float(later["bert"]["loss"]) != float(single["bert"]["loss"])


def test_two_models_may_start_from_one_and_the_caller_keeps_its_arrays(made):
    step = training.make_step(
        {"a": made["gpt2"], "b": made["gpt2"]}, optax.sgd(0.1), dict.fromkeys("ab", training.next_token)
    )
    batch = make_batches()["gpt2"]
    state, _ = step(step.init(), {"a": batch, "b": batch})
    assert largest_difference(state.params["a"], state.params["b"]) == 0.0
    _, params = models.split(made["gpt2"])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))


def test_a_shape_compiles_once_and_is_told(joint):
    step, state, _ = joint
    before = [c.name for c in step.programs]
    batches = make_batches(seed=1)
    copy = jax.tree.map(jnp.copy, state)
    step(copy, batches)
    assert [c.name for c in step.programs] == before == ["step"]
    assert step.programs[0].bytes.total > 0
    step.evaluate("gpt2", state.params["gpt2"], batches["gpt2"])
    step.evaluate("gpt2", state.params["gpt2"], batches["gpt2"])
    assert [c.name for c in step.programs] == ["step", "evaluate gpt2"]


def test_equal_models_are_one_program_whatever_their_names_and_the_seed():
    """What a cache on disk goes by is the program's text."""
    config = models.preset("bert-tiny", vocab_size=300)
    twins = {name: models.create(config, task="masked-lm", seed=0) for name in "ab"}
    objectives = dict.fromkeys(twins, training.objective_for("masked-lm", mask_token_id=4))
    ids = jnp.ones((1, 2, 8), jnp.int32)
    batch = {"input_ids": ids, "attention_mask": ids, "special_tokens_mask": 0 * ids}
    texts = set()
    for seed, name in ((0, "a"), (0, "b"), (9, "a")):
        step = training.make_step(twins, optax.sgd(0.1), objectives, seed=seed)
        gradient = jax.jit(functools.partial(step.measured_gradients, name))
        texts.add(gradient.lower(step.init().params[name], batch, step.keys[name], np.int32(0)).as_text())
    assert len(texts) == 1


def test_evaluation_is_the_same_every_time_and_splits_into_batches(joint):
    step, state, _ = joint
    batch = make_batches()["roberta"]
    whole = step.evaluate("roberta", state.params["roberta"], batch)
    halves = [
        step.evaluate("roberta", state.params["roberta"], {k: v[i : i + 8] for k, v in batch.items()}, i)
        for i in (0, 8)
    ]
    for name in ("loss_sum", "count", "correct"):
        np.testing.assert_allclose(sum(h.sums[name] for h in halves), whole.sums[name], rtol=1e-6)
    masked = [step.evaluate("bert", state.params["bert"], make_batches()["bert"], 2).sums["loss_sum"] for _ in "ab"]
    assert float(masked[0]) == float(masked[1])


@pytest.fixture(scope="module")
def pair(made):
    """Two models with everything of the MultiModelOptimizer on, and their batches."""
    names = ("gpt2", "roberta")
    subset, objectives = {n: made[n] for n in names}, {n: make_objectives()[n] for n in names}
    optimizer = transforms.multi_model_adamw(optax.constant_schedule(0.1), window=2, sync_every=1)
    step = training.make_step(subset, optimizer, objectives, skip_nonfinite=True)
    return step, {n: make_batches()[n] for n in names}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_model_harms_nobody(pair, bad):
    """NaN in one model: the others are, bit for bit, as if it were absent."""
    step, batches = pair
    healthy = step.init()
    params = dict(healthy.params)
    params["gpt2"] = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(bad), params["gpt2"])
    before = jax.tree.map(np.asarray, params["gpt2"])
    # One program for both: who is active is an argument.
    both = dict.fromkeys(batches, jnp.asarray(True))
    state, metrics = step(healthy._replace(params=params), batches, active=both)
    assert (float(metrics["gpt2"]["skipped"]), float(metrics["roberta"]["skipped"])) == (1.0, 0.0)
    jax.tree.map(np.testing.assert_array_equal, state.params["gpt2"], before)

    absent = {"gpt2": jnp.asarray(False), "roberta": jnp.asarray(True)}
    expected, _ = step(step.init(), batches, active=absent)
    jax.tree.map(np.testing.assert_array_equal, state.params["roberta"], expected.params["roberta"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.tree.map(np.asarray, state.opt_state)))


def test_bad_requests(made):
    with pytest.raises(ArenaError, match="no model to train"):
        training.make_step({}, optax.sgd(0.1))
    with pytest.raises(ArenaError, match="names must be the same"):
        training.make_step(made, optax.sgd(0.1), {"bert": training.next_token})
    with pytest.raises(ArenaError, match="accumulation of model 'bert' is 0"):
        training.make_step(made, optax.sgd(0.1), make_objectives(), accumulation={"bert": 0, "gpt2": 1, "roberta": 1})
    step = training.make_step(made, optax.sgd(0.1), make_objectives(), accumulation=3)
    with pytest.raises(ArenaError, match="no batch for model 'roberta'"):
        step.place({"bert": {}, "gpt2": {}})
    with pytest.raises(ArenaError, match="give a multiple of 3"):
        step.place(make_batches())
    with pytest.raises(ArenaError, match="9 devices asked for, 8 here"):
        runtime.make_mesh(9)
