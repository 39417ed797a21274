"""Compiled programs kept on disk for later runs: JAX's persistent cache, used when it is asked for."""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from arena_jax.config.errors import ArenaError

_HIT = "/jax/compilation_cache/cache_hits"
_seen = threading.local()  # programs compile in the background too: each thread counts its own


def use_compilation_cache(folder: str | Path) -> None:
    """Keep every compiled program in a folder from now on, and take those that are already in it.

    What is in the folder is executed: it must be one that nobody else can write to. Without this, JAX's own
    ``JAX_COMPILATION_CACHE_DIR`` does the same for programs that took more than a second to compile.

    Args:
        folder: made if it is not there.

    Raises:
        ArenaError: it cannot be made or written to.

    Example:
        >>> use_compilation_cache("/dev/null/programs")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: cannot keep compiled programs in '/dev/null/programs': Not a directory; ...
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".arena-jax"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ArenaError(
            f"cannot keep compiled programs in '{folder}': {error.strerror}; give another --compilation-cache"
        ) from None
    jax.config.update("jax_compilation_cache_dir", str(path.absolute()))
    # A competition compiles many small programs: each costs less than the second from which JAX would keep it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # JAX looks for a cache once, and may have found none


def compiled(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, float, bool]:
    """Compile a program.

    Args:
        lowered: from ``jax.jit(f).lower(…)``.

    Returns:
        The program, the seconds it took, and whether it came from a cache on disk.

    Example:
        >>> program, seconds, cached = compiled(jax.jit(lambda x: x + 1).lower(1.0))
        >>> float(program(2.0))
        3.0
    """
    _listen()
    before, start = getattr(_seen, "hits", 0), time.perf_counter()
    program = lowered.compile()
    return program, time.perf_counter() - start, getattr(_seen, "hits", 0) > before


@functools.cache
def _listen() -> None:
    def count(event: str, **_: Any) -> None:
        if event == _HIT:
            _seen.hits = getattr(_seen, "hits", 0) + 1

    jax.monitoring.register_event_listener(count)
