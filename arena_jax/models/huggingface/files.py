"""The files of a Hugging Face folder: where they are, which are read, and which are refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from arena_jax.config.errors import ArenaError, few
from arena_jax.config.git_lfs import refuse_pointer
from arena_jax.config.hub_access import near_here, stay_offline_if_unreachable
from arena_jax.models.model_types import MODEL_TYPES

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F16", "BF16", "F32", "F64"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_JSON_LIMIT = 100 * 2**20  # bytes; a real index of thousands of shards has a few million


def find_folder(path_or_hub_id: str | Path, revision: str | None = None, *, weights: bool = True) -> Path:
    """The local folder of a model, downloaded from the Hub where it is an id.

    Only config.json and safetensors files are fetched, and where there are none, those of transformers' Flax models.

    Args:
        path_or_hub_id: a folder, or an id such as "openai-community/gpt2".
        revision: branch, tag or commit on the Hub; None: the newest.
        weights: False fetches config.json alone; a folder that was fetched before may have them all the same.

    Returns:
        A folder that exists.

    Raises:
        ArenaError: neither a folder nor an id that can be fetched.
    """
    if not isinstance(path_or_hub_id, str | Path) or not str(path_or_hub_id):
        raise ArenaError(f"a Hugging Face folder or Hub id is needed, not {path_or_hub_id!r}")
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return path
    name = str(path_or_hub_id)
    if path.exists():
        raise ArenaError(f"{name} is a file: give the folder that holds config.json and model.safetensors")
    if isinstance(path_or_hub_id, Path) or not _HUB_ID.fullmatch(name):
        raise ArenaError(f"there is no folder {name}: give a folder that holds config.json and model.safetensors")
    stay_offline_if_unreachable()
    import huggingface_hub

    patterns = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors"] if weights else [CONFIG]
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
        if weights and not ((folder / WEIGHTS).exists() or (folder / INDEX).exists()):
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=["flax_model*.msgpack*"])
        return folder
    except Exception as error:  # the Hub's client raises its own, httpx's and the system's errors
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ArenaError(
            f"there is no folder {name}, and it could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {reason}): check the name and the connection, or give a local folder"
            + near_here(name)
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or one line that says why there is none."""
    try:
        refuse_pointer(path)
        if path.stat().st_size > _JSON_LIMIT:
            raise ArenaError(f"{path} is larger than {_JSON_LIMIT} bytes: this is not a model's description")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArenaError(f"{path.parent} holds no {path.name}: give the folder of a saved model") from None
    except (OSError, RecursionError, ValueError) as error:
        if isinstance(error, ArenaError):
            raise
        raise ArenaError(f"{path} cannot be read as JSON ({error}): fetch or save it again") from None
    if not isinstance(content, dict):
        raise ArenaError(f"{path} must hold a JSON object: fetch or save it again")
    return content


class Tensors:
    """The tensors of a folder's safetensors files: shapes and types at once, contents when asked for.

    Args:
        folder: with model.safetensors, or an index and its shards.

    Raises:
        ArenaError: no safetensors, pickled weights only, a broken file or index, a shard outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        for path, names in _weight_files(folder).items():
            self._read_header(path, names)

    def _read_header(self, path: Path, promised: set[str] | None) -> None:
        refuse_pointer(path)
        try:
            with safe_open(path, framework="numpy") as file:
                names = set(file.keys())
                for name in names if promised is None else names & promised:
                    part = file.get_slice(name)
                    self._files[name] = path
                    self.shapes[name] = tuple(part.get_shape())
                    self.types[name] = str(part.get_dtype())
        except FileNotFoundError:
            raise ArenaError(f"{path} is named in {INDEX} but is not there: fetch or save the model again") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise ArenaError(f"{path} is not a whole safetensors file ({error}): fetch or save it again") from None
        if promised is not None and promised - names:
            missing = few(sorted(promised - names))
            raise ArenaError(f"{path} lacks what {INDEX} says is in it: {missing}; fetch or save the model again")

    def read(self, name: str) -> np.ndarray:
        """One tensor, of the type it has on disk."""
        path = self._files[name]
        try:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise ArenaError(f"{path}: {name} cannot be read ({error}): fetch or save it again") from None


def _conversion(folder: Path) -> str:
    """The command that writes a folder's pickled weights as safetensors."""
    names = read_json(folder / CONFIG).get("architectures") if (folder / CONFIG).is_file() else None
    name = names[0] if isinstance(names, list) and names else None
    kind = name if any(name in kind.tasks for kind in MODEL_TYPES.values() if isinstance(name, str)) else "AutoModel"
    source, target = str(folder), f"{folder}-safetensors"
    code = f"import transformers; transformers.{kind}.from_pretrained({source!r}).save_pretrained({target!r})"
    return f"python -c {shlex.quote(code)}"


def _weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """Each file with the names to take from it; None: all of them."""
    if (folder / WEIGHTS).exists():
        return {folder / WEIGHTS: None}
    if not (folder / INDEX).exists():
        pickled = sorted(p.name for s in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5") for p in folder.glob(s))
        if pickled:
            raise ArenaError(
                f"{folder} holds {few(pickled)} only; weights are read from safetensors, as reading these can run "
                f"code. Where you trust it, convert it with PyTorch: {_conversion(folder)}"
            )
        raise ArenaError(f"{folder} holds no {WEIGHTS} and no {INDEX}: give the folder of a saved model")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ArenaError(f"{folder / INDEX} has no weight_map: fetch or save the model again")
    files: dict[Path, set[str] | None] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*\.safetensors", shard):
            raise ArenaError(
                f"{folder / INDEX}: {shard!r} is not the name of a safetensors file in the folder; "
                "it may have been tampered with: fetch the model again from a source you trust"
            )
        names = files.setdefault(folder / shard, set())
        assert names is not None
        names.add(name)
    return files
