"""Equation 13: who proposes, what its gradients ask for, and a race that costs what it costs and changes no bit."""

import dataclasses
import weakref
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.arena.accounts import Account
from arena_jax.arena.contender import capture, install
from arena_jax.arena.search import _charge, proposals, proposer, relative_gradients
from arena_jax.runs import load_run
from arena_jax.runtime.devices import distribute, make_mesh
from arena_jax.training import restore
from arena_jax.training.state import TrainState
from tests.arena.test_resize import train, world
from tests.arena.tiny import assert_killed_and_resumed_is, assert_same_arrays, final_state, records, tiny


def test_the_model_of_the_least_progress_proposes():
    scores = [[-3.0, -3.0, -3.0], [-2.0, -2.9, -3.5]]
    assert proposer(*world(scores), ()) == "c"
    assert proposer(*world(scores), ("c",)) == "b", "one that has changed just now does not"
    assert proposer(*world(scores[:1]), ()) is None
    assert proposer(*world(scores, resized={"b": 1, "c": 1}), ()) == "a"


def test_what_gradients_ask_for_by_numpy():
    random = np.random.default_rng(0)

    def tree():
        parts = {"attention": {"query": (2, 3, 4)}, "feed_forward": {"up": (2, 3, 5)}, "norm": {"scale": (2, 3)}}
        blocks = {part: {name: random.normal(size=shape) for name, shape in of.items()} for part, of in parts.items()}
        return {"blocks": jax.tree.map(lambda x: x.astype(np.float32), blocks), "head": np.ones(3, np.float32)}

    gradient, params = tree(), tree()
    norms = relative_gradients(gradient, params)

    def norm(blocks, row=slice(None)):
        return np.linalg.norm(np.concatenate([leaf[row].ravel() for leaf in jax.tree.leaves(blocks)]))

    for what, part in (("heads", "attention"), ("neurons", "feed_forward")):
        expected = norm(gradient["blocks"][part]) / norm(params["blocks"][part])
        assert norms[what] == pytest.approx(expected, rel=1e-5)
    assert norms["layers"] == pytest.approx(norm(gradient["blocks"], -1) / norm(params["blocks"], -1), rel=1e-5)
    assert proposals(norms) == sorted(norms, key=norms.get)[:0:-1]


def test_the_winner_pays_for_all():
    parent = SimpleNamespace(account=Account(steps=5, examples=50, flops=100.0, seconds=10.0))
    accounts = [
        Account(steps=7, examples=70, flops=150.0, seconds=14.0),
        Account(steps=6, examples=60, flops=140.0, seconds=13.0),
    ]
    contenders = [SimpleNamespace(account=account) for account in accounts]
    state = SimpleNamespace(accounts={})
    _charge(state, "a", parent, contenders, contenders[1])
    assert state.accounts["a"] == dataclasses.replace(accounts[1], flops=190.0, seconds=17.0)
    assert accounts[1].flops == 140.0


def test_scores_of_a_race_are_no_evaluations_of_the_run():
    """How often those are due goes by what they cost."""
    account = Account(flops=1.0, seconds=1.0, evaluation_flops=0.5, evaluation_seconds=0.25)
    account.count_other(2.0, 3.0)
    assert account == Account(flops=3.0, seconds=4.0, evaluation_flops=0.5, evaluation_seconds=0.25)


