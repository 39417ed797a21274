"""The same strictness as in tests/, and no PyTorch: no parity."""

from __future__ import annotations

import importlib.util
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# Without PyTorch there is nothing to compare with; `python -m parity` says what to install.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["*"]
