"""Every test runs strictly: warnings are errors, silent rank promotion raises, and 8 CPU devices are visible."""

import gc
import os
from pathlib import Path

# Before jax is imported: the tests of several devices need them, all others use the first.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nothing in the suite may reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# What one test has compiled, all others take from disk: those of the other process, those that start processes, and
# those of the next run. The key of a program is its text, the versions and the flags; `make clean` removes them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".venv" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import pytest

# The same examples every time: a rare counterexample is found by raising max_examples at the desk, not by chance in CI.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

jax.config.update("jax_numpy_rank_promotion", "raise")


# Files of few tests that take long. Those who share the suite take whole files; one of these at the end would leave the
# other waiting.
LONG = (
    "test_shards.py",
    "test_chaos.py",
    "test_distributed.py",
    "test_target.py",
    "test_train.py",
    "test_gpu_benchmark.py",
    "test_distillation.py",
    "test_step.py",
    "test_faults.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; refuse a file that changed JAX's settings as it was imported."""
    if jax.config.read("jax_enable_x64"):
        raise pytest.UsageError("a file of the suite sets jax_enable_x64 where it is imported, so for all tests")
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """Leave what was imported out of every garbage collection: it stays anyway, and is most of what there is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, *gc.get_threshold()[1:])


@pytest.fixture(scope="session")
def arena_data() -> Path:
    """The folder of real data sets, named by ARENA_DATA."""
    folder = os.environ.get("ARENA_DATA")
    if not folder:
        pytest.skip("ARENA_DATA does not name the folder of real data sets")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"ARENA_DATA={folder} is not a folder")
    return Path(folder)
