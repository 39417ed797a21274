"""Hugging Face folders from models: what transformers would have written, complete or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from arena_jax.config.errors import ArenaError
from arena_jax.models.huggingface import rules
from arena_jax.models.huggingface.config import config_to_hf
from arena_jax.models.huggingface.files import CONFIG, INDEX, WEIGHTS
from arena_jax.models.huggingface.load import flatten
from arena_jax.models.huggingface.rules import SPLIT, TRANSPOSE
from arena_jax.models.model_types import MODEL_TYPES
from arena_jax.models.transformer import Transformer, split

_WEIGHT_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def save_pretrained(
    model: Transformer,
    path: str | Path,
    *,
    max_shard_size: int | str = "50GB",
    also: Callable[[Path], None] | None = None,
) -> None:
    """Write a folder that ``transformers`` and :func:`from_pretrained` load.

    Everything is written under another name first, and takes the folder's place in one step: an interrupted save
    leaves what was there before, never a part of each. Other files of the folder stay. A tied head is not stored, as
    transformers does it.

    Args:
        model: any model of this package.
        path: folder; made if it does not exist, its weights replaced if it does.
        max_shard_size: bytes per weight file, or text such as "500MB"; more weights make several files and an index.
        also: writes what belongs to the model, such as its tokenizer, into the folder it is given; both appear at once.

    Raises:
        ArenaError: the folder holds a run or cannot be written, or the size cannot be read.

    Example:
        >>> import os, tempfile
        >>> from arena_jax import models
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     models.save_pretrained(models.create("gpt2-tiny", task="causal-lm"), folder)
        ...     sorted(os.listdir(folder))
        ['config.json', 'model.safetensors']
    """
    limit = _bytes(max_shard_size)
    check_folder(path)
    # A link to a folder is written through: what is swapped is the folder itself.
    folder = _real(path)
    tensors = to_tensors(model)
    architecture = MODEL_TYPES[model.config.model_type].classes[model.task]
    text = json.dumps(config_to_hf(model.config, architecture), indent=2, sort_keys=True) + "\n"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.parent / f".{folder.name}-{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            _write_weights(temporary, tensors, limit)
            (temporary / CONFIG).write_text(text, encoding="utf-8")
            if also is not None:
                also(temporary)
            _move(temporary, folder, [entry.name for entry in temporary.iterdir()])
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ArenaError(
            f"the model cannot be written to {folder} ({error.strerror or error}): choose a folder you can write to"
        ) from None
    except Exception as error:  # safetensors reports a full disk as its own type
        if type(error).__name__ != "SafetensorError":
            raise
        raise ArenaError(f"the model cannot be written to {folder} ({error}): make room or choose another") from None


def check_folder(path: str | Path, *sources: str | Path) -> None:
    """Refuse a folder that no model may be written to; to be asked before anything is computed.

    Args:
        path: where a model shall be written.
        sources: folders that are only read.

    Raises:
        ArenaError: the folder is one of the sources or holds a run, or there is a file in its place.

    Example:
        >>> check_folder("models/new", "models/old")
        >>> check_folder("models/old", "models/../models/old")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: 'models/old' is what is read; give another folder
    """
    folder = _real(path)
    if folder in {_real(source) for source in sources}:
        raise ArenaError(f"'{path}' is what is read; give another folder")
    # Names that a run's folder has, as arena_jax.runs writes them.
    if (folder / "records.jsonl").exists() or (folder / "checkpoints").exists() or _is_runs(folder / CONFIG):
        raise ArenaError(f"'{path}' holds a run; give another folder")
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if there.exists() and not there.is_dir():
        raise ArenaError(f"the model cannot be written to '{path}': '{there}' is a file; give another folder")


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(Path(path).expanduser()))


def _is_runs(config: Path) -> bool:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "models" in content and "model_type" not in content


def to_tensors(model: Transformer) -> dict[str, np.ndarray]:
    """Every tensor that transformers stores for this model, by its name there.

    Args:
        model: any model of this package.

    Returns:
        NumPy arrays in the parameters' type and transformers' layout.
    """
    config, task = model.config, model.task
    values = {path: np.asarray(leaf) for path, leaf in flatten(split(model)[1])}
    prefix = MODEL_TYPES[config.model_type].prefix
    tensors: dict[str, np.ndarray] = {}
    for rule in rules.rules_for(config, task):
        parts = [values.pop(target) for target in rule.targets()]
        whole = np.concatenate(parts, axis=-1) if rule.operation == SPLIT else parts[0]
        name = prefix + rule.source if rule.base else rule.source
        layers = range(config.num_layers) if rule.stacked else (None,)
        for layer in layers:
            tensor = whole if layer is None else whole[layer]
            tensor = tensor.T if rule.operation == TRANSPOSE else tensor
            tensors[name.replace("{layer}", str(layer))] = np.ascontiguousarray(tensor)
    for spare, used in rules.spare_biases(config, task).items():
        tensors[spare] = tensors[used].copy()
    if values:
        raise AssertionError(f"parameters without a rule: {sorted(values)}")
    return tensors


def _bytes(size: int | str) -> int:
    if isinstance(size, str):
        match = re.fullmatch(r"(\d+) ?([KMGT]B)", size.upper())
        size = int(match[1]) * _UNITS[match[2]] if match else 0
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArenaError("max_shard_size must be a number of bytes, or text such as '500MB' or '5GB'")
    return size


def _write_weights(folder: Path, tensors: dict[str, np.ndarray], limit: int) -> list[str]:
    """Write one file, or shards and their index; return the names."""
    shards: list[dict[str, np.ndarray]] = [{}]
    room = limit
    for name, tensor in tensors.items():
        if shards[-1] and tensor.nbytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        _write_safetensors(folder / WEIGHTS, shards[0])
        return [WEIGHTS]
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_safetensors(folder / name, shard)
    places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [*names, INDEX]


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    # The library makes a file that only its owner reads; weights are as public as the configuration beside them.
    path.chmod(0o666 & ~_umask())
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    """The process' mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _move(temporary: Path, folder: Path, names: list[str]) -> None:
    """Put a written folder in another's place in one step: whoever looks finds the old model or the new one."""
    if not folder.exists():
        temporary.rename(folder)
        return
    if not folder.is_dir():
        raise NotADirectoryError(20, "there is a file of this name")
    # What is not ours stays: a tokenizer, a README. An earlier save's weights go, as an index beside them would be
    # ambiguous.
    for old in folder.iterdir():
        if old.name in names or _WEIGHT_FILES.fullmatch(old.name):
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, temporary / old.name, symlinks=True, copy_function=_link)
        else:
            _link(old, temporary / old.name)
    shutil.copymode(folder, temporary)
    if not _exchange(temporary, folder):
        aside = temporary.with_name(f"{temporary.name}-old")
        folder.rename(aside)
        temporary.rename(folder)
        aside.rename(temporary)  # which the caller removes


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(first: Path, other: Path) -> bool:
    """Swap two folders in one step, where the system can (Linux); False where it cannot, and nothing has happened."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, exchange = -100, 2
    return rename is not None and not rename(at_cwd, os.fsencode(first), at_cwd, os.fsencode(other), exchange)
