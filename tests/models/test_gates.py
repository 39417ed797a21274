"""Gates: none and all open are the same bits, closed ones take a part out, and wrong ones are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import ArenaError, models
from arena_jax.models import Gated, Gates

TASKS = {"bert-tiny": "masked-lm", "roberta-tiny": "masked-lm", "gpt2-tiny": "causal-lm"}


@functools.cache
def prepared(name, dtype):
    """(structure, noisy parameters, tokens, mask, compiled forward pass)."""
    config = models.preset(name, dtype=dtype)
    structure, params = models.split(models.create(config, TASKS[name], seed=3))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + 0.1 * random.normal(size=x.shape).astype(x.dtype)), params
    )
    ids = random.integers(3, 256, (3, 9)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 6:] = 0
    run = jax.jit(lambda p, gates=None: models.merge(structure, p)(ids, mask, gates=gates))
    return config, params, run


def means(config, seed=1):
    random = np.random.default_rng(seed)
    sizes = (config.num_heads * config.head_size, config.intermediate_size)
    return [jnp.asarray(random.normal(size=(config.num_layers, n)), jnp.float32) for n in sizes]


def ones(config, groups=4):
    return jnp.ones((config.num_layers, config.num_heads)), jnp.ones((config.num_layers, groups))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("name", TASKS)
def test_no_gates_and_open_gates_are_the_same_bits(name, dtype):
    config, params, run = prepared(name, dtype)
    plain = np.asarray(run(params))
    for filling in ([], means(config)):
        gated = np.asarray(run(params, Gates(*ones(config), *filling)))
        assert gated.dtype == plain.dtype
        assert gated.tobytes() == plain.tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_a_closed_part_equals_surgery_on_its_output_map(name):
    """The oracle is the parameters: zero rows of the output kernel, and μ·W in the output bias."""
    config, params, run = prepared(name, None)
    heads, groups = (np.ones(x.shape, np.float32) for x in ones(config))
    heads[1, 0] = groups[0, 2] = 0
    filling = means(config)
    gated = run(params, Gates(jnp.asarray(heads), jnp.asarray(groups), *filling))
    d, f = config.head_size, config.intermediate_size // 4
    cut = jax.tree.map(np.array, params)
    for part, layer, rows, mean in (
        (cut["blocks"]["attention"]["output"], 1, slice(0, d), filling[0]),
        (cut["blocks"]["feed_forward"]["down"], 0, slice(2 * f, 3 * f), filling[1]),
    ):
        part["bias"][layer] += np.asarray(mean)[layer, rows] @ part["kernel"][layer, rows]
        part["kernel"][layer, rows] = 0
    assert np.abs(np.asarray(gated) - np.asarray(run(cut))).max() < 2e-5
    assert np.abs(np.asarray(gated) - np.asarray(run(params))).max() > 1e-2


def test_a_gated_model_is_called_like_a_model():
    config, params, _ = prepared("gpt2-tiny", None)
    model = models.merge(models.split(models.create(config, "causal-lm"))[0], params)
    seen = Gated(model, None)
    ids = jnp.ones((1, 4), jnp.int32)
    assert (seen.config, seen.task) == (config, "causal-lm")
    assert np.array_equal(seen.predict_tokens(seen.encode(ids)), model(ids))


@pytest.mark.parametrize(
    ("heads", "groups", "extra", "told"),
    [
        ((2, 3), (2, 4), {}, r"gates.heads has shape \(2, 3\); this model needs \(2, 4\)"),
        ((2, 4), (2, 5), {}, r"gates.feed_forward has shape \(2, 5\)"),
        ((2, 4), (4,), {}, r"gates.feed_forward has shape \(4,\)"),
        ((2, 4), (2, 4), {"head_means": jnp.zeros((2, 3))}, r"gates.head_means has shape \(2, 3\)"),
    ],
)
def test_gates_that_do_not_fit_are_refused(heads, groups, extra, told):
    model = models.create("gpt2-tiny", "causal-lm")
    with pytest.raises(ArenaError, match=told):
        model(jnp.ones((1, 4), jnp.int32), gates=Gates(jnp.ones(heads), jnp.ones(groups), **extra))


def test_heads_of_another_width():
    config = models.preset("gpt2-tiny", num_heads=3, head_width=8)
    model = models.create(config, "causal-lm")
    assert models.split(model)[1]["blocks"]["attention"]["output"]["kernel"].shape == (2, 24, 32)
    assert model(jnp.ones((1, 4), jnp.int32)).shape == (1, 4, config.vocab_size)
    with pytest.raises(ArenaError, match="export the masked form"):
        models.config_to_hf(config, "GPT2LMHeadModel")
