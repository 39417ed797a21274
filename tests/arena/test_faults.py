"""A competition in which something goes wrong: a model runs out of memory, or diverges."""

import jax
import numpy as np
import pytest

from arena_jax import data
from arena_jax.config.errors import ArenaError
from arena_jax.runs.records import read
from arena_jax.training.build import build
from tests.arena.tiny import FULL, assert_same_arrays, final_state, tiny, train, without_times, wrapped


def to_first(history):
    return [0.9, 0.1]


def trouble(run, what):
    return [record for record in read(run) if record["kind"] == "trouble" and record["what"] == what]


@pytest.mark.slow
def test_a_model_that_runs_out_of_memory_steps_down_and_loses_no_row(tmp_path):
    config, batches = tiny(), []

    def run_out_above_2(name, run, params, batch, key, step):
        if name == "bert" and batch["input_ids"].shape[1] > 2:
            raise jax.errors.JaxRuntimeError(FULL)
        if name == "bert":
            batches.append(np.asarray(batch["input_ids"])[0])
        return run(params, batch, key, step)

    run = train(config, tmp_path / "run", policy=to_first, compile_program=wrapped(config, run_out_above_2))
    events = trouble(run, "out of memory")
    assert [(event["model"], event["before"], event["batch_size"]) for event in events] == [
        ("bert", 8, 4),
        ("bert", 4, 2),
    ]
    assert events[-1]["margin"] > 0.2, "a tenth more of the need, each time"
    models = [record["models"]["bert"] for record in read(run) if record["kind"] == "allocation"]
    assert all(model["batch_size"] == 2 for model in models[1:]), "a larger size is not tried again"
    assert read(run)[-1]["kind"] == "end"
    # Every row once an epoch, in the order of a stream that nothing happened to.
    rows = build(config, run / "tokenizers").train["bert"]
    stream = data.Batches(rows, seed=config.training.seed, padding=None)
    for batch in batches:
        np.testing.assert_array_equal(batch, stream.next(2)["input_ids"])


@pytest.mark.slow
def test_out_of_memory_at_the_smallest_size_names_the_model(tmp_path):
    config = tiny()

    def run_out(name, run, *arguments):
        if name == "gpt2":
            raise jax.errors.JaxRuntimeError(FULL)
        return run(*arguments)

    with pytest.raises(ArenaError, match=r"gpt2: its smallest batch \(2\) ran out of memory in round 1"):
        train(config, tmp_path / "run", policy=to_first, compile_program=wrapped(config, run_out))


@pytest.mark.slow
def test_another_error_of_the_device_is_raised_as_it_is(tmp_path):
    config = tiny()

    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        train(config, tmp_path / "run", policy=to_first, compile_program=wrapped(config, fail))


def test_a_diverged_model_goes_back_and_is_frozen_if_that_does_not_help(tmp_path):
    config = tiny(steps=8, max_nonfinite_steps=3, checkpoint_every=2)
    now = []

    def observe(moment, rounds, setup, state):
        if moment == "round":
            now[:] = [rounds]

    def spoil(name, run, *arguments):
        """NaN in a model's gradient, in some rounds."""
        gradient, metrics = run(*arguments)
        if name == "gpt2" and now[0] in range(3, 8):
            gradient = jax.tree.map(lambda g: g * np.float32(np.nan), gradient)
        return gradient, metrics

    spoiled = {"compile_program": wrapped(config, spoil)}
    run = train(config, tmp_path / "run", observe=observe, **spoiled)
    events = trouble(run, "non-finite")
    assert [(event["model"], event["action"]) for event in events] == [("gpt2", "restore"), ("gpt2", "freeze")]
    assert events[0]["source"] == 2
    last = [record["models"] for record in read(run) if record["kind"] == "train"][-1]
    frozen = events[1]["step"]
    assert frozen < 8
    evaluations = [record for record in read(run) if record["kind"] == "evaluation"]
    steps = {record["step"]: record["accounts"]["gpt2"]["steps"] for record in evaluations}
    assert len({count for step, count in steps.items() if step >= frozen}) == 1, "it took no more steps"
    assert steps[8] < last["bert"]["steps"]
    assert last["bert"]["skipped"] == 0

    # Interrupted in the middle of it, to the bit.
    def interrupt(moment, rounds, setup, state):
        observe(moment, rounds, setup, state)
        if (moment, rounds) == ("round", 4):
            raise KeyboardInterrupt

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(config, stopped, observe=interrupt, **spoiled)
    train(config, stopped, resume=True, observe=observe, **spoiled)
    assert_same_arrays(final_state(run), final_state(stopped))
    assert without_times(stopped) == without_times(run)
