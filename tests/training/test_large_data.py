"""Whole runs on texts that are not held in memory: from the store, and from a stream."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from arena_jax import config, training
from arena_jax.arena import competition
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.data import corpus, parallel_tokens
from arena_jax.game.subject import load_subject
from arena_jax.runs import Stopped
from arena_jax.runs.records import read
from tests.training.test_train import SIZES, state_of, stop_at, without_times

pytestmark = pytest.mark.usefixtures("compile_quickly")
TEXTS = [f"text {number} of many, long enough to fill a row\n\n" for number in range(300)]


def run_on(name, **training_options):
    return dataclasses.replace(
        presets.get("joint-wikitext2"),
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("gpt2", preset="gpt2-tiny", **SIZES)),
        data=DataConfig(name=str(name), max_length=16, validation_limit=12),
        training=TrainingConfig(
            **{
                "steps": 6,
                "batch_size": 8,
                "evaluation_batch_size": 8,
                "log_every": 2,
                "checkpoint_every": 4,
                "tensorboard": False,
                "figures": False,
                "devices": 1,
                **training_options,
            }
        ),
    )


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parallel_tokens, "worker_count", lambda: 2)
    (path := tmp_path / "corpus.txt").write_text("".join(TEXTS))
    return path


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    for shard in range(2):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[150 * shard :][:150])
        (folder / f"train-{shard}.jsonl").write_text(lines)
    return f"file://{folder}/train-*.jsonl"


@pytest.fixture(scope="module")
def streamed(stream, tmp_path_factory, compile_quickly):
    return training.train(run_on(stream), tmp_path_factory.mktemp("streamed") / "run")


def notes_of(run):
    return "\n".join(record["text"] for record in read(run) if record["kind"] == "note")


def same(run, whole):
    for one, other in zip(jax.tree.leaves(state_of(run)), jax.tree.leaves(state_of(whole)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_run_from_the_store_is_that_from_memory(text, tmp_path, monkeypatch):
    memory = training.train(run_on(text), tmp_path / "memory")
    monkeypatch.setattr(corpus, "LARGE", 1000)
    stored = training.train(run_on(text), tmp_path / "stored")
    same(stored, memory)
    kinds = ("train", "evaluation")
    ours, theirs = ([one for one in without_times(run) if one["kind"] in kinds] for run in (stored, memory))
    assert ours == theirs
    notes = notes_of(stored)
    assert "tokenised by 2 processes" in notes


@pytest.mark.slow
def test_a_streamed_run_goes_on_to_the_bit(stream, streamed, tmp_path, monkeypatch):
    stop_at(monkeypatch, 3)
    with pytest.raises(Stopped, match="stopped after step"):
        training.train(run_on(stream), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(run_on(stream), tmp_path / "run", resume=True)
    same(run, streamed)
    ours, theirs = ([r for r in without_times(one) if r["kind"] != "checkpoint"] for one in (run, streamed))
    assert ours == theirs
    notes = notes_of(streamed)
    assert "the first 12 documents of the stream are held out" in notes
    assert "a tokenizer is trained on the first 288 documents" in notes


def test_a_streamed_run_is_scored_on_what_was_held_out(streamed):
    scores = training.evaluate(streamed)
    last = [record for record in read(streamed) if record["kind"] == "evaluation"][-1]
    assert scores["gpt2"]["loss"] == pytest.approx(last["models"]["gpt2"]["loss"], abs=1e-6)
    with pytest.raises(ArenaError, match="a file or data set is needed"):
        training.evaluate(streamed, split="test")
    with pytest.raises(ArenaError, match="learnt from a stream"):
        load_subject(streamed)


def test_what_a_stream_cannot_do_is_refused(stream, tmp_path):
    whole = run_on(stream)
    for run, reason in (
        (dataclasses.replace(whole, training=dataclasses.replace(whole.training, steps=None, epochs=1)), "--steps"),
        (dataclasses.replace(whole, data=dataclasses.replace(whole.data, train_limit=5)), "--train-limit"),
        (dataclasses.replace(presets.get("joint-sst2"), data=whole.data, training=whole.training), "language model"),
    ):
        with pytest.raises(ArenaError, match=reason):
            training.train(run, tmp_path / "run")
    arena = presets.get("arena-wikitext2")
    with pytest.raises(ArenaError, match="a competition counts epochs"):
        competition.train(dataclasses.replace(arena, data=whole.data), tmp_path / "arena")
    assert config.from_dict(config.to_dict(whole)) == whole
