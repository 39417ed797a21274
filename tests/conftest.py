"""Every test runs strictly: warnings are errors, silent rank promotion raises, and 8 CPU devices are visible."""

import os

# Before jax is imported: the tests of several devices need them, all others use the first.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nothing in the suite may reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from pathlib import Path

import hypothesis
import jax
import pytest

# The same examples every time: a rare counterexample is found by raising max_examples at the desk, not by chance in CI.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def arena_data() -> Path:
    """The folder of real data sets, named by ARENA_DATA."""
    folder = os.environ.get("ARENA_DATA")
    if not folder:
        pytest.skip("ARENA_DATA does not name the folder of real data sets")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"ARENA_DATA={folder} is not a folder")
    return Path(folder)
