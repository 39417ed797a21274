"""One checkpoint as files: the one module that knows Orbax.

Orbax writes the arrays, as a pure container under their paths (``params/bert/blocks/…``); beside them stands one file,
``contents.json``, with everything else: the format's number, the position, and checksums of all there is — of each
array's bytes as they were in memory, of each file, and of itself. Files are held against their checksums before Orbax
sees them, arrays after: what :func:`read` returns is what was written, to the bit, whatever happened on the disk.
Of a run of several processes, process 0 writes the bytes of the arrays itself, without Orbax.
The checksums (CRC-32, about 7 GB/s) find accidents; they are no signature.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

# Raised when versions before and after could not read each other's checkpoints, or would misunderstand them.
FORMAT = 2
_CONTENTS, _ARRAYS, _PLAIN = "contents.json", "arrays", "arrays.bytes"
_SLACK = 2**10  # bytes that an array takes on disk beside its own
_CHUNK = 2**24  # bytes of a file read at a time
# Orbax tells each save and each choice at INFO and warns of what it decided itself; a run has its own records.
logging.getLogger("absl").setLevel(logging.ERROR)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

Arrays = Mapping[str, np.ndarray]


class Unreadable(Exception):
    """A checkpoint that cannot be used, and why.

    Attributes:
        reason: a few words.
        aside: what its folder is renamed to, after its step.
    """

    def __init__(self, reason: str, aside: str = "damaged") -> None:
        super().__init__(reason)
        self.reason, self.aside = reason, aside


def write(path: Path, arrays: Arrays, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, wait until it is on the disk, and read it back.

    Args:
        path: a folder that is not there yet.
        arrays: ``{path within the state: array}`` in host memory.
        content: what JSON can hold; NaN and infinities too.

    Raises:
        OSError: the disk is full, or the like.
        Unreadable: what was read back is not what was written.
        Exception: whatever else Orbax and TensorStore meet.
    """
    path.mkdir(parents=True)
    # Asked beforehand: Orbax stopped by a full disk in the middle leaves threads behind that complain for long.
    need = sum(array.nbytes + _SLACK for array in arrays.values())
    if shutil.disk_usage(path).free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if jax.process_count() > 1:
        _write_plain(path / _PLAIN, arrays)
    else:
        with _alone():
            ocp.save(path / _ARRAYS, dict(arrays))
    leaves = {name: _described(array) for name, array in arrays.items()}
    text = json.dumps({**content, "leaves": leaves, "files": _files(path)})
    contents = {"format": FORMAT, "checksum": zlib.crc32(text.encode()), "content": text}
    (path / _CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
    for place in (*path.rglob("*"), path):
        _to_disk(place)
    read(path)


def read_content(path: Path) -> dict[str, Any]:
    """Read the text of a checkpoint; the arrays stay where they are.

    Returns:
        What was given to :func:`write` as ``content``, and ``leaves``: ``{name: [shape, dtype, checksum]}``.

    Raises:
        Unreadable: it is damaged, or of another format.
    """
    try:
        contents = json.loads((path / _CONTENTS).read_bytes())
        number, checksum, text = contents["format"], contents["checksum"], contents["content"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise Unreadable("its description cannot be read") from None
    if number != FORMAT:
        raise Unreadable(f"it has format {str(number)[:20]}, this arena-jax reads format {FORMAT}", "other-format")
    if not isinstance(text, str) or zlib.crc32(text.encode(errors="replace")) != checksum:
        raise Unreadable("its description is not what was written: the checksum differs")
    content: dict[str, Any] = json.loads(text)
    return content


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a checkpoint and hold everything against its checksums.

    Returns:
        The arrays in host memory, and the content.

    Raises:
        Unreadable: it is damaged, or of another format.
    """
    content = read_content(path)
    leaves, expected = content["leaves"], content["files"]
    try:
        files = _files(path)
    except OSError as error:
        raise Unreadable(f"its files cannot be read ({error.strerror or error})") from None
    for name in expected:
        if name not in files:
            raise Unreadable(f"the file {name} is missing")
        if files[name] != expected[name]:
            raise Unreadable(f"the file {name} is not what was written: its size or checksum differs")
    empty = {name: np.empty(shape, _dtype(dtype)) for name, (shape, dtype, _) in leaves.items()}
    try:
        if (path / _PLAIN).exists():
            arrays = _read_plain(path / _PLAIN, empty)
        else:
            with _alone():
                arrays = ocp.load(path / _ARRAYS, empty)
    except Exception as error:  # whatever Orbax and TensorStore meet, though every file is as it was written
        raise Unreadable(f"its arrays cannot be read ({type(error).__name__})") from None
    for name, described in leaves.items():
        if _described(arrays[name]) != described:
            raise Unreadable(f"'{name}' is not what was written: the checksum differs")
    return arrays, content


def _write_plain(path: Path, arrays: Arrays) -> None:
    """The bytes of each array, one after the other: for process 0 of several.

    Orbax compares a checkpoint's path over all processes, by an exchange between their devices; in a background thread
    that meets the exchanges of the training, and both wait for ever.
    """
    with open(path, "wb") as file:
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _read_plain(path: Path, empty: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        return {
            name: np.frombuffer(file.read(like.nbytes), like.dtype).reshape(like.shape) for name, like in empty.items()
        }


def to_host(array: Any) -> np.ndarray:
    """Copy an array into host memory of its own: on a CPU the device's memory is handed to XLA by the next donation.

    One that is dealt out over the devices of each process is put together from this process' own.
    """
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return np.array(array, copy=True)
    host = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        host[shard.index] = shard.data
    return host


def _files(path: Path) -> dict[str, list[int]]:
    """Size and checksum of every file of a checkpoint, less the one that lists them."""
    files = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name != _CONTENTS:
            checksum = size = 0
            with open(file, "rb") as opened:
                while chunk := opened.read(_CHUNK):
                    checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
            files[name] = [size, checksum]
    return files


def _described(array: np.ndarray) -> list[Any]:
    contiguous = np.ascontiguousarray(array)
    return [list(array.shape), str(array.dtype), zlib.crc32(contiguous.reshape(-1).view(np.uint8).data)]


def _dtype(name: str) -> np.dtype:
    # bfloat16 and its like are known to jax, not to NumPy.
    return np.dtype(jax.numpy.dtype(name))


def _alone() -> ocp.Context:
    """Every process reads for itself, and process 0 writes alone: Orbax must wait for no other."""
    index = jax.process_index()
    return ocp.Context(
        multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
    )


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
