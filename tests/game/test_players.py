"""The players' tables: every parameter by type once, the fine slices, and the labels that the optimizer takes."""

import jax
import numpy as np
import optax
import pytest

from arena_jax import ArenaError, game, models, transforms

TASKS = [
    ("gpt2-tiny", "causal-lm"),
    ("bert-tiny", "masked-lm"),
    ("bert-tiny", "sequence-classification"),
    ("roberta-tiny", "sequence-classification"),
    ("roberta-tiny", "masked-lm"),
]


def built(name, task):
    model = models.create(name, task, seed=1)
    return model.config, models.split(model)[1]


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_every_parameter_is_in_exactly_one_player_by_type(name, task):
    config, params = built(name, task)
    table = game.type_players(config, params)
    owned = [part.path for player in table.players for part in player.parts]
    every = [tuple(k.key for k in path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    assert sorted(owned) == sorted(every)
    assert table.sizes(params).sum() == sum(x.size for x in jax.tree.leaves(params))
    assert table.names == tuple(kind for kind in game.players.TYPES if kind in table.names)
    assert ("task head" in table.names) == (name != "gpt2-tiny")


@pytest.mark.parametrize("name", ["gpt2-tiny", "bert-tiny"])
def test_fine_players_share_out_the_kernels(name):
    """The heads' and groups' slices tile the stacked kernels: each number once."""
    config, params = built(name, "causal-lm" if name.startswith("gpt2") else "masked-lm")
    table = game.fine_players(config, groups=2)
    counts = jax.tree.map(lambda x: np.zeros(x.shape, int), params)
    for player in table.players:
        for part in player.parts:
            leaf = counts
            for step in part.path:
                leaf = leaf[step]
            leaf[part.index] += 1
    blocks = counts["blocks"]
    for maps, names in (("attention", ("query", "key", "value", "output")), ("feed_forward", ("up", "down"))):
        for one in names:
            assert (blocks[maps][one]["kernel"] == 1).all()
            assert (blocks[maps][one]["bias"] == (one not in ("output", "down"))).all()
    assert counts["embeddings"]["token"]["embedding"].sum() == 0
    assert len(table) == config.num_layers * (config.num_heads + 2)
    assert table.players[table.index("1.neurons1")].layer == 1


def test_labels_drive_the_multipliers():
    """Freezing by label freezes exactly the player's parameters; the labels also work as a function of the path."""
    config, params = built("gpt2-tiny", "causal-lm")
    table = game.type_players(config, params)
    multipliers = {name: 0.0 if name == "query/key" else 1.0 for name in table.names}
    updates = jax.tree.map(np.ones_like, params)
    by_tree = transforms.scale_by_component(table.labels(params), multipliers)
    scaled, _ = by_tree.update(updates, by_tree.init(params))
    frozen = table.pieces("query/key", scaled)
    assert all((np.asarray(x) == 0).all() for x in frozen)
    assert optax.tree_utils.tree_sum(scaled) == table.sizes(params).sum() - table.sizes(params)[3]
    by_path = transforms.scale_by_component(game.component_of, multipliers)
    again, _ = by_path.update({"model": updates}, by_path.init({"model": params}))
    jax.tree.map(np.testing.assert_array_equal, again["model"], scaled)


def test_bad_questions_get_one_line():
    config, params = built("gpt2-tiny", "causal-lm")
    fine, types = game.fine_players(config), game.type_players(config, params)
    for call, told in (
        (lambda: game.fine_players(config, groups=3), "3 groups do not divide the 64 neurons"),
        (lambda: types.gates(np.ones(6)), "players by type have no gates"),
        (lambda: fine.labels(params), "take game.type_players"),
        (lambda: fine.index("9.head9"), "there is no player '9.head9'"),
        (lambda: game.component_of(("lora", "a")), "'lora/a' is no parameter"),
    ):
        with pytest.raises(ArenaError, match=told):
            call()
