"""What made a run's numbers is written down, and the same run on the same machine has the same bits."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import pytest

from arena_jax import config, training
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.environment import commit, environment
from arena_jax.runs.folder import refuse_links
from arena_jax.runs.records import read

RUN = """
import sys, hashlib, jax, numpy as np
from pathlib import Path
from arena_jax import config, runs, training
run = training.train(config.load(sys.argv[1]), Path(sys.argv[2]))
state = training.restore(run, runs.load_run(run))[2]
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest())
"""
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}


def tiny():
    base = presets.get("joint-synthetic")
    values = config.to_dict(base) | {
        "models": [config.to_dict(base)["models"][0] | SIZES | {"preset": "bert-tiny", "name": "bert"}],
        "data": {"name": "synthetic-sentiment", "max_length": 16, "train_limit": 40, "validation_limit": 12},
        "training": {"steps": 6, "batch_size": 8, "log_every": 1, "tensorboard": False, "figures": False, "devices": 1},
    }
    return config.from_dict(values)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_another_process(tmp_path):
    """Weights, dropout, order of the data, optimizer: 6 steps of BERT with dropout, and everything recorded."""
    config.save(tiny(), tmp_path / "config.json")
    said = []
    for name in ("a", "b"):
        words = [sys.executable, "-c", RUN, str(tmp_path / "config.json"), str(tmp_path / name)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": str(len(said))}
        environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # half the time to compile
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[-1])
    assert said[0] == said[1]
    lines = [[r["models"] for r in read(tmp_path / name) if r["kind"] in ("train", "evaluation")] for name in "ab"]
    for one in (model for line in (*lines[0], *lines[1]) for model in line.values()):
        one.pop("examples_per_second", None)
    assert lines[0] == lines[1]


def test_versions_devices_flags_and_settings_are_told(monkeypatch):
    monkeypatch.setenv("JAX_SOMETHING", "1")
    told = json.loads(json.dumps(environment()))
    for name, package in (("jax", "jax"), ("orbax", "orbax-checkpoint"), ("numpy", "numpy"), ("optax", "optax")):
        assert told["versions"][name] == metadata.version(package)
    assert told["flags"]["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    assert told["flags"]["JAX_SOMETHING"] == "1"
    assert len(told["devices"]) == jax.device_count()
    assert told["settings"]["jax_enable_x64"] is False
    with jax.enable_x64(True):
        assert environment()["settings"]["jax_enable_x64"] is True


def test_the_commit(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert commit(package) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert commit(package) is None, "not of this repository"
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    made = commit(package)
    assert made is not None
    assert len(made) == 40
    (package / "__init__.py").write_text("changed")
    assert commit(package) == made + "+"


@pytest.mark.parametrize("name", ["checkpoints", "figures", "tokenizers", "tensorboard", "records.jsonl"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    run = tmp_path / "run"
    run.mkdir()
    config.save(tiny(), run / "config.json")
    (run / name).symlink_to(outside)
    for resume in (True, False):
        with pytest.raises(ArenaError, match=rf"'{run / name}' is a link out of the run's folder, to '{outside}'"):
            training.train(tiny(), run, resume=resume)
    assert not list(outside.iterdir())


def test_links_below_and_links_that_stay(tmp_path):
    run = tmp_path / "run"
    (run / "tokenizers").mkdir(parents=True)
    (run / "latest").symlink_to("tokenizers")
    (run / "round").symlink_to("round")
    refuse_links(run)
    (run / "tokenizers" / "bert").symlink_to("../../elsewhere")
    with pytest.raises(ArenaError, match="tokenizers/bert' is a link out of the run's folder"):
        refuse_links(run)
    (tmp_path / "named").symlink_to(run)
    (run / "tokenizers" / "bert").unlink()
    refuse_links(tmp_path / "named")
