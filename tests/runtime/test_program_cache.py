"""Programs kept on disk: a second run takes them from there, and says so."""

import dataclasses

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from arena_jax import training
from arena_jax.cli.main import main
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime.program import use_compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def as_before():
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def test_a_second_run_takes_its_programs_from_the_cache(tmp_path):
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
    config = dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("gpt2", preset="gpt2-tiny", **sizes),),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=8, validation_limit=4),
        training=TrainingConfig(
            steps=2, batch_size=4, evaluation_batch_size=4, tensorboard=False, figures=False, devices=1
        ),
    )
    use_compilation_cache(tmp_path / "programs")
    runs = [training.train(config, tmp_path / name) for name in ("first", "second")]
    first, second = ([r for r in read(run) if r["kind"] == "compile"] for run in runs)
    assert [r["program"] for r in first] == [r["program"] for r in second]
    assert not any(r["cached"] for r in first)
    assert all(r["cached"] for r in second)
    assert sum(r["seconds"] for r in second) < sum(r["seconds"] for r in first)
    assert [r["bytes"] for r in second] == [r["bytes"] for r in first], "its memory is known all the same"
    assert "took from the cache: step" in narrate(read(runs[1]))
    losses = [[r["models"] for r in read(run) if r["kind"] == "evaluation"] for run in runs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("command", [["train", "joint-synthetic"], ["resume", "RUN"]])
def test_the_command_line_hands_the_folder_over(command, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("arena_jax.training.train", lambda run, folder, resume: calls.append("train"))
    monkeypatch.setattr("arena_jax.runs.load_run", lambda folder: presets.get("joint-synthetic"))
    monkeypatch.setattr("arena_jax.reports.draw", lambda folder: [])
    folder = tmp_path / "programs"
    assert main([*command, "--compilation-cache", str(folder)]) == 0
    assert calls == ["train"]
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.is_dir()


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["train", "joint-synthetic", "--compilation-cache", str(tmp_path / "file" / "below")]) == 2
    assert "cannot keep compiled programs in" in capsys.readouterr().err