def test_only_the_racer_is_kept_and_put_back_and_never_twice_on_a_device(monkeypatch):
    def train(value):
        params = {name: {"w": jnp.full(3, value)} for name in "ab"}
        return TrainState(jnp.asarray(value), params, {"mu": jax.tree.map(jnp.copy, params)}, {"a": {}, "b": {}}, {})

    names, mesh, network = ("a", "b"), make_mesh(1), object()
    programs = SimpleNamespace(of_model=lambda name: None, put_back=lambda *_: None, other_code={})
    setup = SimpleNamespace(
        names=names, mesh=mesh, parts=SimpleNamespace(models={"a": network}), parameters={"a": 3}, executables=programs
    )
    stream = SimpleNamespace(state=lambda: 0, restore=lambda position: None)
    state = SimpleNamespace(
        train=train(1.0),
        gradients={},
        sizes={"a": 2},
        streams={"a": stream},
        accounts={"a": Account()},
        times=SimpleNamespace(forget=lambda name: None),
    )
    contender = capture(setup, state, "a", None)
    assert jax.tree.leaves(contender.train.params) == [pytest.approx(np.ones(3)), 0]
    state.train = train(2.0)
    other = state.train.params["b"]["w"]
    on_device = [weakref.ref(tree["a"]["w"]) for tree in (state.train.params, state.train.opt_state["mu"])]

    def distribute_last(*arguments):
        assert [array() for array in on_device] == [None, None]
        return distribute(*arguments)

    monkeypatch.setattr("arena_jax.arena.contender.distribute", distribute_last)
    install(setup, state, contender)
    assert_same_arrays(state.train._replace(params=state.train.params["a"], opt_state=0), (1.0, np.ones(3), 0))
    assert state.train.params["b"]["w"] is other
    assert_same_arrays(state.train.opt_state["mu"], {"a": {"w": np.ones(3)}, "b": {"w": np.full(3, 2.0)}})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tiny(arena={"race_steps": 3}), tmp_path_factory.mktemp("race") / "run")


@pytest.mark.slow
def test_a_race_is_over_equal_operations_and_the_best_goes_on(finished):
    races = records(finished, "race")
    assert [race["step"] for race in races] == [2, 4]
    for race in races:
        first, *children = race["contenders"]
        assert first["change"] == "no change"
        assert first["steps"] == 3
        assert len(children) == 2
        asked = proposals(race["gradients"])
        assert [child["change"].split("=")[0] for child in children] == asked
        best = max(race["contenders"], key=lambda row: row["score"])
        assert race["winner"] == best["change"]
        assert (race["parameters"][0] == race["parameters"][1]) == (race["winner"] == "no change")
        for child in children:
            # Whole steps: at most half a step's worth of operations apart, and the evaluation of a larger model.
            assert child["flops"] == pytest.approx(first["flops"], rel=0.5)
    config = load_run(finished)
    state = final_state(finished)
    models = restore(finished, config)[0].models
    board = records(finished, "leaderboard")[-1]["models"]
    for race in races:
        name = race["model"]
        last = [later for later in races if later["model"] == name][-1]
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params[name])) == last["parameters"][1]
        assert board[name]["flops"] > sum(row["flops"] for row in race["contenders"])
        shape = models[name].config
        sizes = {"layers": shape.num_layers, "heads": shape.num_heads, "neurons": shape.intermediate_size}
        wins = dict(later["winner"].split("=") for later in races if later["model"] == name and "=" in later["winner"])
        grown = {"layers": 1, "heads": 2, "neurons": 16} | {what: int(count) for what, count in wins.items()}
        assert sizes == grown, "the winners that the records name"


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 3])
def test_resuming_changes_no_bit(finished, tmp_path, rounds):
    config = tiny(arena={"race_steps": 3}, checkpoint_every=1)
    assert_killed_and_resumed_is(finished, train, config, tmp_path / "run", rounds)


@pytest.mark.slow
def test_children_start_with_the_function_of_their_parent(tmp_path, monkeypatch):
    """Races of no steps: all score alike, up to rounding."""
    monkeypatch.setattr("arena_jax.arena.search.race_length", lambda *_: 0)
    run = train(tiny(arena={"race_steps": 3}), tmp_path / "run")
    monkeypatch.undo()
    for race in records(run, "race"):
        scores = [row["score"] for row in race["contenders"]]
        np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
        assert race["winner"] == max(race["contenders"], key=lambda row: row["score"])["change"], "of equals the first"
