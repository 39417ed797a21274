"""Traces of a run's steps, which carry their numbers into the trace."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from arena_jax import training
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.profile import Profile


@pytest.mark.parametrize(("ends", "traced"), [("2:5", [2, 3, 4]), ("4:9", [4, 5]), ("0:1", [0])])
def test_the_steps_between_the_ends_are_traced_and_no_others(tmp_path, ends, traced):
    double = jax.jit(lambda x: 2 * x)
    written = []
    with Profile(ends, tmp_path) as profile:
        for step in range(6):  # a run that may end before the trace does
            if profile.reach(step):
                written.append(step)
            with jax.profiler.TraceAnnotation(f"step number {step}"):
                double(jnp.ones(3))
    [trace] = tmp_path.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert list(trace.parent.glob("*.xplane.pb")), "what XProf reads"
    names = {event.get("name", "") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert sorted(name for name in names if name.startswith("step number")) == [f"step number {n}" for n in traced]
    assert written == [traced[-1] + 1] if traced[-1] < 5 else written == []


def test_a_run_says_where_its_trace_is(tmp_path, capsys):
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
    config = dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("gpt2", preset="gpt2-tiny", **sizes),),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=8, validation_limit=4),
        training=TrainingConfig(
            steps=3, batch_size=4, evaluation_batch_size=4, tensorboard=False, figures=False, devices=1, profile="1:2"
        ),
    )
    run = training.train(config, tmp_path / "run")
    assert f"a trace of steps 1:2 is in {run / 'profile'}" in " ".join(capsys.readouterr().out.split())
    assert list((run / "profile").glob("plugins/profile/*/perfetto_trace.json.gz"))


@pytest.mark.parametrize("steps", ["20:10", "5:5", "10", "a:b", "-1:4"])
def test_steps_that_are_none(steps):
    with pytest.raises(ArenaError, match=r"training.profile is .* give FROM:TO in steps"):
        TrainingConfig(steps=3, profile=steps)
