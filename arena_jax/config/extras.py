"""What `pip install arena-jax` alone does not bring: a package that is missing is named with the extra that brings it.

Every import of the project passes here, wherever it stands: this is the last place where Python looks for a module.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

from arena_jax.config.errors import ArenaError

# Of each package that an extra brings and that is imported here: its extra, as pyproject.toml has it.
EXTRAS = {
    **dict.fromkeys(
        (
            "datasets",
            "filelock",
            "flax",
            "fsspec",
            "huggingface_hub",
            "jinja2",
            "matplotlib",
            "orbax",
            "pyarrow",
            "rich",
            "safetensors",
            "tensorboardX",
            "tokenizers",
            "transformers",
        ),
        "train",
    ),
    "optuna": "optuna",
    "submitit": "slurm",
    **dict.fromkeys(("seqeval", "torch"), "parity"),
    **dict.fromkeys(("rouge_score", "sacrebleu", "sklearn"), "game"),
}
_PACKAGES = ("arena_jax", "parity")
# Between an import and this place. Not importlib.util: who asks there whether a package is installed may hear no.
_MACHINERY = ("importlib", "importlib._bootstrap", "importlib._bootstrap_external")


class MissingPackage(ArenaError, ModuleNotFoundError):
    """A package is not installed, and an extra brings it."""


class _Extras(importlib.abc.MetaPathFinder):
    """Finds nothing; says what to install where one of our modules imports what is not there.

    Others that look for the same package, to do without it, see that it is not there, as ever.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in EXTRAS and _importer() in _PACKAGES:
            extra = EXTRAS[name]
            raise MissingPackage(f"{name} is not installed: pip install 'arena-jax[{extra}]'")
        return None


def _importer() -> str:
    """The package whose statement is importing."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "") in _MACHINERY:
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]


def name_missing_packages() -> None:
    """Name the extra of a package that is missing, in whatever module of the project it is imported; once is enough."""
    if not any(isinstance(finder, _Extras) for finder in sys.meta_path):
        sys.meta_path.append(_Extras())
