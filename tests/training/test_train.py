"""Whole runs, tiny: what is written, and that stopping and going on changes no bit."""

import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from arena_jax import data, models, training
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped, load_run
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.paths import with_absolute_paths
from arena_jax.runs.records import read
from arena_jax.runs.session import Session

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}


def tiny(**training):
    """Two models with dropout and batches of their own, everything that has a state switched on, a log interval that
    checkpoints cut through."""
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(
            ModelConfig("bert", preset="bert-tiny", **SIZES),
            ModelConfig("gpt2", preset="gpt2-tiny", batch_size=4, **SIZES),
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(convergence_window=3, synchronize_every=2, warmup_steps=2),
        training=TrainingConfig(
            steps=8,
            batch_size=8,
            accumulation=2,
            evaluation_batch_size=8,
            log_every=4,
            evaluate_every=4,
            checkpoint_every=3,
            tensorboard=False,
            figures=False,
            devices=1,
            **training,
        ),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(tiny(), tmp_path_factory.mktemp("whole") / "run")


def state_of(run: Path):
    config = load_run(run)
    _, _, state = training.restore(run, config)
    return jax.tree.map(np.asarray, state)


def stop_at(monkeypatch, number):
    """SIGTERM comes before the step of this number is taken."""
    original, steps = training.Step.run, []

    def run_and_stop(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == number:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run_and_stop)


def without_times(run: Path):
    """The records less what a clock says."""
    clocks = {
        "time",
        "seconds",
        "compile_seconds",
        "speed",
        "evaluation_seconds",
        "compiling",
        "cached",
        "examples_per_second",
        "tokens_per_second",
        "mfu",
        "peak",
        "run",
        "path",
    }

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in clocks}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [strip(record) for record in read(run) if record["kind"] != "compile"]


def test_a_run_writes_what_it_promises(finished):
    kinds = [record["kind"] for record in read(finished)]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("train") == 2
    assert kinds.count("evaluation") == 2
    assert kinds.count("checkpoint") == 3
    start = read(finished)[0]
    assert start["versions"]["jax"] == jax.__version__
    assert start["steps"] == 8
    assert load_run(finished) == tiny(), "the resolved configuration can be given back"
    last = [record for record in read(finished) if record["kind"] == "evaluation"][-1]
    assert set(last["models"]) == {"bert", "gpt2"}
    assert training.evaluate(finished)["bert"] == pytest.approx(last["models"]["bert"], rel=1e-6)


def test_a_model_may_have_a_batch_size_of_its_own(finished):
    """40 rows in batches of 8 and of 4: the epoch is over when the slower one has seen all."""
    records = read(finished)
    derived = {item["name"]: (item["value"], item["reason"]) for item in records[0]["derived"]}
    assert derived["batch of bert"] == ("8", "2 microbatches of 4 per device")
    assert derived["batch of gpt2"] == ("4", "2 microbatches of 2 per device")
    last = [record for record in records if record["kind"] == "train"][-1]
    assert last["epoch"] == pytest.approx(8 / 10)
    rates = {name: metrics["examples_per_second"] for name, metrics in last["models"].items()}
    assert rates["bert"] == pytest.approx(2 * rates["gpt2"])


@pytest.mark.slow
def test_models_of_different_batches_meet_each_length_once(tmp_path):
    """One program for each length, and not one for each pair of them."""
    run = tiny()
    lengths = dataclasses.replace(run.data, lengths=(8,))
    training_config = dataclasses.replace(run.training, checkpoint_every=None)
    folder = training.train(dataclasses.replace(run, data=lengths, training=training_config), tmp_path / "run")
    steps = [r["program"] for r in read(folder) if r["kind"] == "compile" and r["program"].startswith("step")]
    assert sorted(steps) == sorted(set(steps))
    assert set(steps) <= {"step, length 8", "step, length 16"}


def test_a_configuration_that_was_edited_since_is_refused(finished, tmp_path):
    """By its differences; what no number depends on may change."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = (run / "records.jsonl").read_bytes()
    content = json.loads((run / "config.json").read_text())
    content["training"]["seed"], content["training"]["figures"] = 7, True
    content["optimizer"]["share_alpha"] = 0.5
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        ArenaError, match=r"another configuration: optimizer.share_alpha: .* → 0.5; training.seed: 0 → 7"
    ):
        training.train(load_run(run), run, resume=True)
    content["training"]["seed"] = 0
    del content["optimizer"]["share_alpha"]
    (run / "config.json").write_text(json.dumps(content))
    assert training.train(load_run(run), run, resume=True) == run
    assert (run / "records.jsonl").read_bytes() == before


def test_a_stopped_run_goes_on_to_the_bit(finished, tmp_path, monkeypatch):
    """SIGTERM after the fifth step, between a log interval's ends; then resume; against the run that never stopped."""
    stop_at(monkeypatch, 5)
    monkeypatch.setattr(Session, "clock", lambda self: {"seconds": 1000.0, "compiling": 100.0})
    with pytest.raises(Stopped, match=r"stopped after step 5 of 8; go on with: arena-jax resume .*run"):
        training.train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    began = time.perf_counter()
    run = training.train(tiny(), tmp_path / "run", resume=True)
    took, end = time.perf_counter() - began, read(run)[-1]
    assert 0 < end["seconds"] - 1000 < took, "the end tells of both sessions"
    assert 0 < end["compiling"] - 100 < took
    assert f"compiling {end['compiling']:.1f} s" in narrate(read(run))
    assert_same_run(run, finished)


