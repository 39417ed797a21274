"""Token losses a chunk of positions at a time; the parity suite holds their numbers against PyTorch."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import models, training
from arena_jax.training import vocabulary_loss


def sizes(jaxpr):
    """Number of elements of every intermediate value, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield from (value.aval.size for value in equation.outvars)
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, jex.ClosedJaxpr | jex.Jaxpr)):
            if isinstance(parameter, jex.ClosedJaxpr | jex.Jaxpr):
                yield from sizes(getattr(parameter, "jaxpr", parameter))


@pytest.mark.parametrize("training_mode", [True, False])
def test_no_value_is_as_large_as_all_logits(monkeypatch, training_mode):
    model = models.create(models.preset("gpt2-tiny", vocab_size=5000, hidden_size=16, num_heads=2), task="causal-lm")
    structure, params = models.split(model)
    batch = {"input_ids": jnp.ones((4, 33), jnp.int32)}

    def largest():
        def loss(params):
            objective = training.objective_for("causal-lm")
            return objective(models.merge(structure, params), batch, jax.random.key(0), training_mode).sums["loss_sum"]

        return max(sizes(jax.make_jaxpr(jax.grad(loss) if training_mode else loss)(params).jaxpr))

    whole = 4 * 32 * 5000
    assert largest() == whole
    monkeypatch.setattr(vocabulary_loss, "CHUNK_BYTES", 4 * whole // 8)
    assert largest() < whole // 4


def test_chunks_in_bfloat16_are_as_close_to_float32_as_the_whole_is():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, table = jax.random.normal(keys[0], (2, 9, 16)), jax.random.normal(keys[1], (50, 16))
    targets, weight = jax.random.randint(keys[2], (2, 9), 0, 50), jnp.ones((2, 9), jnp.int32)

    def gradient(dtype, chunk):
        def loss(table):
            return vocabulary_loss.chunked_token_sums(
                hidden.astype(dtype), table, None, targets, weight, chunk=chunk
            ).loss

        return np.asarray(jax.grad(loss)(table))

    exact = gradient(jnp.float32, 9)
    errors = [np.abs(gradient(jnp.bfloat16, chunk) - exact).max() for chunk in (9, 2)]
    assert errors[1] < 1.5 * errors[0] < 0.1 * np.abs(exact).max()
