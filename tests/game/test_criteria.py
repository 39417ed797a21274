"""Who is pruned, in plain arrays; the scores themselves are compared with PyTorch in parity/checks/pruning.py."""

import numpy as np
import optax
import pytest

from arena_jax import game, models
from arena_jax.config.errors import ArenaError
from arena_jax.game.coalitions import Values
from arena_jax.game.layer_least_squares import refit, removal_errors, sparse_kernel
from arena_jax.game.repair import keep_zeros

RANDOM = np.random.default_rng(0)


def test_even_takes_the_share_of_every_block():
    config = models.preset("gpt2-tiny")
    table = game.fine_players(config, groups=2)
    values = Values(np.arange(12.0), np.zeros(12), 0, "given")
    assert game.choose(values, table, share=0.5, even=True) == (0, 1, 4, 6, 7, 10)
    assert game.choose(values, table, share=1.0, even=True) == (0, 1, 2, 4, 6, 7, 8, 10)  # one of each kind stays
    with pytest.raises(ArenaError, match="give share, not threshold"):
        game.choose(values, table, threshold=1.0, even=True)


def test_compact_with_all_heads_is_what_transformers_can_express(tmp_path):
    """A GPT-2 whose every block lost a head could not be written."""
    model = models.create("gpt2-tiny", task="causal-lm")
    table = game.fine_players(model.config, groups=2)
    removed = (0, 4, 7, 11)
    cut = game.prune(table, removed, compact=True, all_heads=True)
    assert (cut.after.num_heads, cut.after.intermediate_size) == (4, 32)
    models.save_pretrained(cut.model(model), tmp_path)
    ids = np.arange(1, 9, dtype=np.int32)[None]
    masked = game.prune(table, removed).model(model)
    np.testing.assert_allclose(models.from_pretrained(tmp_path)(ids), masked(ids), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "blocks", "words"),
    [
        ({}, [2], "there are 2 blocks"),
        ({}, [0, 1], "keep one"),
        ({"scale_attn_by_inverse_layer_idx": True}, [0], "only the last blocks"),
    ],
)
def test_blocks_that_cannot_go(config, blocks, words):
    with pytest.raises(ArenaError, match=words):
        game.remove_blocks(models.preset("gpt2-tiny", **config), blocks)


def test_last_blocks_go_where_numbers_matter():
    config = models.preset("gpt2-tiny", scale_attn_by_inverse_layer_idx=True)
    assert game.remove_blocks(config, [1]).after.num_layers == 1


def test_errors_of_one_channel_are_those_of_refitting_without_it():
    x, kernel = RANDOM.normal(size=(50, 6)), RANDOM.normal(size=(6, 3))
    moments = x.T @ x / 50
    errors = removal_errors(kernel, moments, [np.array([0, 1]), np.array([4])])
    for error, removed in zip(errors, ([0, 1], [4]), strict=True):
        new = refit(kernel, moments, ~np.isin(np.arange(6), removed))
        ridge = 0.01 * np.diag(moments).mean() * np.square(new - kernel).sum()
        assert error == pytest.approx(np.square(x @ (new - kernel)).sum() / 50 + ridge)


def test_sparse_kernels_over_several_groups_of_columns():
    shared = RANDOM.normal(size=(400, 40)) @ RANDOM.normal(size=(40, 150))  # channels that have much in common
    x, kernel = shared + 0.3 * RANDOM.normal(size=shared.shape), RANDOM.normal(size=(150, 4))
    moments = x.T @ x / 400
    moments[:, 7] = moments[7] = 0  # a channel that is never on
    new = sparse_kernel(kernel, moments, 0.5)
    assert [(new[:128] == 0).sum(), (new[128:] == 0).sum()] == [256, 44]
    assert (new[7] == 0).all()
    pruned = np.where(new == 0, 0, kernel)

    def error(other):
        return np.trace((other - kernel).T @ moments @ (other - kernel))

    assert error(new) < 0.5 * error(pruned)  # the others make up for it
    np.testing.assert_array_equal(sparse_kernel(kernel, np.eye(150), 0.0), kernel)


def test_zeros_stay_through_adam():
    params = {"a": {"kernel": np.array([[0.0, 1.0], [2.0, 0.0]], np.float32), "bias": np.zeros(2, np.float32)}}
    optimizer = optax.chain(optax.adam(0.1), keep_zeros())
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update({"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}}, state, params)
        params = optax.apply_updates(params, updates)
    assert (np.asarray(params["a"]["kernel"]) == 0).tolist() == [[True, False], [False, True]]
    assert (np.asarray(params["a"]["bias"]) != 0).all()


def test_unknown_criteria_are_refused():
    model = models.create("gpt2-tiny", task="causal-lm")
    with pytest.raises(ArenaError, match="did you mean 'wanda'"):
        game.sparsify(model, [], 0.5, criterion="wand")
    with pytest.raises(ArenaError, match="share is 2"):
        game.sparsify(model, [], 2, criterion="wanda")
    with pytest.raises(ArenaError, match="give at least one batch"):
        game.sparsify(model, [], 0.5)


def test_players_and_values_that_are_none_are_refused():
    model = models.create("gpt2-tiny", task="causal-lm")
    table = game.fine_players(model.config)
    for removed in ([-1], [10**6], "0"):
        with pytest.raises(ArenaError):
            game.refit_without(model, table, removed, [])
    with pytest.raises(ArenaError, match="gives a block no finite value"):
        game.choose_blocks(Values(np.array([1.0, np.nan]), np.zeros(2), 0, "given"), 0.5)