def assert_same_run(run, whole):
    """State and records, to the bit."""
    expected, got = state_of(whole), state_of(run)
    assert jax.tree.structure(expected) == jax.tree.structure(got)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_array_equal(a, b)
    records, all_records = without_times(run), without_times(whole)
    assert [r for r in records if r["kind"] != "checkpoint"] == [r for r in all_records if r["kind"] != "checkpoint"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_bit_compiled_as_a_user_has_it(tmp_path, monkeypatch, compile_as_a_run):
    """Other programs than those of `compile_quickly`, which the tests beside this one have."""
    whole = training.train(tiny(), tmp_path / "whole")
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        training.train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    assert_same_run(training.train(tiny(), tmp_path / "run", resume=True), whole)


@pytest.mark.slow
def test_a_killed_run_repeats_what_its_checkpoint_did_not_see(finished, tmp_path, monkeypatch):
    """An exception in step 8 stands for kill -9: the checkpoint of step 6 is the newest; nothing is doubled."""
    original, steps = training.Step.run, []

    def run_and_die(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == 8:
            raise RuntimeError("power cut")
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run_and_die)
    began = time.perf_counter()
    with pytest.raises(RuntimeError, match="power cut"):
        training.train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(tiny(), tmp_path / "run", resume=True)
    end = read(run)[-1]
    assert 0 < end["compiling"] < end["seconds"] < time.perf_counter() - began, "what was lost is in neither"
    for a, b in zip(jax.tree.leaves(state_of(finished)), jax.tree.leaves(state_of(run)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert without_times(run) == without_times(finished)


@pytest.mark.slow
def test_a_run_without_gain_ends_and_does_so_at_the_same_step_when_resumed(tmp_path, monkeypatch, capsys):
    """Nothing is learnt: the first evaluation, of step 2, stays the best; the second without gain is of step 6."""
    run = tiny(score="accuracy", stop_after_no_gain=2)
    still = dataclasses.replace(run.optimizer, learning_rate=1e-30, synchronize_beta=0.0)
    often = dataclasses.replace(run.training, evaluate_every=2, checkpoint_every=None)
    run = dataclasses.replace(run, optimizer=still, training=often)
    whole = training.train(run, tmp_path / "whole")
    records = read(whole)
    gains = [(r["step"], r["without_gain"]) for r in records if r["kind"] == "evaluation"]
    assert gains == [(2, 0), (4, 1), (6, 2)]
    assert [r["step"] for r in records if r["kind"] == "checkpoint"] == [2, 6], "the best, and the end"
    assert (records[-1]["kind"], records[-1]["step"], records[-1]["reason"]) == ("end", 6, "no gain")
    assert "ended without a gain in 2 evaluations, after 6 steps" in narrate(records)

    stop_at(monkeypatch, 4)
    with pytest.raises(Stopped, match="stopped after step 4 of 8"):
        training.train(run, tmp_path / "run")
    monkeypatch.undo()
    resumed = training.train(run, tmp_path / "run", resume=True)
    for a, b in zip(jax.tree.leaves(state_of(whole)), jax.tree.leaves(state_of(resumed)), strict=True):
        np.testing.assert_array_equal(a, b)
    saved = [r for r in without_times(resumed) if r["kind"] != "checkpoint"]
    assert saved == [r for r in without_times(whole) if r["kind"] != "checkpoint"]
    capsys.readouterr()
    assert training.train(run, resumed, resume=True) == resumed
    assert "nothing is left to do: it ended after step 6 without a gain" in capsys.readouterr().out


def test_export_gives_the_trained_model(finished, tmp_path):
    training.export(finished, "gpt2", tmp_path / "out")
    loaded = models.from_pretrained(tmp_path / "out")
    assert loaded.task == "sequence-classification"
    _, params = models.split(loaded)
    expected = state_of(finished).params["gpt2"]
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_refusals(finished, tmp_path):
    with pytest.raises(ArenaError, match="is not empty; go on with `arena-jax resume"):
        training.train(tiny(), finished)
    with pytest.raises(ArenaError, match=r"another configuration: training\.seed: 0 → 1"):
        training.train(tiny(seed=1), finished, resume=True)
    with pytest.raises(ArenaError, match="is not a run's folder"):
        training.evaluate(tmp_path / "nothing")
    with pytest.raises(ArenaError, match=r"no model 'gpt'; did you mean 'gpt2'"):
        training.export(finished, "gpt", tmp_path / "x")
    before = (finished / "config.json").read_bytes()
    around = tmp_path / "nope" / ".." / ".." / finished.parent.name / finished.name
    with pytest.raises(ArenaError, match="is not empty; go on with `arena-jax resume"):
        training.train(tiny(seed=1), around)
    with pytest.raises(ArenaError, match="is what is read; give another folder"):
        training.export(finished, "gpt2", finished)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_bytes(before)
    with pytest.raises(ArenaError, match=r"'.*other' holds a run; give another folder"):
        training.export(finished, "gpt2", tmp_path / "other")
    with pytest.raises(ArenaError, match="holds a run"):
        models.save_pretrained(models.create("gpt2-tiny", "causal-lm"), finished)
    assert (finished / "config.json").read_bytes() == before
    assert not (tmp_path / "nope").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ArenaError, match="cannot make the run's folder"):
        training.train(tiny(), tmp_path / "file" / "run")


def test_a_failed_start_blocks_nothing(tmp_path):
    """Data that is not there, rows longer than the model: one line each; then the corrected run takes the folder."""
    nowhere = dataclasses.replace(tiny(), data=DataConfig(name=str(tmp_path / "nowhere.tsv"), max_length=16))
    with pytest.raises(ArenaError, match=r"nowhere\.tsv"):
        training.train(nowhere, tmp_path / "run")
    too_long = dataclasses.replace(tiny(), data=dataclasses.replace(tiny().data, max_length=1024))
    with pytest.raises(ArenaError, match=r"takes 128 tokens, but rows may have 1024: set max_length to at most 128"):
        training.train(too_long, tmp_path / "run")
    assert read(training.train(tiny(), tmp_path / "run"))[-1]["kind"] == "end"


@pytest.mark.slow
def test_a_run_begun_with_relative_paths_goes_on_elsewhere(finished, tmp_path, monkeypatch):
    """From another directory, and after its folder was moved: resumed, evaluated and exported."""
    for split, limit in (("train", 40), ("validation", 12)):
        rows = data.load("synthetic-sentiment", split=split, limit=limit)
        pairs = zip(rows.columns["text"], rows.columns["label"], strict=True)
        text = "".join(f"{text}\t{rows.label_names[label]}\n" for text, label in pairs)
        (tmp_path / "here" / "data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / "data" / f"{split}.tsv").write_text(f"text\tlabel\n{text}")
    config = dataclasses.replace(tiny(), data=DataConfig(name="data", max_length=16))
    monkeypatch.chdir(tmp_path / "here")
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        training.train(config, Path("run"))
    monkeypatch.undo()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "run").rename(tmp_path / "there" / "moved")
    monkeypatch.chdir(tmp_path / "there")
    run = training.train(load_run(Path("moved")), Path("moved"), resume=True)
    last = [record for record in read(run) if record["kind"] == "evaluation"][-1]
    assert training.evaluate(run)["bert"] == pytest.approx(last["models"]["bert"], rel=1e-6)
    training.export(run, "gpt2", Path("out"))
    for a, b in zip(jax.tree.leaves(state_of(finished)), jax.tree.leaves(state_of(run)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_names_a_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("sst2", "mine", "tokens"):
        (tmp_path / folder).mkdir()
    models = (
        ModelConfig("a", checkpoint="mine", tokenizer="tokens"),
        ModelConfig("b", checkpoint="owner/mine"),
        ModelConfig("c", preset="bert-tiny"),
    )
    config = with_absolute_paths(dataclasses.replace(tiny(), models=models, data=DataConfig(name="sst2")))
    assert config.data.name == "sst2", "a known data set's name is its name, whatever lies here"
    assert (config.models[0].checkpoint, config.models[0].tokenizer) == (f"{tmp_path}/mine", f"{tmp_path}/tokens")
    assert config.models[1:] == models[1:]
    assert (
        with_absolute_paths(dataclasses.replace(config, data=DataConfig(name="mine"))).data.name == f"{tmp_path}/mine"
    )
    texts = presets.get("arena-small")
    domains = (("mine", "mine"), ("tokens", "tokens/../mine"), ("known", "sst2"), ("hub", "owner/mine"))
    absolute = with_absolute_paths(dataclasses.replace(texts, arena=dataclasses.replace(texts.arena, domains=domains)))
    mine = f"{tmp_path}/mine"
    assert dict(absolute.arena.domains) == dict(domains) | {"mine": mine, "tokens": mine}


def test_a_folder_of_another_format_is_refused(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "format").write_text("99\n")
    with pytest.raises(ArenaError, match=r"is of format 99; this arena-jax reads format 2: .* --config .*config.json"):
        training.evaluate(run)
    (run / "format").unlink()
    with pytest.raises(ArenaError, match="has no format number, as an older arena-jax wrote it"):
        training.train(tiny(), run, resume=True)
