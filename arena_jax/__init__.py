"""Train several different transformers as one JAX program, compared with PyTorch layer by layer.

Packages are imported when they are first used, so that ``arena_jax.transforms`` needs jax and optax alone.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from arena_jax.config.errors import ArenaError
from arena_jax.config.extras import name_missing_packages

name_missing_packages()

__version__ = "0.1.0"

# In the order in which they may know one another: each imports only those before it.
_PACKAGES = (
    "config",
    "transforms",
    "models",
    "data",
    "runtime",
    "runs",
    "training",
    "equilibria",
    "arena",
    "game",
    "compare",
    "reports",
)
_MODULES = {name: f"arena_jax.{name}" for name in _PACKAGES} | {"presets": "arena_jax.config.presets"}
__all__ = ["ArenaError", *_MODULES]


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'arena_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
