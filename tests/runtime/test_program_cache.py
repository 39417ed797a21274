"""Programs kept on disk: a second run takes them from there, and says so; the folder is private and bounded."""

import dataclasses
import os
import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from arena_jax import training
from arena_jax.cli.main import main
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime import program_cache
from arena_jax.runtime.program import compile_program
from arena_jax.runtime.program_cache import use_compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of somebody who has set nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    return tmp_path


@pytest.fixture
def nothing_trains(monkeypatch):
    calls = []
    monkeypatch.setattr("arena_jax.training.train", lambda run, folder, resume: calls.append("train"))
    monkeypatch.setattr("arena_jax.runs.load_run", lambda folder: presets.get("joint-synthetic"))
    monkeypatch.setattr("arena_jax.reports.draw", lambda folder: [])
    return calls


def compiled(number):
    """A program large enough to be kept, of its own for each number."""
    return compile_program(
        jax.jit(lambda x: jnp.sort(jnp.sort(x) * number + jnp.sin(x))), jax.ShapeDtypeStruct((1000,), jnp.float32)
    )


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
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
    other = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-3),
        training=dataclasses.replace(config.training, seed=7, steps=3),
    )
    third = training.train(other, tmp_path / "third")
    assert all(r["cached"] for r in read(third) if r["kind"] == "compile"), "seed, rate and length are arguments"
    assert [r["models"] for r in read(third) if r["kind"] == "evaluation"] != losses[0]


@pytest.mark.parametrize("command", [["train", "joint-synthetic"], ["resume", "RUN"]])
def test_the_command_line_hands_the_folder_over(command, tmp_path, nothing_trains):
    folder = tmp_path / "programs"
    assert main([*command, "--compilation-cache", str(folder)]) == 0
    assert nothing_trains == ["train"]
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.is_dir()


def test_programs_are_kept_in_the_users_cache_by_default(home, nothing_trains):
    assert main(["train", "joint-synthetic"]) == 0
    folder = home / ".cache" / "arena_jax"
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_compilation_cache_max_size == program_cache.SIZE
    assert mode(folder) == 0o700
    assert not compiled(11).cached
    jax.clear_caches()
    assert compiled(11).cached


def test_xdg_cache_home_moves_it(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "caches"))
    assert program_cache.default_folder() == home / "caches" / "arena_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert program_cache.default_folder() == home / ".cache" / "arena_jax"


def test_a_cache_of_the_users_own_goes_before(home, nothing_trains, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))  # as JAX_COMPILATION_CACHE_DIR does
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    assert main(["train", "joint-synthetic"]) == 0
    assert {name: getattr(jax.config, name) for name in OPTIONS} == before
    assert not (home / ".cache").exists()


def test_nothing_is_kept_where_nothing_shall_be(home, nothing_trains):
    assert main(["train", "joint-synthetic", "--no-compilation-cache"]) == 0
    assert not compiled(2).cached
    jax.clear_caches()
    assert not compiled(2).cached
    assert not (home / ".cache").exists()


def test_a_home_that_cannot_be_written_is_no_reason_not_to_start(home, nothing_trains, capsys):
    (home / ".cache").touch()
    assert main(["train", "joint-synthetic"]) == 0
    assert nothing_trains == ["train"]
    assert "note: cannot keep compiled programs in" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["train", "joint-synthetic", "--compilation-cache", str(tmp_path / "file" / "below")]) == 2
    assert "cannot keep compiled programs in" in capsys.readouterr().err


def test_nobody_else_may_put_programs_there(home, tmp_path, monkeypatch):
    ours = home / ".cache" / "arena_jax"
    ours.mkdir(parents=True, mode=0o755)
    use_compilation_cache()
    assert mode(ours) == 0o700
    named = tmp_path / "named"
    named.mkdir()
    named.chmod(0o777)
    with pytest.raises(ArenaError, match="everybody can write to it"):
        use_compilation_cache(named)
    named.chmod(0o755)
    use_compilation_cache(named)
    assert mode(named) == 0o755, "a folder that was there stays as it was"
    monkeypatch.setattr(os, "getuid", lambda: named.stat().st_uid + 1)
    with pytest.raises(ArenaError, match="belongs to somebody else"):
        use_compilation_cache(named)


def test_half_a_program_is_removed_and_written_again(tmp_path):
    use_compilation_cache(tmp_path)
    assert not compiled(3).cached
    [whole] = tmp_path.glob("*-cache")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])  # a kill between the program and its time
    whole.with_name(whole.name.removesuffix("-cache") + "-atime").unlink()
    use_compilation_cache(tmp_path)
    jax.clear_caches()
    assert not compiled(3).cached
    jax.clear_caches()
    assert compiled(3).cached


def test_the_folder_stays_within_its_size(tmp_path, monkeypatch):
    use_compilation_cache(tmp_path / "measured")
    compiled(4)
    size = sum(program.stat().st_size for program in (tmp_path / "measured").glob("*-cache"))
    jax.config.update("jax_compilation_cache_max_size", -1)
    monkeypatch.setattr(program_cache, "SIZE", 2 * size + size // 2)
    use_compilation_cache(tmp_path / "bounded")
    for number in range(5, 10):
        compiled(number)
    kept = list((tmp_path / "bounded").glob("*-cache"))
    assert len(kept) == 2
    jax.clear_caches()
    assert compiled(9).cached, "what was used last stays"


def test_for_a_while_nothing_is_taken_from_a_cache():
    before = jax.config.values["jax_enable_compilation_cache"]
    with program_cache.without_compilation_cache():
        assert jax.config.values["jax_enable_compilation_cache"] is False
    assert jax.config.values["jax_enable_compilation_cache"] is before
