"""Weights as transformers' own Flax models wrote them (up to 4.57): flax_model.msgpack, under the names of today."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from flax import serialization

from arena_jax.config.errors import ArenaError
from arena_jax.config.git_lfs import refuse_pointer
from arena_jax.models.huggingface.files import read_json

WEIGHTS = "flax_model.msgpack"
INDEX = "flax_model.msgpack.index.json"
_TYPES = {
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float32): "F32",
    np.dtype(np.float64): "F64",
}
# The last name of a path → PyTorch's. A kernel is stored with its axes the other way around: Dense keeps (in, out)
# where Linear has (out, in), and GPT-2's Conv1D the reverse of both.
_LEAVES = {"embedding": "weight", "scale": "weight", "kernel": "weight", "bias": "bias"}
_DEEPEST = 16  # names in a path; the layout has 9
_NAME = re.compile(r"\w{1,64}")
_UNTIED = ("cls.predictions", "lm_head")


class FlaxTensors:
    """The tensors of a folder's msgpack files, by the names and in the layout of transformers' PyTorch models.

    Nothing is executed: msgpack holds numbers, texts and bytes, and whatever is not an array of floating-point numbers
    in a dictionary of names is refused.

    Args:
        folder: with flax_model.msgpack, or its index and shards.
        limit: bytes that the files may have together.

    Raises:
        ArenaError: larger than that, not whole, or not in this layout.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._arrays: dict[str, tuple[np.ndarray, bool]] = {}
        paths = _files(folder)
        size = sum(path.stat().st_size for path in paths if path.is_file())
        if size > limit:
            raise ArenaError(
                f"{folder}: {WEIGHTS} has {size} bytes, more than any weights of its config.json ({limit}): fetch the "
                "model again from a source you trust"
            )
        for path in paths:
            for names, array in _leaves(_restored(path), path):
                name, turned = ".".join((*names[:-1], _LEAVES[names[-1]])), names[-1] == "kernel"
                if name in self._arrays:
                    raise ArenaError(f"{path}: {name} is there twice: fetch the model again from a source you trust")
                self._arrays[name] = array, turned
        for outer in _UNTIED:  # PyTorch's untied decoder has the bias, Flax' the module around it
            decoder = f"{outer}.decoder"
            if f"{decoder}.weight" in self._arrays and f"{outer}.bias" in self._arrays:
                self._arrays.setdefault(f"{decoder}.bias", self._arrays[f"{outer}.bias"])
        self.shapes = {name: a.shape[::-1] if turned else a.shape for name, (a, turned) in self._arrays.items()}
        self.types = {name: _TYPES[array.dtype] for name, (array, _) in self._arrays.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, of the type it has on disk."""
        array, turned = self._arrays[name]
        return array.T if turned else array


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    places = read_json(folder / INDEX).get("weight_map")
    shards = sorted({str(shard) for shard in places.values()}) if isinstance(places, dict) else []
    if not shards or not all(re.fullmatch(r"[A-Za-z0-9][\w.-]*\.msgpack", shard) for shard in shards):
        raise ArenaError(f"{folder / INDEX} names no msgpack files of its folder: fetch the model again")
    return [folder / shard for shard in shards]


def _restored(path: Path) -> Any:
    refuse_pointer(path)
    try:
        return serialization.msgpack_restore(path.read_bytes())
    except FileNotFoundError:
        raise ArenaError(f"{path} is named in {INDEX} but is not there: fetch the model again") from None
    except Exception as error:  # msgpack, NumPy and flax raise whatever they meet in a damaged file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ArenaError(f"{path} is not a whole msgpack file of weights ({reason}): fetch it again") from None


def _leaves(tree: Any, path: Path, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Every array with its path; whatever else is there is refused."""
    if not isinstance(tree, Mapping) or len(names) == _DEEPEST:
        raise ArenaError(f"{path}: {'.'.join(names) or 'the file'} is no dictionary of weights: fetch the model again")
    for name, value in tree.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ArenaError(f"{path}: {str(name)[:60]!r} is no name of a weight: fetch the model again")
        inner = (*names, name)
        if not isinstance(value, np.ndarray):
            yield from _leaves(value, path, inner)
        elif name not in _LEAVES or value.dtype not in _TYPES:
            raise ArenaError(f"{path}: {'.'.join(inner)} ({value.dtype}) is no weight of this layout")
        else:
            yield inner, value
