"""The user's folder of caches, as the XDG specification has it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where this program keeps what it can make again: ``$XDG_CACHE_HOME/arena_jax``, else ``~/.cache/arena_jax``.

    Raises:
        RuntimeError: nobody knows where the home is.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the specification's rule: a relative one is ignored
        return Path(base) / "arena_jax"
    return Path.home() / ".cache" / "arena_jax"
