"""Attention that a library computes, told lengths instead of a mask, is the written-out one where tokens are real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import ArenaError, models

MASK = jnp.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], jnp.int32)
IDS = jnp.array([[5, 6, 7, 8, 9, 4], [5, 6, 7, 0, 0, 0]], jnp.int32)


def outputs(family, task, key=None, **options):
    model = models.create(models.preset(f"{family}-tiny", attention_dropout=0.0, hidden_dropout=0.0, **options), task)
    structure, params = models.split(model)
    run = jax.jit(lambda p: models.merge(structure, p).encode(IDS, MASK, key=key))
    return np.asarray(run(params))[np.asarray(MASK, bool)]


@pytest.mark.parametrize(("family", "task"), [("gpt2", "causal-lm"), ("bert", "masked-lm")])
def test_lengths_in_place_of_a_mask(family, task):
    written_out = outputs(family, task)
    np.testing.assert_allclose(outputs(family, task, attention="dot_product"), written_out, atol=2e-6)
    np.testing.assert_allclose(
        outputs(family, task, attention="dot_product", right_padded=True), written_out, atol=2e-6
    )


def test_lengths_while_weights_are_dropped():
    """Dropping is written out whatever the library: the same key drops the same weights."""
    made = []
    for options in ({}, {"attention": "dot_product", "right_padded": True}):
        shape = models.preset("gpt2-tiny", hidden_dropout=0.0, embedding_dropout=0.0, attention_dropout=0.5, **options)
        model = models.create(shape, "causal-lm")
        made.append(np.asarray(model.encode(IDS, MASK, key=jax.random.key(1)))[np.asarray(MASK, bool)])
    np.testing.assert_allclose(made[1], made[0], atol=2e-6)


def test_cudnn_drops_no_weights_and_says_so():
    model = models.create(models.preset("gpt2-tiny", attention="cudnn", dtype="bfloat16"), "causal-lm")
    with pytest.raises(ArenaError, match=r"cannot drop attention weights, and attention_dropout is 0\.1: set it to 0"):
        model.encode(IDS, MASK, key=jax.random.key(0))
    with pytest.raises(ArenaError, match="needs an NVIDIA GPU, not cpu"):
        model.encode(IDS, MASK)
