"""A relay: the leader trains as it would alone, the others start from it, and both halves go on to the bit."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.compare.curve import curve
from arena_jax.config import ArenaConfig, ModelConfig, TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.build import build
from arena_jax.training.lone_run import in_time_left, lone_run
from arena_jax.training.relay import followers_config, run_relay
from tests.training.test_modules import Classifier, batch, objective
from tests.training.test_train import state_of, stop_at, tiny, without_times

pytestmark = pytest.mark.usefixtures("compile_quickly")


def relay():
    return dataclasses.replace(tiny(), together=TogetherConfig(relay="gpt2", relay_part=0.375))


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def test_the_leader_has_what_is_left_of_a_sessions_time():
    hour = dataclasses.replace(relay(), training=dataclasses.replace(relay().training, stop_after="1h"))
    session = SimpleNamespace(config=hour, clock=lambda: {"seconds": 600.0})
    run = lone_run(hour, "gpt2", 3)
    assert in_time_left(session, run) == dataclasses.replace(
        run, training=dataclasses.replace(run.training, stop_after="3000.000s")
    )
    session.clock = lambda: {"seconds": 4000.0}
    assert in_time_left(session, run).training.stop_after == "0.001s"
    session.config = relay()
    assert in_time_left(session, run) is run


def test_followers_go_on_whose_records_do_not_say_who_led(tmp_path):
    """As those of a relay that an earlier version began; the configuration names the leader."""
    (tmp_path / "records.jsonl").write_text('{"kind": "start", "step": 0}\n')
    session = SimpleNamespace(config=relay(), checkpoints=SimpleNamespace(latest=4), folder=tmp_path)
    going_on = run_relay(session, None, 8, None)
    assert (going_on.resting, going_on.steps) == (("gpt2",), 3)
    assert going_on.config == followers_config(relay(), "gpt2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(relay(), tmp_path_factory.mktemp("relay") / "run")


@pytest.mark.slow
def test_the_leader_is_the_one_it_is_alone_to_the_bit(finished, tmp_path):
    """Alone: its own configuration, given to the command of a run of one model."""
    base = tiny()
    config = dataclasses.replace(
        base, models=(base.model("gpt2"),), training=dataclasses.replace(base.training, steps=3)
    )
    assert lone_run(relay(), "gpt2", 3) == config
    mirrored = dataclasses.replace(relay(), training=dataclasses.replace(relay().training, mirror="memory://run"))
    assert lone_run(mirrored, "gpt2", 3) == config, "the address is the whole run's"
    alone = training.train(config, tmp_path / "alone")
    same(state_of(alone), state_of(finished / "relay"))
    same(state_of(alone).params["gpt2"], state_of(finished).params["gpt2"])
    assert without_times(alone) == without_times(finished / "relay")


@pytest.mark.slow
def test_the_others_start_from_it_and_take_the_other_steps(finished):
    start, *records = read(finished)
    assert start["steps"] == 5
    assert start["models"]["bert"]["start"]["from"] == "gpt2"
    assert "start" not in start["models"]["gpt2"]
    assert "gpt2 leads" in narrate([start])
    assert "3 of 8 steps alone, in relay/" in narrate([start])
    seconds = [
        sum(r["seconds"] for r in read(finished / "relay") if r["kind"] == kind) for kind in ("train", "compile")
    ]
    assert start["relay"] == {"leader": "gpt2", "steps": 3, "seconds": seconds[0], "compile_seconds": seconds[1]}
    assert [point["step"] for point in curve([start, *records], 1)] == [7, 8], "a comparison counts the leader's"
    trained = [set(record["models"]) for record in records if record["kind"] == "train"]
    assert trained == [{"bert"}, {"bert"}]
    scored = [record["models"] for record in records if record["kind"] == "evaluation"]
    assert [set(models) for models in scored] == [{"bert", "gpt2"}] * 2
    assert scored[0]["gpt2"] == scored[1]["gpt2"], "it rests"
    assert scored[0]["bert"] != scored[1]["bert"]
    assert set(training.evaluate(finished)) == {"bert", "gpt2"}


@pytest.mark.slow
def test_what_the_followers_begin_with(finished, tmp_path, monkeypatch):
    """Stopped before the first of their steps: their tables are the leader's, handed down."""
    stop_at(monkeypatch, 4)
    with pytest.raises(Stopped):
        training.train(relay(), tmp_path / "run")
    config = followers_config(relay(), "gpt2")
    parts = build(config, tmp_path / "run" / "tokenizers")
    leader = state_of(finished / "relay").params["gpt2"]
    structure, _ = models.split(parts.models["gpt2"])
    tables = [parts.tokenizers[name].backend.get_vocab(with_added_tokens=True) for name in ("gpt2", "bert")]
    handed = models.hand_down(models.merge(structure, leader), parts.models["bert"], *tables)
    # One step was finished before the run stopped: what no gradient reaches yet is a token that no row has.
    first = np.asarray(models.split(handed.model)[1]["embeddings"]["token"]["embedding"])
    now = state_of(tmp_path / "run").params["bert"]["embeddings"]["token"]["embedding"]
    np.testing.assert_allclose(now, first, atol=0.02)
    assert (
        np.abs(now - np.asarray(models.split(parts.models["bert"])[1]["embeddings"]["token"]["embedding"])).max() > 0.03
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6])
def test_each_half_goes_on_to_the_bit(finished, tmp_path, monkeypatch, step):
    stop_at(monkeypatch, step)
    with pytest.raises(
        Stopped, match=rf"stopped after step {step if step < 3 else 3} of \d; go on with: .*resume \S*/run$"
    ):
        training.train(relay(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(relay(), tmp_path / "run", resume=True)
    same(state_of(finished), state_of(run))
    same(state_of(finished / "relay"), state_of(run / "relay"))


def test_a_resting_model_costs_no_gradient_and_the_others_train_as_without_it():
    made = {"a": Classifier(3, 1), "b": Classifier(3, 2)}
    step = training.make_step(made, optax.adam(0.1), dict.fromkeys(made, objective), skip_nonfinite=True)
    step.resting = ("b",)
    assert step.batch_names == ("a",)
    state = step.init()
    before = jax.tree.map(np.asarray, state.params["b"])
    alone = training.make_step({"a": Classifier(3, 1)}, optax.adam(0.1), {"a": objective}, skip_nonfinite=True)
    lone = alone.init()
    for number in range(3):
        state, metrics = step(state, {"a": batch(seed=number)}, active={"a": np.bool_(True), "b": np.bool_(True)})
        lone, _ = alone(lone, {"a": batch(seed=number)})
        assert set(metrics) == {"a"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params["a"], lone.params["a"])
    assert before["inner"]["kernel"].shape == state.params["b"]["inner"]["kernel"].shape


@pytest.mark.slow
def test_a_leader_can_teach_while_it_rests(tmp_path):
    models = tuple(dataclasses.replace(model, batch_size=None) for model in tiny().models)  # which see the same rows
    together = TogetherConfig(relay="gpt2", relay_part=0.375, distil="gpt2")
    run = training.train(dataclasses.replace(tiny(), models=models, together=together), tmp_path / "run")
    last = [record for record in read(run) if record["kind"] == "train"][-1]
    assert last["models"]["bert"]["divergence"] > 0


@pytest.mark.slow
def test_a_leader_that_hands_nothing_down_teaches_students_that_begin_as_they_are(tmp_path):
    """Sequential distillation: the students are those that a run without a leader would build."""
    models_ = tuple(dataclasses.replace(model, batch_size=None) for model in tiny().models)
    together = TogetherConfig(relay="gpt2", relay_part=0.375, distil="gpt2", relay_warm=False)
    config = dataclasses.replace(tiny(), models=models_, together=together)
    assert followers_config(config, "gpt2").models == models_
    run = training.train(config, tmp_path / "run")
    start, *records = read(run)
    assert "start" not in start["models"]["bert"]
    assert "it teaches the others from then on" in narrate([start])
    last = [record for record in records if record["kind"] == "train"][-1]
    assert last["models"]["bert"]["divergence"] > 0
    same(state_of(run / "relay").params["gpt2"], state_of(run).params["gpt2"])


def test_a_relay_that_cannot_be_is_refused():
    with pytest.raises(ArenaError, match="relay names 'gpt', which is no model of this run; did you mean 'gpt2'"):
        dataclasses.replace(tiny(), together=TogetherConfig(relay="gpt"))
    with pytest.raises(ArenaError, match="a competition has no relay"):
        dataclasses.replace(relay(), arena=ArenaConfig())
    with pytest.raises(ArenaError, match="relay_part does nothing without a leader"):
        TogetherConfig(relay_part=0.2)
    bert = ModelConfig("bert", checkpoint="x")
    with pytest.raises(ArenaError, match="model 'bert' has a checkpoint, so that it cannot start from 'gpt2'"):
        dataclasses.replace(relay(), models=(bert, tiny().models[1]))


def test_followers_that_do_not_fit_are_refused_before_the_leader_trains(tmp_path):
    wide = dataclasses.replace(tiny().models[0], hidden_size=32)
    run = dataclasses.replace(relay(), models=(wide, tiny().models[1]))
    with pytest.raises(ArenaError, match="model 'bert', start gpt2: the source is 16 wide and the target 32"):
        training.train(run, tmp_path / "run")
    assert not (tmp_path / "run" / "relay").exists()
