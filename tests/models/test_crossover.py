"""Units matched and models mixed: functions stay, shuffled copies are found again, and barriers are told."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.models.crossover import align, barrier, between, crossover, match_units
from arena_jax.models.surgery import rewire

SHAPE = {"vocab_size": 30, "hidden_size": 12, "num_heads": 3, "intermediate_size": 10, "max_positions": 16}
IDS = jnp.asarray(np.random.default_rng(0).integers(5, 30, (4, 9)), jnp.int32)
RANDOM = np.random.default_rng(1)
HEADS = np.stack([RANDOM.permutation(3) for _ in range(2)])
NEURONS = np.stack([RANDOM.permutation(10) for _ in range(2)])


def model(family, seed):
    task = "causal-lm" if family == "gpt2" else "masked-lm"
    made = models.create(models.preset(f"{family}-tiny", **SHAPE), task=task, seed=seed)
    structure, params = models.split(made)
    noise = np.random.default_rng(seed)  # biases too, and large enough that units differ
    return models.merge(structure, jax.tree.map(lambda x: x + 0.3 * noise.normal(size=x.shape).astype(x.dtype), params))


def shuffled(made):
    surgery = rewire(made.config, name="x", heads=(HEADS, np.ones((2, 3))), neurons=(NEURONS, np.ones((2, 10))))
    return surgery.model(made)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, models.split(one)[1], models.split(other)[1])


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_shuffled_copy_is_found_again_to_the_bit(family):
    made = model(family, 1)
    mixed = shuffled(made)
    np.testing.assert_allclose(mixed(IDS), made(IDS), atol=2e-5)
    heads, neurons = match_units(made, mixed)
    for order, found in ((HEADS, heads), (NEURONS, neurons)):
        np.testing.assert_array_equal(np.take_along_axis(order, found, 1), np.tile(np.arange(order.shape[1]), (2, 1)))
    same(align(made, mixed), made)


def test_the_function_stays_and_the_match_is_the_best_of_all():
    """Heads by trying all six orders, with sums written out."""
    first, second = model("bert", 1), model("bert", 2)
    np.testing.assert_allclose(align(first, second)(IDS), second(IDS), atol=2e-5)
    heads, _ = match_units(first, second)
    trees = [jax.tree.map(np.asarray, models.split(m)[1]["blocks"]["attention"]) for m in (first, second)]

    def likeness(layer, order):
        total = 0.0
        for place, head in enumerate(order):
            a, b = slice(4 * place, 4 * place + 4), slice(4 * head, 4 * head + 4)
            for name in ("query", "key", "value"):
                total += (trees[0][name]["kernel"][layer][:, a] * trees[1][name]["kernel"][layer][:, b]).sum()
                total += (trees[0][name]["bias"][layer][a] * trees[1][name]["bias"][layer][b]).sum()
            total += (trees[0]["output"]["kernel"][layer][a] * trees[1]["output"]["kernel"][layer][b]).sum()
        return total

    for layer in range(2):
        best = max(itertools.permutations(range(3)), key=lambda order: likeness(layer, order))
        assert heads[layer].tolist() == list(best)


def test_a_shuffled_copy_has_no_barrier_once_it_is_aligned():
    made = model("gpt2", 1)
    target = made(IDS)

    def loss(candidate):
        return float(jnp.mean((candidate(IDS) - target) ** 2))

    result = crossover(made, shuffled(made), loss, threshold=1e-6)
    assert result.model is not None
    np.testing.assert_allclose(result.model(IDS), target, atol=1e-5)
    assert loss(between(made, shuffled(made), 0.5)) > 1e-3, "without alignment there is one"
    assert result.report.startswith("mixed: the barrier between losses of 0.0000 and 0.0000 is 0.0000")


def test_a_barrier_refuses():
    first, second = model("bert", 1), model("bert", 2)
    seen = []

    def loss(candidate):
        seen.append(candidate)
        return [1.0, 4.0, 2.0][len(seen) - 1]

    result = crossover(first, second, loss, threshold=2.0, points=3)
    assert result.model is None
    assert result.barrier == barrier([1.0, 4.0, 2.0]) == 2.5
    assert "not mixed" in result.report
    same(seen[0], first)
    same(seen[2], align(first, second))
    with pytest.raises(ArenaError, match="these two differ"):
        crossover(first, model("gpt2", 1), loss, threshold=1.0)
    with pytest.raises(ArenaError, match="2 points say nothing"):
        crossover(first, second, loss, threshold=1.0, points=2)
