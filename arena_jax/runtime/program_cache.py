"""Compiled programs kept on disk, so that a second start does not compile them again; JAX's own cache underneath."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache

from arena_jax.config.errors import ArenaError
from arena_jax.config.user_cache import cache_folder

SIZE = 2**30  # bytes; JAX then drops what was not used for longest. The joint step of the demo takes 1 MB.
# As JAX compresses them. Below are single operations, compiled in 10 ms: dozens of files for every run, all of which
# JAX reads anew before it writes one.
_LEAST_SIZE = 4096
_LOCK_SECONDS = 10.0  # JAX waits as long for the same lock


def default_folder() -> Path:
    """Where programs are kept if nobody names a folder: ``$XDG_CACHE_HOME/arena_jax``, else ``~/.cache/arena_jax``.

    Raises:
        ArenaError: nobody knows where the home is.
    """
    try:
        return cache_folder()
    except RuntimeError:
        raise ArenaError("cannot keep compiled programs: there is no home folder; name a --compilation-cache") from None


def use_compilation_cache(folder: str | Path | None = None) -> None:
    """Keep compiled programs in a folder from now on, and take those that are already in it.

    It changes JAX's configuration for the whole process: the commands call it, importing this package does not. The
    folder holds `SIZE` bytes at most, or what ``JAX_COMPILATION_CACHE_MAX_SIZE`` says; several processes may use it.
    A process that was killed while it wrote leaves half a program, which is removed here.

    What is in the folder is executed. So it must be the user's own, and one that others cannot write to.

    Args:
        folder: made if it is not there, for its owner alone. `default_folder` if not given; then a
            ``JAX_COMPILATION_CACHE_DIR`` of the user's, with all that JAX knows to set about it, goes before.

    Raises:
        ArenaError: it cannot be made or written to, or is not safe.

    Example:
        >>> use_compilation_cache("/dev/null/programs")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: cannot keep compiled programs in '/dev/null/programs': Not a directory; name another ...
    """
    if folder is None and jax.config.values["jax_compilation_cache_dir"]:
        return
    path = (default_folder() if folder is None else Path(folder)).absolute()
    try:
        _make_private(path, default=folder is None)
        _remove_partial(path)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", _LEAST_SIZE)
    if jax.config.values["jax_compilation_cache_max_size"] == -1:
        jax.config.update("jax_compilation_cache_max_size", SIZE)
    compilation_cache.reset_cache()  # JAX looks for a cache once, and may not have seen one


def use_no_compilation_cache() -> None:
    """Keep no compiled program and take none, whatever ``JAX_COMPILATION_CACHE_DIR`` says."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()


@contextlib.contextmanager
def without_compilation_cache() -> Iterator[None]:
    """Compile everything anew for a while, what is in memory too: for code whose seconds of compiling count."""
    before = jax.config.values["jax_enable_compilation_cache"]
    use_no_compilation_cache()
    jax.clear_caches()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _make_private(path: Path, *, default: bool) -> None:
    """Make the folder for its owner alone, and refuse one into which others could put programs."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix":
        status = path.stat()
        if status.st_uid != os.getuid():
            raise _refusal(path, "it belongs to somebody else, and what is in it would be executed")
        if default and status.st_mode & 0o077:
            path.chmod(0o700)
        elif status.st_mode & 0o002:
            raise _refusal(path, "everybody can write to it, and what is in it would be executed")


def _remove_partial(path: Path) -> None:
    """Remove programs that were not written to their end; also proves that the folder can be written to.

    JAX writes a program, then the time of its last use beside it. Where a process is killed in between, the program is
    half there and stays so: JAX fails to read it in every run, and, for want of the time, to write any other.
    """
    lock = filelock.FileLock(path / ".lockfile")
    try:
        with lock.acquire(timeout=_LOCK_SECONDS):
            for program in path.glob("*-cache"):
                if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                    program.unlink(missing_ok=True)
    except filelock.Timeout:
        return  # another process has been writing all the time, so one is alive that has looked


def _refusal(path: Path, reason: str) -> ArenaError:
    return ArenaError(
        f"cannot keep compiled programs in '{path}': {reason}; name another --compilation-cache, or give "
        "--no-compilation-cache"
    )
