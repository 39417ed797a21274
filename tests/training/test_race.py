"""A race for the lead of a relay: who wins, what it costs, and that the rest is the relay of a leader by name."""

import dataclasses

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.compare.curve import curve
from arena_jax.config import ModelConfig, TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.lone_run import lone_run
from arena_jax.training.race import EVALUATIONS, Entry, entry, entry_config, fastest, race_steps
from arena_jax.training.relay import leader_steps
from tests.training.test_train import state_of, stop_at, tiny, without_times

pytestmark = pytest.mark.usefixtures("compile_quickly")


def race(**together):
    base = tiny()
    longer = dataclasses.replace(base.training, steps=14)
    faster = dataclasses.replace(base.optimizer, learning_rate=6e-3, warmup_steps=0)  # so that somebody learns
    calm = tuple(dataclasses.replace(model, dropout=0.0) for model in base.models)
    together = TogetherConfig(relay="race", relay_race=0.1, **together)
    return dataclasses.replace(base, models=calm, training=longer, optimizer=faster, together=together)


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def run_of(losses, seconds, every=5):
    scored = [
        {"kind": "evaluation", "step": every * (i + 1), "models": {"m": {"loss": loss}}}
        for i, loss in enumerate(losses)
    ]
    trained = [{"kind": "train", "step": every * (i + 1), "seconds": s} for i, s in enumerate(seconds)]
    return [*trained, *scored, {"kind": "compile", "step": 0, "seconds": 7.0}]


def test_speed_is_equation_1_by_the_seconds_between_evaluations():
    """By hand: (4 − 3 + 3 − 2.5) / 2 / (1 + 2.5), in 3 seconds in the mean; the first second is no part of it."""
    result = entry(run_of([4.0, 3.0, 2.5], [1.0, 2.0, 4.0]), "loss")
    assert result.progress == pytest.approx(1.5 / 2 / 3.5)
    assert result.speed == pytest.approx(1.5 / 2 / 3.5 / 3)
    assert (result.steps, result.seconds, result.compile_seconds) == (15, 7.0, 7.0)
    assert entry(run_of([4.0, 3.0, float("nan")], [1.0, 2.0, 4.0]), "loss").speed == 0, "it diverged"
    assert entry(run_of([4.0], [1.0]), "loss").speed == 0
    assert entry([], "loss") == Entry(0.0, 0.0, 0, 0.0, 0.0)


def test_who_wins():
    half = {"a": Entry(0.3, 0.1, 4, 12.0, 0.0), "b": Entry(0.2, 0.2, 4, 4.0, 0.0), "c": Entry(0.2, 0.2, 4, 4.0, 0.0)}
    assert fastest(half) == "b", "half the time for two thirds of the progress, and the first of two"
    with pytest.raises(ArenaError, match="no model became better in a race of 4 steps: give a larger relay_race"):
        fastest({"a": Entry(-0.1, -0.1, 4, 1.0, 0.0), "b": Entry(0.0, 0.0, 4, 1.0, 0.0)})


def test_the_races_steps_are_a_part_of_the_runs():
    assert (race_steps(race(), 14), leader_steps(race(), 14)) == (4, 3)
    assert (race_steps(race(), 1000), leader_steps(race(), 1000)) == (100, 400)
    assert race_steps(tiny(), 1000) == 0
    with pytest.raises(ArenaError, match="a race of 2 models takes 8 steps of 9, which leaves none"):
        race_steps(race(), 9)
    run = entry_config(race(), "bert", 4)
    assert (run.training.steps, run.training.evaluate_every, run.together) == (4, 1, TogetherConfig())
    assert run.models == (race().model("bert"),)
    evaluations = [steps // entry_config(race(), "bert", steps).training.evaluate_every for steps in range(4, 40)]
    assert evaluations[0] == max(evaluations) == EVALUATIONS
    assert min(evaluations) > 1, "progress is between two"


def test_a_race_that_cannot_be_is_refused():
    with pytest.raises(ArenaError, match="relay_race does nothing where no race says who leads; give relay race"):
        TogetherConfig(relay="gpt2", relay_race=0.1)
    bert = ModelConfig("bert", checkpoint="x")
    with pytest.raises(ArenaError, match="'bert' has a checkpoint, so that it cannot start from whoever wins the race"):
        dataclasses.replace(race(), models=(bert, tiny().models[1]))
    after = dataclasses.replace(tiny().models[0], start="gpt2")
    source = dataclasses.replace(tiny().models[1], start="corpus")
    with pytest.raises(ArenaError, match="'bert' trains alone at first, and cannot start from 'gpt2', a model of the"):
        dataclasses.replace(race(), models=(after, source))
    with pytest.raises(ArenaError, match="'bert' trains alone at first, and cannot start from 'gpt2'"):
        dataclasses.replace(tiny(), models=(after, source), together=TogetherConfig(relay="bert"))
    called = dataclasses.replace(tiny().models[0], name="race")
    with pytest.raises(ArenaError, match="a model is called so, too"):
        dataclasses.replace(race(), models=(called, tiny().models[1]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(race(), tmp_path_factory.mktemp("race") / "run")


@pytest.mark.slow
def test_the_fastest_leads_and_the_rest_is_its_relay(finished, tmp_path):
    start, *records = read(finished)
    entries = {name: entry(read(finished / "race" / name), "loss") for name in ("bert", "gpt2")}
    leader = fastest(entries)
    other = next(name for name in entries if name != leader)
    assert start["relay"]["leader"] == leader
    assert start["relay"]["race"] == {name: of_model._asdict() for name, of_model in entries.items()}
    assert f"{leader} learns fastest" in narrate([start])
    assert start["models"][other]["start"]["from"] == leader
    assert start["steps"] == 3
    alone = training.train(lone_run(race(), leader, 3), tmp_path / "alone")
    same(state_of(alone), state_of(finished / "relay"))
    assert without_times(alone) == without_times(finished / "relay")
    same(state_of(alone).params[leader], state_of(finished).params[leader])
    # All of it is counted: two short runs, the leader's, and the followers' steps.
    last = curve([start, *records], 1)[-1]
    assert last["step"] == 4 + 4 + 3 + 3
    before = sum(of_model.seconds for of_model in entries.values())
    before += sum(record["seconds"] for record in read(finished / "relay") if record["kind"] == "train")
    after = sum(record["seconds"] for record in records if record["kind"] == "train")
    assert last["seconds"] == pytest.approx(before + after)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6, 10, 13])
def test_it_goes_on_to_the_bit_from_every_part(finished, tmp_path, monkeypatch, step):
    """Stopped in the first race, the second, the leader's run and the followers'; who leads is what the clock said."""
    leader = read(finished)[0]["relay"]["leader"]
    monkeypatch.setattr("arena_jax.training.relay.fastest", lambda entries: leader)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Stopped, match=r"resume \S*/run$"):
            training.train(race(), tmp_path / "run")
    run = training.train(race(), tmp_path / "run", resume=True)
    same(state_of(finished), state_of(run))
    for part in ("relay", "race/bert", "race/gpt2"):
        same(state_of(finished / part), state_of(run / part))
