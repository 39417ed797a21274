"""What a study has computed: one file per cell, written whole or not at all, by any number of processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from arena_jax.compare.identity import changed
from arena_jax.config.errors import ArenaError, first_line
from arena_jax.runs.lock import Busy, Lock
from arena_jax.runs.records import decode, encode

FORMAT = 1
_STUDY, _CELLS, _WORK = "study.json", "cells", "work"


class Key(Protocol):
    """What a record is of, such as `arena_jax.compare.cells.Cell`: a named tuple."""

    @property
    def name(self) -> str:
        """Of its file in the ledger."""

    def _asdict(self) -> dict[str, Any]: ...


class Ledger:
    """The folder of a study: ``study.json`` says which one it is, ``cells/`` holds a line per run that is over.

    No two processes write one file, so none can lose what another wrote. A run that is at work holds a lock, which goes
    with its process however that ends.

    Args:
        folder: of the study; made when something is written.

    Example:
        >>> import tempfile
        >>> from arena_jax.compare.cells import Cell
        >>> ledger = Ledger(Path(tempfile.mkdtemp()))
        >>> ledger.write(Cell("slow", 0), {"status": "finished", "outcome": float("inf")})
        >>> ledger.read(Cell("slow", 0))["outcome"], ledger.read(Cell("slow", 1))
        (inf, None)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ---- which study it is ----

    def study(self) -> dict[str, Any] | None:
        """What `freeze` wrote, or None."""
        return _read(self.folder / _STUDY)

    def freeze(self, plan: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
        """Say which study this is; from the first run that is over on it stands fast.

        Args:
            plan: as dictionaries.
            identity: its hashes.

        Returns:
            What stands in ``study.json``.

        Raises:
            ArenaError: the folder holds another study, with what is different; or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", fallback_to_soft=False):
                beside = {entry.name for entry in self.folder.iterdir() if entry.name[0] != "."}
                if not any(
                    (self.folder / _CELLS).glob("*.json")
                ):  # until a run is over another plan may take its place
                    if beside and _STUDY not in beside:
                        raise ArenaError(f"'{self.folder}' is not empty, and holds no study; give another folder")
                    begun = time.strftime("%Y-%m-%d %H:%M:%S")
                    content = {"format": FORMAT, "plan": plan, "identity": identity, "begun": begun}
                    _write(self.folder / _STUDY, content)
        except OSError as error:
            raise ArenaError(
                f"cannot write the study's folder '{self.folder}': {error.strerror or error}; give another"
            ) from None
        study = self.study()
        assert study is not None
        if study.get("format") != FORMAT:
            raise ArenaError(f"'{self.folder}' is a study of another version of arena-jax; use that one")
        different = changed(study["identity"], identity)
        if different:
            raise ArenaError(
                f"'{self.folder}' holds another study: since its first run {' and '.join(different)} changed; put it "
                "back, or give another folder"
            )
        return study

    # ---- cells ----

    def read(self, cell: Key) -> dict[str, Any] | None:
        """The record of a cell, or None while there is none."""
        return _read(self.folder / _CELLS / f"{cell.name}.json")

    def write(self, cell: Key, record: dict[str, Any]) -> None:
        """Keep the record of a cell: one line, on the disk when this returns."""
        (self.folder / _CELLS).mkdir(parents=True, exist_ok=True)
        _write(self.folder / _CELLS / f"{cell.name}.json", {"cell": cell._asdict(), **record})

    def over(self, cell: Key) -> bool:
        """Whether a cell is finished, or diverged; one that failed for another reason is tried again."""
        record = self.read(cell)
        return record is not None and record["status"] != "failed"

    @contextmanager
    def working(self, cell: Key) -> Iterator[Path]:
        """Hold a cell while it runs.

        Yields:
            A folder for it, as its last run left it; it is the caller's to remove.

        Raises:
            Busy: another process is at work on it.
        """
        place = self.folder / _WORK / cell.name
        place.mkdir(parents=True, exist_ok=True)
        with Lock(place):
            yield place

    def empty(self, cell: Key) -> None:
        """Remove what a cell left behind, all but its lock; only while `working` on it."""
        for entry in (self.folder / _WORK / cell.name).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != "lock":
                entry.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what cells left behind, once all of them are over."""
        shutil.rmtree(self.folder / _WORK, ignore_errors=True)

    def busy(self, cell: Key) -> bool:
        """Whether another process is at work on a cell now."""
        if not (self.folder / _WORK / cell.name).is_dir():
            return False
        try:
            with self.working(cell):
                return False
        except Busy:
            return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = decode(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot read '{path}' ({first_line(error)}); remove it, and that run is made again") from None
    if not isinstance(content, dict):
        raise ArenaError(f"'{path}' is no record of a study; remove it, and that run is made again")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a line of JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(encode(content), allow_nan=False, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise ArenaError(f"cannot write '{path}': {error.strerror or error}; make room, and start again") from None
