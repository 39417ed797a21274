"""Joint runs in which something goes wrong: divergence, no memory, a full disk, a damaged checkpoint, a kill."""

import contextlib
import dataclasses
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import training
from arena_jax.config.errors import ArenaError
from arena_jax.runs import checkpoint_files, signals
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import FILE, read
from tests.training.test_train import state_of, tiny, without_times

pytestmark = pytest.mark.usefixtures("compile_quickly")
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."


def alone():
    """One model: what happens to folders and signals does not ask how many there are."""
    config = tiny()
    return dataclasses.replace(config, models=config.models[:1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    """The run that nothing happens to."""
    return training.train(alone(), tmp_path_factory.mktemp("whole") / "run")


def equal(run, other):
    for a, b in zip(jax.tree.leaves(state_of(run)), jax.tree.leaves(state_of(other)), strict=True):
        np.testing.assert_array_equal(a, b)


def trouble(run, what):
    return [record for record in read(run) if record["kind"] == "trouble" and record["what"] == what]


def in_step(monkeypatch, number, act):
    """Do something before the step of this number is taken."""
    original, steps = training.Step.run, []

    def run(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == number:
            act()
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run)


def spoil(monkeypatch):
    """The loss of gpt2 is NaN from its fifth step on: one program for all tests."""
    original = training.Step.gradients

    def gradients(self, model, params, batch, key, step, variables=None):
        gradient, measured, after = original(self, model, params, batch, key, step, variables)
        if model == "gpt2":
            measured = measured | {"loss": jnp.where(step >= 4, jnp.nan, measured["loss"])}
        return gradient, measured, after

    monkeypatch.setattr(training.Step, "gradients", gradients)


@pytest.mark.slow
def test_a_diverged_model_goes_back_then_is_frozen_and_an_interruption_changes_nothing(tmp_path, monkeypatch):
    config = tiny(max_nonfinite_steps=2)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=12))
    spoil(monkeypatch)
    run = training.train(config, tmp_path / "run")
    told = trouble(run, "non-finite")
    assert [(one["action"], one["step"], one.get("source")) for one in told] == [
        ("restore", 7, 3),
        ("freeze", 9, None),
    ], "two bad steps, and one until that is known"
    assert told[0]["text"].startswith(
        "gpt2 sat out 2 steps in a row: its loss or gradient was not finite; it goes back"
    )
    assert "! gpt2 sat out 2 steps" in narrate(read(run))
    assert "gpt2 sat out 8 of 12 steps; it went back 1 time; frozen at step 9" in narrate(read(run))
    with monkeypatch.context() as patch:  # between two steps that are skipped, of which only the first has been seen
        in_step(patch, 8, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(signals.Stopped):
            training.train(config, tmp_path / "stopped")
    other = training.train(config, tmp_path / "stopped", resume=True)
    equal(run, other)
    kinds = [[r for r in without_times(folder) if r["kind"] != "checkpoint"] for folder in (run, other)]
    assert kinds[0] == kinds[1]


@pytest.mark.slow
def test_a_diverged_model_is_frozen_or_stops_the_run_as_configured(tmp_path, monkeypatch):
    spoil(monkeypatch)
    run = training.train(tiny(max_nonfinite_steps=2, on_nonfinite="freeze"), tmp_path / "freeze")
    assert [one["action"] for one in trouble(run, "non-finite")] == ["freeze"]
    with pytest.raises(ArenaError, match=r"gpt2: the loss or gradient was not finite .* --on-nonfinite freeze"):
        training.train(tiny(max_nonfinite_steps=2, on_nonfinite="stop"), tmp_path / "stop")
    assert Checkpoints(tmp_path / "stop" / "checkpoints").latest == 7, "and everything is saved"


def without_dropout(**training):
    config = tiny(**training)
    return dataclasses.replace(config, models=tuple(dataclasses.replace(one, dropout=0.0) for one in config.models))


@pytest.mark.slow
def test_out_of_memory_the_step_is_repeated_in_smaller_parts(tmp_path, monkeypatch):
    def run_out():
        raise jax.errors.JaxRuntimeError(FULL)

    whole = training.train(without_dropout(), tmp_path / "whole")
    in_step(monkeypatch, 5, run_out)
    run = training.train(without_dropout(), tmp_path / "run")
    (event,) = trouble(run, "out of memory")
    assert (event["step"], event["accumulation"]) == (4, {"bert": 4, "gpt2": 4})
    for a, b in zip(jax.tree.leaves(state_of(whole)), jax.tree.leaves(state_of(run)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    kept = checkpoint_files.read_content(run / "checkpoints" / "8")["position"]
    assert kept["position"]["accumulation"] == {"bert": 4, "gpt2": 4}


def test_out_of_memory_with_nothing_left_to_divide_names_the_models(tmp_path, monkeypatch):
    def run(self, *arguments, **extra):
        raise jax.errors.JaxRuntimeError(FULL)

    monkeypatch.setattr(training.Step, "run", run)
    with pytest.raises(ArenaError, match=r"step 1 ran out of memory, and the batches of bert, gpt2 cannot be divided"):
        training.train(tiny(), tmp_path / "run")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    newest = run / "checkpoints" / "8"
    largest = max((newest / "arrays").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    training.train(alone(), run, resume=True)
    (event,) = trouble(run, "damaged")
    assert event["step"] == 6
    assert "the checkpoint of step 8 cannot be used" in event["text"]
    assert (run / "checkpoints" / "8.damaged").is_dir()
    equal(run, finished)
    assert [r for r in without_times(run) if r["kind"] != "trouble"] == without_times(finished)


def test_a_run_that_was_killed_before_it_saved_anything_begins_again(finished, tmp_path, monkeypatch):
    def cut():
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        in_step(patch, 2, cut)
        with pytest.raises(RuntimeError, match="power cut"):
            training.train(alone(), tmp_path / "run")
    run = training.train(alone(), tmp_path / "run", resume=True)
    equal(run, finished)
    assert without_times(run) == without_times(finished)


def test_the_end_is_written_once(finished, tmp_path):
    """Killed between the last checkpoint and the last line; then resumed when nothing is left to do."""
    run = shutil.copytree(finished, tmp_path / "run")
    lines = (run / FILE).read_bytes().splitlines(keepends=True)
    (run / FILE).write_bytes(b"".join(lines[:-1]))
    training.train(alone(), run, resume=True)
    assert without_times(run) == without_times(finished)
    before = (run / FILE).read_bytes()
    training.train(alone(), run, resume=True)
    assert (run / FILE).read_bytes() == before


@pytest.mark.slow
def test_a_full_disk_stops_no_run_and_tears_no_line(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")

    whole = training.train(tiny(), tmp_path / "whole")  # two models: their lines fill a page of the disk

    def fill():
        with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    original, steps = training.Step.run, []

    def run_step(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == 2:
            fill()
        if len(steps) == 5:
            assert (disk / "run" / FILE).read_bytes().endswith(b"\n")
            (disk / "filler").unlink()
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run_step)
    try:
        run = training.train(tiny(), disk / "run")
        assert Checkpoints(run / "checkpoints").steps == [6, 8], "that of step 3 found no room"
        assert "No space left on device" in trouble(run, "records")[0]["text"]
        assert [r for r in without_times(run) if r["kind"] != "trouble"] == without_times(whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    in_step(monkeypatch, 5, twice)
    with pytest.raises(KeyboardInterrupt):
        training.train(alone(), tmp_path / "run")
    monkeypatch.undo()
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest in (None, 3), "step 5 was not finished, nor saved"
    assert read(training.train(alone(), tmp_path / "run", resume=True))[-1]["kind"] == "end"
