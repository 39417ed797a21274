"""A session keeps a run for any loop: here one that adds numbers, and knows nothing of models or training."""

import dataclasses
import signal

import jax.numpy as jnp
import pytest

from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Session, Stopped, load_run
from arena_jax.runs.records import read

STEPS = 6


def configuration():
    run = presets.get("joint-synthetic")
    return dataclasses.replace(
        run, training=dataclasses.replace(run.training, tensorboard=False, max_nonfinite_steps=2)
    )


def add(folder, *, resume=False, interrupt=None, fail=None, nonfinite=()):
    """1 + 2 + … in a loop that is kept by a session; returns the folder and the sum."""
    with Session(configuration(), folder, resume=resume) as session:
        state, position = session.begin({"model": {"a": jnp.zeros(2)}}, ("a", "b"))
        if session.ended:
            return session.folder, None
        session.record_start(steps=STEPS, models={}, derived=[("length", "6", "given")], notes=["a note"])
        number, taken = position.get("number", 1), session.first_step
        while taken < STEPS and not session.stop_requested(taken):
            state = session.handle_divergence(taken, state)
            if taken == interrupt:
                signal.raise_signal(signal.SIGINT)
            if taken == fail:
                raise RuntimeError("power cut")
            state["model"]["a"] += number
            number, taken = number + 1, taken + 1
            session.divergence.count([{"a": taken in nonfinite, "b": False}])
            session.advance(taken)
            session.record("train", taken, models={"a": {"sum": float(state["model"]["a"][0])}})
            if taken % 2 == 0:
                session.record_evaluation(taken, {"a": {"loss": 1 / taken}}, epoch=0.0)
                session.save(taken, state, {"number": number}, over=taken == STEPS)
        if session.saved != taken:
            session.save(taken, state, {"number": number}, regular=False)
        session.finish(taken, STEPS, over=taken == STEPS)
        session.record_end(taken)
    return session.folder, float(state["model"]["a"][0])


def lines(folder):
    clocks = ("time", "seconds", "compiling", "run", "path")
    return [{k: v for k, v in record.items() if k not in clocks} for record in read(folder)]


def test_a_loop_that_is_interrupted_killed_and_resumed_writes_the_same_lines(tmp_path, capsys):
    whole, total = add(tmp_path / "whole")
    assert total == 21
    kinds = [record["kind"] for record in lines(whole)]
    assert kinds[:2] == ["start", "note"]
    assert kinds[-1] == "end"
    assert load_run(whole) == configuration()

    with pytest.raises(Stopped, match=r"stopped after step 4 of 6; go on with: arena-jax resume .*run"):
        add(tmp_path / "run", interrupt=3)
    with pytest.raises(RuntimeError, match="power cut"):
        add(tmp_path / "run", resume=True, fail=5)
    run, total = add(tmp_path / "run", resume=True)
    assert total == 21
    assert lines(run) == lines(whole)
    before = (run / "records.jsonl").read_bytes()
    assert add(run, resume=True) == (run, None)
    assert (run / "records.jsonl").read_bytes() == before
    assert "nothing is left to do" in capsys.readouterr().out


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        add(tmp_path / "run", fail=1)
    run, total = add(tmp_path / "run", resume=True)
    assert total == 21
    assert [record["kind"] for record in read(run)].count("start") == 1


def test_two_sessions_in_one_folder(tmp_path):
    with (
        Session(configuration(), tmp_path / "run"),
        pytest.raises(ArenaError, match="is in use by"),
        Session(configuration(), tmp_path / "run", resume=True),
    ):
        pass


def test_a_diverged_model_goes_back_and_the_record_says_so(tmp_path):
    """Steps 3 and 4 are skipped; the checkpoint of step 2 is the last before them, that of step 4 is none."""
    run, total = add(tmp_path / "run", nonfinite=(3, 4))
    (event,) = (record for record in read(run) if record["kind"] == "trouble")
    assert (event["what"], event["step"], event["action"], event["source"]) == ("non-finite", 4, "restore", 2)
    assert total == 1 + 2 + 5 + 6
