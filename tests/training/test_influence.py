"""Influence: a model's part of what is shared, and the change of a quadratic loss along it, as one works it out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import transforms
from arena_jax.training.influence import influences, of_kind, shared_gradient, shuffled
from arena_jax.transforms import by_kind, by_role

WEIGHTS = {"a": 1.0, "b": 0.5, "c": 2.0}


def tree(seed, layers):
    draw = np.random.default_rng(seed)

    def numbers(*shape):
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    return {
        "blocks": {
            "attention": {"query": {"kernel": numbers(layers, 3, 3)}},
            "mlp": {"up": {"kernel": numbers(layers, 3, 4)}},
        },
        "embeddings": {"token": {"embedding": numbers(7 + seed, 3)}},
    }  # fmt: skip


def models():
    return {name: tree(seed, layers) for seed, (name, layers) in enumerate({"a": 2, "b": 2, "c": 3}.items())}


@pytest.mark.parametrize("correspondence", [by_kind, by_role])
@pytest.mark.parametrize("mean", [False, True])
def test_the_parts_of_all_models_are_the_pool_of_algorithm_1(correspondence, mean):
    """With α = 1 a shared gradient is the pool itself, where there is one; else its own, in which nobody has a part."""
    gradients = models()
    share = transforms.share_gradients(
        WEIGHTS, alpha=1.0, reduce="mean" if mean else "sum", correspondence=correspondence
    )
    pools, _ = share.update(gradients, share.init(gradients))
    parts = [shared_gradient(gradients, giver, WEIGHTS, correspondence, mean=mean) for giver in gradients]
    whole = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    for name, pool in pools.items():
        np.testing.assert_allclose(
            whole[name]["blocks"]["mlp"]["up"]["kernel"], pool["blocks"]["mlp"]["up"]["kernel"], rtol=1e-5
        )
        table = whole[name]["embeddings"]["token"]["embedding"]
        np.testing.assert_array_equal(table, 0, "tables of different sizes share with nobody")  # fmt: skip


def test_the_gain_of_a_quadratic_loss_is_the_one_on_paper():
    """L(p) = |p − t|²/2 of the attention alone: a step s·d/|d| gains s·(p − t)·d/|d| − s²/2."""
    params, targets, gradients = models(), {name: tree(9, 2) for name in "abc"}, models()
    targets["c"] = tree(9, 3)
    pick = lambda t: t["blocks"]["attention"]["query"]["kernel"]  # noqa: E731
    losses = {
        name: (lambda p, t=targets[name]: 0.5 * jnp.sum((pick(p) - pick(t)) ** 2)) for name in params
    }  # fmt: skip
    result = influences(losses, params, gradients, WEIGHTS, by_kind, mean=False, part=0.1, shuffles=40)
    assert set(result) == {"attention", "feed-forward"}, "nothing is shared in tables"
    for taker in params:
        for giver in params:
            direction = np.asarray(pick(shared_gradient(gradients, giver, WEIGHTS, by_kind, mean=False)[taker]), float)
            length = 0.1 * np.linalg.norm(pick(params[taker]))
            along = np.sum(
                (np.asarray(pick(params[taker]), float) - np.asarray(pick(targets[taker]), float)) * direction
            )
            want = length * along / np.linalg.norm(direction) - length**2 / 2
            got = result["attention"][taker][giver]
            np.testing.assert_allclose(got.gain, want, rtol=1e-3, atol=1e-5)
            assert abs(got.shuffled + length**2 / 2 - 0) < 4 * got.spread + 1e-6, "its control goes nowhere"
            assert result["feed-forward"][taker][giver].gain == 0, "of another kind, which this loss does not see"


def test_a_shuffle_keeps_the_numbers_and_one_kind_is_one_kind():
    one = tree(0, 2)
    mixed = shuffled(one, jax.random.key(1))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.sort(a, None), np.sort(b, None)), one, mixed)
    assert not np.array_equal(mixed["embeddings"]["token"]["embedding"], one["embeddings"]["token"]["embedding"])
    kept = of_kind("a", one, "embedding")
    np.testing.assert_array_equal(kept["embeddings"]["token"]["embedding"], one["embeddings"]["token"]["embedding"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(kept["blocks"]))
