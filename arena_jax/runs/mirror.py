"""A run's checkpoints copied to object storage as they appear, and a run brought back from there.

The run itself stays in its folder, on a file system that can rename and lock. Object storage can do neither, but puts
an object whole or not at all: so each step's copy is a prefix of its own, with all that the run needs to go on:

    ADDRESS/STEP/checkpoints/STEP/…, config.json, format, records.jsonl, tokenizers/…, …

and counts once ``ADDRESS/STEP/complete.json``, put last, lists the size and checksum of every file.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.address import is_address
from arena_jax.config.errors import ArenaError, first_line, nearest
from arena_jax.runs.same_run import changes
from arena_jax.runtime import processes

# Of fsspec's schemes those that hold objects; a mirror's address may come from a configuration file.
SCHEMES = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "oci", "oss")
_COMPLETE, _OWNER = "complete.json", "owner.json"
_BESIDE = ("config.json", "format", "records.jsonl", "trackers.json", "report.html")


class Unusable(ArenaError):
    """A copy that is not there, or not what was written."""


class Mirror:
    """Copies of a run's checkpoints at an address.

    Args:
        address: such as ``s3://bucket/run``; its package must be installed (s3fs, gcsfs, …), which finds its own
            credentials.

    Attributes:
        trouble: why the last copy failed, or None; the next checkpoint is copied all the same.

    Raises:
        ArenaError: it is no address of object storage, or cannot be reached.
    """

    def __init__(self, address: str) -> None:
        scheme = address.partition("://")[0]
        if not is_address(address) or scheme not in SCHEMES:
            raise ArenaError(
                f"'{address}' is no address of object storage: s3://bucket/run; {nearest(scheme, SCHEMES)}"
            )
        import fsspec

        self.address = address.rstrip("/")
        self.trouble: str | None = None
        self._owner: bytes | None = None
        try:
            self._system: Any
            self._system, self._root = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
            self.steps()
        except Exception as error:  # each package raises its own
            raise ArenaError(f"cannot reach '{address}': {_reason(error)}") from None

    def steps(self) -> list[int]:
        """The steps there are whole copies of, rising."""
        names = (name.removeprefix(self._root).strip("/").split("/") for name in self._find(""))
        return sorted(int(name[0]) for name in names if len(name) == 2 and name[1] == _COMPLETE and name[0].isdecimal())

    def take(self, run: RunConfig, *, resume: bool) -> None:
        """Begin to write here, and find out now whether one may. Whoever wrote here before writes no more.

        Args:
            run: whose copies they will be.
            resume: the run goes on, and so may find its own copies.

        Raises:
            ArenaError: another run is here, or nothing can be written.
        """
        steps = self.steps()
        if steps and not resume:
            raise ArenaError(
                f"'{self.address}' holds a run already: go on with `arena-jax resume {self.address}`, or give another"
                " --mirror"
            )
        if steps:
            changed = changes(configuration.from_dict(json.loads(self._get(f"{steps[-1]}/config.json"))), run)
            if changed:
                raise ArenaError(f"'{self.address}' holds another run: {'; '.join(changed)}; give another --mirror")
        owner = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
        self._owner = json.dumps(owner).encode()
        try:
            self._put(_OWNER, self._owner)
        except Exception as error:
            raise ArenaError(f"cannot write to '{self.address}': {_reason(error)}") from None

    def copy(self, run: Path, step: int, keep: Sequence[int]) -> None:
        """Copy a checkpoint, and all that the run needs to go on from it; then remove the copies that are not kept.

        Args:
            run: the run's folder.
            step: of the checkpoint.
            keep: the steps whose checkpoints the run's folder keeps.
        """
        try:
            if self._owner is not None and self._get(_OWNER) != self._owner:
                raise ArenaError("another process has begun to write there")
            if step in self.steps():  # one that was damaged here and is written again
                self._system.rm_file(f"{self._root}/{step}/{_COMPLETE}")
            checksums = {}
            for path in _files(run, step):
                name = path.relative_to(run).as_posix()
                content = path.read_bytes()
                self._put(f"{step}/{name}", content)
                checksums[name] = [len(content), zlib.crc32(content)]
            self._put(f"{step}/{_COMPLETE}", json.dumps(checksums).encode())
            for old in set(self.steps()) - {step, *keep}:
                self._system.rm_file(f"{self._root}/{old}/{_COMPLETE}")  # first: half of a copy must not look like one
                for name in self._find(str(old)):
                    self._system.rm_file(name)
            self.trouble = None
        except Exception as error:
            self.trouble = f"the checkpoint of step {step:,} could not be copied to '{self.address}': {_reason(error)}"

    def restore(self, folder: Path) -> list[str]:
        """Bring a run back: its newest state there is a whole copy of, and every older checkpoint.

        Args:
            folder: where to; it must not be there, and appears whole or not at all.

        Returns:
            What is wrong with the copies that were passed over.

        Raises:
            ArenaError: there is no run, no copy is what was written, or the folder cannot be made.
        """
        steps = self.steps()
        if not steps:
            raise ArenaError(f"there is no run at '{self.address}': no checkpoint was copied there")
        if folder.exists():
            raise ArenaError(f"'{folder}' is there already: go on with `arena-jax resume {folder}`, or move it away")
        partial, passed_over = folder.with_name(f".{folder.name}.partial"), []
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for step in reversed(steps):
                newest = partial / "run"
                place = newest if not newest.exists() else partial / "older"
                try:
                    self._bring(step, place, "checkpoints/" if place != newest else "")
                except Unusable as error:
                    passed_over.append(str(error))
                    shutil.rmtree(place, ignore_errors=True)
                    continue
                if place != newest:
                    os.rename(place / "checkpoints" / str(step), newest / "checkpoints" / str(step))
                    shutil.rmtree(place)
            if not newest.exists():
                raise ArenaError(f"no copy can be used: {'; '.join(passed_over)}")
            os.rename(newest, folder)
        except OSError as error:
            raise ArenaError(f"cannot bring '{self.address}' to '{folder}': {_reason(error)}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return passed_over

    def _bring(self, step: int, place: Path, prefix: str) -> None:
        """The files of one copy that begin so, held against their checksums."""
        try:
            checksums = json.loads(self._get(f"{step}/{_COMPLETE}"))
            names = [name for name in checksums if name.startswith(prefix)]
        except (ValueError, TypeError, AttributeError):
            raise Unusable(f"'{self.address}/{step}/{_COMPLETE}' is not what was written") from None
        for name in names:
            path = Path(os.path.normpath(place / name))
            if not path.is_relative_to(place):
                raise Unusable(f"'{self.address}/{step}' names a file outside the run: '{name}'")
            content = self._get(f"{step}/{name}")
            if [len(content), zlib.crc32(content)] != checksums[name]:
                raise Unusable(f"'{self.address}/{step}/{name}' is not what was written: the checksum differs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _find(self, prefix: str) -> list[str]:
        try:
            return list(self._system.find(f"{self._root}/{prefix}".rstrip("/")))
        except FileNotFoundError:
            return []

    def _put(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", content)

    def _get(self, name: str) -> bytes:
        try:
            content: bytes = self._system.cat_file(f"{self._root}/{name}")
        except Exception as error:
            raise Unusable(f"cannot read '{self.address}/{name}': {_reason(error)}") from None
        return content


def open_mirror(run: RunConfig, *, resume: bool) -> Mirror | None:
    """The mirror that a run's configuration names, ready for process 0 to write to; None where it names none."""
    opened: list[Mirror] = []

    def begin() -> None:
        if run.training.mirror is not None:
            opened.append(Mirror(run.training.mirror))
            opened[0].take(run, resume=resume)

    processes.on_first(begin)
    return opened[0] if opened else None


def bring(address: str, tell: Callable[[str], None] = print) -> Path:
    """A run from object storage as a folder here, ``runs/NAME``, the address' last part; damaged copies are told."""
    folder = Path("runs") / address.rstrip("/").rpartition("/")[2]

    def restore() -> None:
        mirror = Mirror(address)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArenaError(f"cannot make '{folder.parent}': {_reason(error)}") from None
        for note in mirror.restore(folder):
            tell(f"a copy was passed over: {note}")

    processes.on_first(restore)
    return folder


def _files(run: Path, step: int) -> Iterator[Path]:
    yield from (run / name for name in _BESIDE if (run / name).is_file())
    for folder in (run / "tokenizers", run / "checkpoints" / str(step)):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _reason(error: Exception) -> str:
    return first_line(error, type(error).__name__)[:200]
