"""What is worked out of large data once and kept: a private folder of arrays, each named by what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from arena_jax.config.errors import ArenaError
from arena_jax.config.user_cache import cache_folder
from arena_jax.data.stored_array import StoredArray

FORMAT = 1  # part of every name: another one is another entry
_NAME = re.compile(r"(text|tokens)-[0-9a-f]{32}")


class Entry(NamedTuple):
    """One finished piece of the store.

    Attributes:
        folder: where it lies.
        facts: what was written down of it, as JSON has it.
    """

    folder: Path
    facts: dict[str, Any]

    def array(self, name: str, kinds: str = "iuf", dimensions: int | None = None) -> StoredArray:
        """One of its arrays.

        Args:
            name: of the array.
            kinds: of numbers that it may have, as NumPy writes them: "i", "u", "f".
            dimensions: that it must have.

        Raises:
            ArenaError: it is not there, or not as long as was written down, or of another kind.
        """
        try:
            dtype, shape = self.facts["arrays"][name]
            array = StoredArray(self.folder / f"{name}.bin", dtype, tuple(shape))
        except (KeyError, TypeError, ValueError, IndexError, SyntaxError, OverflowError) as error:
            raise damaged(self.folder, f"{type(error).__name__}: {error}") from None
        if array.dtype.kind not in kinds or dimensions not in (None, len(array.shape)):
            raise damaged(self.folder, f"{name} holds {dtype} of shape {shape}")
        return array

    def number(self, name: str) -> int:
        """A whole number of its facts.

        Raises:
            ArenaError: there is none.
        """
        value = self.facts.get(name)
        if not isinstance(value, int) or not 0 <= value < 2**63:
            raise damaged(self.folder, f"{name} is {value!r}")
        return value


def damaged(path: Path, why: str) -> ArenaError:
    """The error of something in the store that is not as it was written."""
    return ArenaError(f"{path} is damaged ({why[:120]}): remove it with `arena-jax data clear`, and it is made anew")


def store_folder() -> Path:
    """Where the store is: ``$ARENA_CACHE/data`` if that is set, else ``data`` in this program's folder of caches.

    Raises:
        ArenaError: nobody knows where the home is.
    """
    place = os.environ.get("ARENA_CACHE")
    if place:
        return Path(place).expanduser().absolute() / "data"
    try:
        return cache_folder() / "data"
    except RuntimeError:
        raise ArenaError("cannot keep large data: there is no home folder; set ARENA_CACHE to a folder") from None


def key_of(facts: Mapping[str, Any]) -> str:
    """A name for what is made from these facts: 128 bits of their BLAKE2b digest.

    Example:
        >>> key_of({"b": 1, "a": [2]}) == key_of({"a": [2], "b": 1}), len(key_of({}))
        (True, 32)
    """
    text = json.dumps({**facts, "format": FORMAT}, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def get(kind: str, key: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Entry, bool]:
    """An entry of the store, made if it is not there. Of several processes one makes it, the others wait for it.

    Args:
        kind: "text" or "tokens".
        key: from :func:`key_of`.
        make: writes the arrays into a folder, as NAME.bin, and returns the facts; in "arrays" dtype and shape of each.

    Returns:
        The entry, and whether it was made just now.

    Raises:
        ArenaError: the store cannot be written.
    """
    folder = store_folder() / f"{kind}-{key}"
    entry = finished(folder)
    if entry is not None:
        return entry, False
    try:
        _private(store_folder())
        with FileLock(store_folder() / f"{folder.name}.lock", fallback_to_soft=False, mode=0o600):
            entry = finished(folder)
            if entry is not None:  # another process has made it meanwhile
                return entry, False
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: we hold the lock
            shutil.rmtree(folder, ignore_errors=True)
            try:
                partial.mkdir(mode=0o700)
                facts = make(partial)
                text = json.dumps(facts)
                contents = {"checksum": zlib.crc32(text.encode()), "facts": text}
                (partial / "facts.json").write_text(json.dumps(contents))
                for path in partial.iterdir():
                    _to_disk(path)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ArenaError(
            f"cannot keep tokens in {store_folder()}: {error.strerror or error}; make room, or name another folder by "
            "the environment variable ARENA_CACHE"
        ) from None
    entry = finished(folder)
    if entry is None:
        raise damaged(folder, "it cannot be read back")
    return entry, True


def finished(folder: Path) -> Entry | None:
    """An entry whose facts can be read and whose arrays have their sizes; None: there is none, or it is made anew."""
    try:
        contents = json.loads((folder / "facts.json").read_bytes())
        if zlib.crc32(contents["facts"].encode()) != contents["checksum"]:
            return None
        entry = Entry(folder, facts := json.loads(contents["facts"]))
        for name in facts["arrays"]:
            entry.array(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArenaError):
        return None
    return entry


def _private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if hasattr(os, "getuid"):
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise ArenaError(
                f"{folder} belongs to somebody else, or others may write to it: run `chmod 700` on it, or name another "
                "folder by the environment variable ARENA_CACHE"
            )


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class Description(NamedTuple):
    """An entry as a person sees it.

    Attributes:
        name: of its folder.
        bytes: that it takes.
        description: what it was made from.
        whole: whether it can be used.
    """

    name: str
    bytes: int
    description: str
    whole: bool


def entries() -> list[Description]:
    """All that the store holds, whole or not."""
    folder, listed = store_folder(), []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and _NAME.fullmatch(path.name.removeprefix(".").removesuffix(".partial")):
            entry = None if path.name.startswith(".") else finished(path)
            text = "damaged, or not finished" if entry is None else str(entry.facts.get("description", ""))
            size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
            text = "".join(c if c.isprintable() else "?" for c in text)
            listed.append(Description(path.name, size, text, entry is not None))
    return listed


def clear() -> tuple[int, int]:
    """Remove every entry that no process is making.

    Returns:
        (entries removed, their bytes).

    Raises:
        ArenaError: one cannot be removed.
    """
    count = size = 0
    for piece in entries():
        # The locks' empty files stay: one that is removed while somebody waits for it would let two in.
        name = piece.name.removeprefix(".").removesuffix(".partial")
        lock = FileLock(store_folder() / f"{name}.lock", timeout=0, fallback_to_soft=False, mode=0o600)
        try:
            with lock:
                shutil.rmtree(store_folder() / piece.name)
        except TimeoutError:
            continue
        except OSError as error:
            raise ArenaError(f"cannot remove {store_folder() / piece.name}: {error.strerror or error}") from None
        count, size = count + 1, size + piece.bytes
    return count, size
