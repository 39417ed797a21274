"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import processes


class Busy(ArenaError):
    """Another process is at work in the folder."""


class Lock:
    """Holds a run's folder while its context lasts.

    The lock belongs to the open file, so the system takes it back when the process dies, however it dies: the file that
    a killed run leaves behind locks nobody out. The file names the owner, for whoever is refused. In a run of several
    processes only process 0 takes it.

    Args:
        folder: the run's folder; it must exist.

    Raises:
        Busy: on entry, when another process is at work in the folder.
        ArenaError: on entry, when the folder cannot be locked.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Lock(folder):
        ...     with Lock(folder):
        ...         pass
        Traceback (most recent call last):
            ...
        arena_jax.runs.lock.Busy: '...' is in use by process ... on ...; wait for it, or stop it first
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A file system without locks is an error: the fallback, a file that marks the folder, would outlive a kill.
        self._lock = FileLock(
            folder / "lock", timeout=0, thread_local=False, fallback_to_soft=False, on_acquired=_write_owner
        )

    def __enter__(self) -> Lock:
        processes.on_first(self._acquire)
        return self

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            owner = (self._folder / "lock").read_bytes()[:200].decode(errors="replace").strip() or "another process"
            raise Busy(f"'{self._folder}' is in use by {owner}; wait for it, or stop it first") from None
        except OSError as error:
            raise ArenaError(
                f"cannot lock '{self._folder}': {error.strerror or error}; choose another --output"
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _write_owner(file: int) -> None:
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
