"""A competition in which something goes wrong: a model runs out of memory, or diverges, or the disk is full."""

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import competition
from arena_jax.config.errors import ArenaError
from arena_jax.runs import load_run
from arena_jax.runs.records import read
from arena_jax.runtime import executables
from tests.arena.test_competition import tiny, to_first, without_times

pytestmark = pytest.mark.usefixtures("compile_once")
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."


def run_out(monkeypatch, when):
    """Raise XLA's error where ``when(model, size, call)`` says so, before the program runs."""
    original, calls = executables.Executables.__call__, []

    def call(self, name, size, *arguments):
        calls.append((name, size))
        if when(name, size, len(calls)):
            raise jax.errors.JaxRuntimeError(FULL)
        return original(self, name, size, *arguments)

    monkeypatch.setattr(executables.Executables, "__call__", call)
    return calls


def trouble(run, what):
    return [record for record in read(run) if record["kind"] == "trouble" and record["what"] == what]


def test_a_model_that_runs_out_of_memory_steps_down_and_loses_no_row(tmp_path, monkeypatch):
    drawn = {"bert": [], "gpt2": []}
    original = competition._Competition.gradient

    def gradient(self, name, at, *, wait):
        result = original(self, name, at, wait=wait)
        drawn[name].append(result[1]["input_ids"])
        return result

    monkeypatch.setattr(competition._Competition, "gradient", gradient)
    run_out(monkeypatch, lambda name, size, call: name == "bert" and size > 2)
    run = competition.train(tiny(), tmp_path / "run", policy=to_first)
    events = trouble(run, "out of memory")
    assert [(one["model"], one["before"], one["batch_size"]) for one in events] == [("bert", 8, 4), ("bert", 4, 2)]
    assert events[-1]["margin"] > 0.2, "a tenth more of the need, each time"
    held = [record["models"]["bert"] for record in read(run) if record["kind"] == "allocation"]
    assert all(one["batch_size"] == 2 for one in held[1:]), "a larger size is not tried again"
    assert read(run)[-1]["kind"] == "end"
    # Every row once an epoch, in the order of a stream that nothing happened to.
    rows = np.concatenate(drawn["bert"])
    whole = competition._Competition(tiny(), tiny().arena, run, to_first)
    np.testing.assert_array_equal(rows, np.concatenate([whole.streams["bert"].next(2)["input_ids"] for _ in rows[::2]]))


def test_out_of_memory_at_the_smallest_size_names_the_model(tmp_path, monkeypatch):
    run_out(monkeypatch, lambda name, size, call: name == "gpt2")
    with pytest.raises(ArenaError, match=r"gpt2: its smallest batch \(2\) ran out of memory in round 1"):
        competition.train(tiny(), tmp_path / "run", policy=to_first)


def test_another_error_of_the_device_is_raised_as_it_is(tmp_path, monkeypatch):
    def call(self, *arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(executables.Executables, "__call__", call)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        competition.train(tiny(), tmp_path / "run", policy=to_first)


def spoil(monkeypatch, name, rounds):
    """Give a model's gradient NaN in some rounds."""
    original = competition._Competition.gradient

    def gradient(self, model, at, *, wait):
        result = original(self, model, at, wait=wait)
        if model == name and at in rounds:
            self.gradients[model] = jax.tree.map(lambda g: g * np.float32(np.nan), self.gradients[model])
        return result

    monkeypatch.setattr(competition._Competition, "gradient", gradient)


def test_a_diverged_model_goes_back_and_is_frozen_if_that_does_not_help(tmp_path, monkeypatch):
    config = tiny(steps=8, max_nonfinite_steps=3, checkpoint_every=2)
    spoil(monkeypatch, "gpt2", range(3, 8))
    run = competition.train(config, tmp_path / "run")
    told = trouble(run, "non-finite")
    assert [(one["model"], one["action"]) for one in told] == [("gpt2", "restore"), ("gpt2", "freeze")]
    assert told[0]["source"] == 2
    spent = [record["models"] for record in read(run) if record["kind"] == "train"]
    frozen = told[1]["step"]
    assert frozen < 8
    steps = {one["step"]: one["accounts"]["gpt2"]["steps"] for one in read(run) if one["kind"] == "evaluation"}
    assert len({count for step, count in steps.items() if step >= frozen}) == 1, "it took no more steps"
    assert steps[8] < spent[-1]["bert"]["steps"]
    assert spent[-1]["bert"]["skipped"] == 0

    # Interrupted in the middle of it, to the bit.
    stopped = tmp_path / "stopped"
    original = competition._Competition.play

    def play(self, at):
        if at == 4:
            raise KeyboardInterrupt
        original(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(competition._Competition, "play", play)
        with pytest.raises(KeyboardInterrupt):
            competition.train(config, stopped)
    competition.train(config, stopped, resume=True)
    states = [training.restore(path, load_run(path))[2] for path in (run, stopped)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert without_times(stopped) == without_times(run)
