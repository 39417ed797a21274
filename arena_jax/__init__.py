"""Train several different transformers as one JAX program, and prove every number against PyTorch.

The rooms are imported when they are first used, so that ``arena_jax.transforms`` needs jax and optax alone.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from arena_jax.errors import ArenaError

__version__ = "0.1.0"

_ROOMS = ("transforms", "models", "data", "training", "arena", "game", "reports", "presets", "config")
__all__ = ["ArenaError", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"arena_jax.{name}")
    raise AttributeError(f"module 'arena_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
