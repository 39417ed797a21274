"""Files that `git clone` without git-lfs leaves: 130 bytes that point to the real content."""

from __future__ import annotations

from pathlib import Path

from arena_jax.config.errors import ArenaError

_START = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path, start: bytes | None = None) -> None:
    """Refuse a file that only points to its content.

    Args:
        path: of the file; one that cannot be read is left to whoever reads it next.
        start: its first bytes, where they are read already.

    Raises:
        ArenaError: the file is a pointer; with what to do.
    """
    if start is None:
        try:
            with path.open("rb") as file:
                start = file.read(len(_START))
        except OSError:
            return
    if start.startswith(_START):
        raise ArenaError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs install` and `git lfs pull` in its "
            "folder, or fetch it with `hf download`"
        )
