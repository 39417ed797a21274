"""Attention in chunks, against the softmax written out and JAX's own derivatives of it, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import models, runtime
from arena_jax.models.chunked_attention import chunked_attention
from arena_jax.models.layers import dropout

B, H, L, D = 2, 3, 11, 4


def written_out(query, keys, values, mask, rate, key):
    scores = jnp.einsum("bhld,bhmd->bhlm", query, keys)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jnp.einsum("bhlm,bhmd->bhld", dropout(jax.nn.softmax(scores, axis=-1), rate, key), values)


def masks():
    keys = np.arange(L)[None] < np.array([[L], [4]])
    causal = np.tril(np.ones((L, L), bool))[None, None]
    nothing = np.ones((B, 1, L, L), bool)
    nothing[1, :, 5] = False  # a query that sees no key: the mean of all
    holes = np.random.default_rng(0).random((B, 1, L, L)) < 0.6
    return {
        "none": None,
        "keys": keys[:, None, None],
        "causal": causal,
        "both": causal & keys[:, None, None],
        "nothing": nothing,
        "holes": holes | np.eye(L, dtype=bool),
    }


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_values_and_gradients(name, rate):
    mask, key = masks()[name], jax.random.key(5)
    with jax.enable_x64(True):
        generator = np.random.default_rng(1)
        arrays = [jnp.asarray(generator.normal(size=(B, H, L, D))) for _ in range(3)]
        weights = jnp.asarray(generator.normal(size=(B, H, L, D)))

        def of(function, **options):
            def loss(*parts):
                out = function(*parts, mask, rate, key, **options)
                return (out * weights).sum(), out

            return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arrays)

        (_, expected), expected_gradients = of(written_out)
        for queries in (1, 4, 11, 128):
            (_, out), gradients = of(chunked_attention, queries=queries)
            np.testing.assert_allclose(out, expected, atol=1e-13)
            for mine, reference in zip(gradients, expected_gradients, strict=True):
                np.testing.assert_allclose(mine, reference, atol=1e-13)


@pytest.mark.parametrize("segments", [False, True])
def test_a_model_drops_the_weights_that_it_drops_of_all_at_once(segments):
    """A model whose rows are longer than a chunk; texts that share rows too. The reference is attention="xla"."""
    ids = np.random.default_rng(0).integers(5, 90, (2, 150)).astype(np.int32)
    mask = (np.arange(150) < np.array([[150], [70]])).astype(np.int32)
    segment_ids = (1 + np.arange(150) // 40).astype(np.int32)[None] * mask if segments else None
    outputs = []
    for attention in ("xla", "chunked"):
        shape = models.preset("gpt2-tiny", max_positions=150, attention=attention, attention_dropout=0.5)
        model = models.create(shape, "causal-lm")
        hidden = model.encode(ids, mask, segment_ids=segment_ids, key=jax.random.key(1))
        outputs.append(np.asarray(hidden)[mask != 0])
    np.testing.assert_allclose(outputs[1], outputs[0], atol=3e-5)


def test_it_takes_less_memory():
    """The reference are the compiler's bytes: of a gradient at a length of 2048, less than a quarter."""
    shape = {"hidden_size": 32, "num_heads": 4, "num_layers": 1, "max_positions": 2048, "vocab_size": 50}
    need = {}
    for attention in ("xla", "chunked"):
        model = models.abstract(models.preset("gpt2-tiny", **shape, attention=attention), "causal-lm")
        structure, params = models.split(model)

        def loss(params, ids, key, structure=structure):
            return models.merge(structure, params).encode(ids, key=key).sum()

        arguments = (params, jax.ShapeDtypeStruct((2, 2048), jnp.int32), jax.eval_shape(lambda: jax.random.key(0)))
        need[attention] = runtime.compile_program(jax.grad(loss), *arguments).bytes.temporaries
    assert need["chunked"] < need["xla"] / 4
