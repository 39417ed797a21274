"""Equation 13: who proposes, what its gradients ask for, and a race that costs what it costs and changes no bit."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from arena_jax.arena.accounts import Account
from arena_jax.arena.search import _charge, proposals, proposer, race_length, relative_gradients
from arena_jax.runs import load_run
from arena_jax.training import restore
from tests.arena.test_resize import train, world
from tests.arena.tiny import assert_same_arrays, final_state, records, tiny, without_times


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
        Account(steps=7, examples=70, flops=150.0, seconds=14.0, evaluation_flops=8.0, evaluation_seconds=1.0),
        Account(steps=6, examples=60, flops=140.0, seconds=13.0, evaluation_flops=9.0, evaluation_seconds=2.0),
    ]
    contenders = [SimpleNamespace(account=account) for account in accounts]
    state = SimpleNamespace(accounts={})
    _charge(state, "a", parent, contenders, contenders[1])
    expected = dataclasses.replace(
        accounts[1], flops=190.0, seconds=17.0, evaluation_flops=17.0, evaluation_seconds=3.0
    )
    assert state.accounts["a"] == expected
    assert accounts[1].flops == 140.0


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
        assert models[name].config.num_layers >= 1


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 3])
def test_resuming_changes_no_bit(finished, tmp_path, rounds):
    class Killed(Exception):
        pass

    config = tiny(arena={"race_steps": 3}, checkpoint_every=1)

    def kill(moment, now, setup, state):
        if moment == "round" and now == rounds + 1:
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "run", observe=kill)
    run = train(config, tmp_path / "run", resume=True)
    assert_same_arrays(final_state(finished), final_state(run))
    assert without_times(run) == without_times(finished)


@pytest.mark.slow
def test_children_start_with_the_function_of_their_parent(tmp_path, monkeypatch):
    """Races of no steps: all score alike, and the parent stays."""
    monkeypatch.setattr("arena_jax.arena.search.race_length", lambda *_: 0)
    run = train(tiny(arena={"race_steps": 3}), tmp_path / "run")
    monkeypatch.undo()
    for race in records(run, "race"):
        scores = [row["score"] for row in race["contenders"]]
        np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
    plain = train(tiny(), tmp_path / "plain")
    if all(race["winner"] == "no change" for race in records(run, "race")):
        assert_same_arrays(final_state(run).params, final_state(plain).params)
    assert callable(race_length)
