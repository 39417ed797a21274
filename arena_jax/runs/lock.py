"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import processes


class Lock:
    """Holds a run's folder while its context lasts.

    The lock belongs to the open file, so the system takes it back when the process dies, however it dies: the file that
    a killed run leaves behind locks nobody out. The file names the owner, for the one who is refused. In a run of
    several processes only process 0 takes it.

    Args:
        folder: the run's folder; it must exist.

    Raises:
        ArenaError: on entry, when another process is at work in the folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Lock(folder):
        ...     with Lock(folder):
        ...         pass
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: '...' is in use by process ... on ...; wait for it, or stop it first
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: int | None = None

    def __enter__(self) -> Lock:
        processes.on_first(self._take)
        return self

    def _take(self) -> None:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise ArenaError(f"cannot lock '{self._path.parent}': {error.strerror}; choose another --output") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise ArenaError(f"'{self._path.parent}' is in use by {owner}; wait for it, or stop it first") from None
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._file = file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
