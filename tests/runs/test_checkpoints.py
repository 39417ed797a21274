"""Checkpoints: what is read is what was written, or is named as damaged; then the newest whole one is used."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.runs import checkpoint_files
from arena_jax.runs.checkpoints import Checkpoints

POSITION = {"streams": {"bert": {"epoch": 1, "position": 7}}, "history": [0.1, float("nan"), float("inf")]}


def state(step=0):
    key = jax.random.key(step)
    return {
        "step": jnp.asarray(step, jnp.int32),
        "params": {"bert": jax.random.normal(key, (40, 50)), "half": jnp.ones(3, jnp.bfloat16) * step},
    }


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of steps 1 and 2, to be copied before they are damaged."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(folder, writing=True) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {**POSITION, "step": step})
    return folder


@pytest.fixture
def damaged(two, tmp_path):
    return Path(shutil.copytree(two, tmp_path / "checkpoints"))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_everything_comes_back(two):
    checkpoints = Checkpoints(two)
    loaded, position = checkpoints.load(state())
    assert same(loaded, state(2))
    assert json.dumps(position) == json.dumps({**POSITION, "step": 2})
    assert checkpoints.load(state(), 1)[1]["step"] == 1
    assert not checkpoints.damaged


def test_what_differs_is_named(two):
    checkpoints = Checkpoints(two)
    with pytest.raises(ArenaError, match=r"no checkpoint of step 7 .* there: 1, 2"):
        checkpoints.load(state(), 7)
    with pytest.raises(ArenaError, match=r"no checkpoint in .*; there: none"):
        Checkpoints(two / "nowhere").load(state())
    assert not (two / "nowhere").exists(), "who reads makes nothing"
    other = state() | {"params": {"bert": jnp.ones(4), "half": jnp.ones(3)}, "more": jnp.ones(1)}
    with pytest.raises(ArenaError, match=r"'more' is missing; .* shape \(40, 50\), not \(4,\); .* bfloat16, not"):
        checkpoints.load(other)


def test_any_flipped_bit_is_found(two, tmp_path):
    """100 bits in all files; one in the white space or the case of contents.json may change nothing."""
    choose, found = random.Random(0), 0
    for _ in range(100):
        copy = Path(shutil.copytree(two / "2", tmp_path / "2", dirs_exist_ok=True))
        path = choose.choice([path for path in files(copy) if path.stat().st_size])
        content = bytearray(path.read_bytes())
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
        path.write_bytes(content)
        try:
            loaded, position = Checkpoints(tmp_path).load(state())
        except ArenaError:
            found += 1
        else:
            assert same(loaded, state(2))
            assert json.dumps(position) == json.dumps({**POSITION, "step": 2})
    assert found > 97


def test_a_truncated_or_missing_file_is_found(two, tmp_path):
    for number in range(len(files(two / "2"))):
        for cut in (None, 0, 0.5):
            shutil.rmtree(tmp_path / "2", ignore_errors=True)
            copy = Path(shutil.copytree(two / "2", tmp_path / "2"))
            path = files(copy)[number]
            if cut is None:
                path.unlink()
            elif path.stat().st_size:
                os.truncate(path, int(cut * path.stat().st_size))
            else:
                continue
            with pytest.raises(ArenaError, match=r"no checkpoint can be used; '.*2': (the file|its description)"):
                Checkpoints(tmp_path).load(state())


def test_the_newest_whole_one_is_used_and_the_damaged_put_aside(damaged):
    array = max(files(damaged / "2" / "arrays"), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes(content)
    checkpoints = Checkpoints(damaged, writing=True)
    loaded, position = checkpoints.load(state())
    assert same(loaded, state(1))
    assert position["step"] == 1
    (found,) = checkpoints.damaged
    assert found.step == 2
    assert found.reason.endswith("is not what was written: its size or checksum differs")
    (moved,) = checkpoints.set_aside()
    assert moved.path == damaged / "2.damaged"
    assert moved.path.is_dir()
    checkpoints.save(2, state(2), {})
    checkpoints.wait()
    assert checkpoints.trouble() is None
    assert same(checkpoints.load(state())[0], state(2))
    shutil.rmtree(damaged / "1")
    (damaged / "2" / "contents.json").unlink()
    with pytest.raises(ArenaError, match=r"no checkpoint can be used; '.*2': its description cannot be read"):
        Checkpoints(damaged).load(state())


def test_another_format_is_not_read(damaged, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(checkpoint_files, "FORMAT", 3)
        checkpoints = Checkpoints(damaged, writing=True)
        checkpoints.save(3, state(3), {})
        checkpoints.wait()
    assert "format 3, this arena-jax reads format 2" not in (checkpoints.trouble() or "")
    checkpoints = Checkpoints(damaged, writing=True)
    assert checkpoints.load(state())[1]["step"] == 2
    assert checkpoints.damaged[0].reason == "it has format 3, this arena-jax reads format 2"
    assert checkpoints.set_aside()[0].path.name == "3.other-format"


def test_the_last_and_the_best_stay(tmp_path):
    scores = {1: 3.0, 2: 1.0, 3: 2.0, 4: float("nan"), 5: None, 6: 1.5}
    with Checkpoints(tmp_path, keep=2, writing=True) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, state(step), {}, score=score)
        checkpoints.wait()
        assert checkpoints.steps == [2, 5, 6]
    again = Checkpoints(tmp_path)  # the scores are read from the disk
    assert again.best == 2
    assert again.find("best") == 2
    assert again.find("newest") is None
    with pytest.raises(ArenaError, match="there is no checkpoint 'last': say newest, best or a step"):
        again.find("last")


def test_old_ones_stay_until_a_newer_one_is_whole(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1, writing=True)
    checkpoints.save(1, state(1), {})
    checkpoints.wait()

    def fail(path, arrays, content):
        path.mkdir()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(checkpoint_files, "write", fail)
        checkpoints.save(2, state(2), {})
        checkpoints.wait()
    assert checkpoints.trouble() == "No space left on device"
    assert checkpoints.trouble() is None, "said once"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert same(checkpoints.load(state())[0], state(1))


def test_what_a_killed_run_left_is_taken_away_by_the_next_that_writes(tmp_path):
    for name in (".3.partial", ".1.removed"):
        (tmp_path / name).mkdir()
    Checkpoints(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "somebody who only reads beside a run that writes"
    Checkpoints(tmp_path, writing=True)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        checkpoints = Checkpoints(disk / "checkpoints", keep=1, writing=True)
        small = {"a": jax.random.normal(jax.random.key(0), (1000,))}
        checkpoints.save(1, small, {})
        large = {"a": jax.random.normal(jax.random.key(0), (1_000_000,))}
        checkpoints.save(2, large, {})
        checkpoints.wait()
        assert checkpoints.trouble() == "No space left on device"
        assert checkpoints.steps == [1]
        assert same(checkpoints.load(small)[0], small)
        assert shutil.disk_usage(disk).free > 1_500_000, "what was half written is gone"
        checkpoints.save(3, small, {})
        checkpoints.wait()
        assert checkpoints.trouble() is None
        assert checkpoints.steps == [3]
    finally:
        subprocess.run(["umount", disk], check=True)
