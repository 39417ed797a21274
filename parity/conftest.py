"""The same strictness as in tests/, and no PyTorch: no parity."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from parity import four_devices

os.environ["XLA_FLAGS"] = four_devices.flags(os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As in tests/: what one check has compiled, all others take from disk. An installed package has no such place.
if (Path(__file__).resolve().parents[1] / "pyproject.toml").exists():
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".venv" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# Without PyTorch there is nothing to compare with; `python -m parity` says what to install.
# The fixture is a plugin: collected for its doctests, it would be imported before pytest can take it for one.
collect_ignore_glob = ["fixture.py"] if importlib.util.find_spec("torch") else ["*"]
