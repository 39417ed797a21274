"""Saving over a folder that holds a model: killed at any moment, it is the old one or the new one, never a mix."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from arena_jax import models
from arena_jax.models.huggingface import save as saving

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 40}
# The process ends itself, as by kill -9, at the n-th of the calls that change a folder.
KILLED = """
import os, sys, shutil
from arena_jax import models
from arena_jax.models.huggingface import save as saving
folder, number = sys.argv[1], int(sys.argv[2])
calls = 0
def dying(original):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), 9)
        return original(*arguments, **options)
    return call
saving._write_safetensors = dying(saving._write_safetensors)
saving._link = dying(saving._link)
saving._exchange = dying(saving._exchange)
shutil.rmtree = dying(shutil.rmtree)
shutil.copymode = dying(shutil.copymode)
models.save_pretrained(models.create(models.preset("gpt2-tiny", **%r), task="causal-lm", seed=2), folder)
"""


def make(seed):
    return models.create(models.preset("gpt2-tiny", **SIZES), task="causal-lm", seed=seed)


def same(a, b):
    pairs = zip(*(jax.tree.leaves(models.split(one)[1]) for one in (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture
def folder(tmp_path):
    models.save_pretrained(make(1), tmp_path / "model", max_shard_size=4000)
    (tmp_path / "model" / "README.md").write_text("mine")
    (tmp_path / "model" / "notes").mkdir()
    (tmp_path / "model" / "notes" / "a").write_text("mine too")
    return tmp_path / "model"


@pytest.mark.parametrize("exchange", [True, False])
def test_what_is_not_ours_stays_and_nothing_is_left_beside(folder, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(saving, "_exchange", lambda one, other: False)
    models.save_pretrained(make(2), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors", "notes"]
    assert (folder / "notes" / "a").read_text() == "mine too"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert same(models.from_pretrained(folder), make(2))


def test_a_link_to_a_folder_is_written_through(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    models.save_pretrained(make(2), link)
    assert link.is_symlink()
    assert same(models.from_pretrained(folder), make(2))


@pytest.mark.parametrize("number", [1, 3, 5, 6])  # while writing, linking; before the swap, and after it
def test_killed_half_way_it_is_the_old_model_or_the_new_one(folder, number):
    code = subprocess.run(
        [sys.executable, "-c", KILLED % SIZES, str(folder), str(number)], env={**os.environ, "JAX_PLATFORMS": "cpu"}
    ).returncode
    assert code == -9
    loaded = models.from_pretrained(folder)
    assert same(loaded, make(2 if number == 6 else 1))
    assert (folder / "README.md").read_text() == "mine"
