"""What of a run's files can go, and taking it away: never of a run at work, never what a resume would need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.folder import load_run, refuse_links
from arena_jax.runs.listing import disk_use
from arena_jax.runs.lock import Lock
from arena_jax.runs.resume import has_ended


class Garbage(NamedTuple):
    """A folder that can go.

    Attributes:
        path: of it.
        reason: a few words.
        size: bytes.
    """

    path: Path
    reason: str
    size: int


def find_garbage(run: Path, *, last: bool = False) -> list[Garbage]:
    """The files of a run that nothing needs.

    Of a run that has ended: every checkpoint but the newest and the best. Of any run: what a killed one left
    half-written, and checkpoints that were set aside as damaged. A run that has not ended keeps all its checkpoints:
    to go on to the bit, it may need an older one than the newest.

    Args:
        run: its folder.
        last: of a run that has ended, the newest and the best checkpoint too; records and figures stay.

    Raises:
        ArenaError: it is no run's folder, or a link leads out of it.
    """
    load_run(run)
    refuse_links(run)
    return list(_garbage(run, last))


def _garbage(run: Path, last: bool) -> Iterator[Garbage]:
    checkpoints = Checkpoints(run / "checkpoints")
    if not checkpoints.folder.is_dir():
        return
    for entry in sorted(checkpoints.folder.iterdir()):
        if entry.is_dir() and not entry.name.isdecimal():
            reason = "half-written" if entry.name.startswith(".") else "set aside as damaged"
            yield Garbage(entry, reason, disk_use(entry))
    if not has_ended(run):
        return
    staying = set() if last else {checkpoints.latest, checkpoints.best}
    for step in checkpoints.steps:
        if step not in staying:
            path = checkpoints.folder / str(step)
            reason = "a checkpoint of a run that has ended" if last else "an older checkpoint"
            yield Garbage(path, reason, disk_use(path))


def remove_garbage(run: Path, *, last: bool = False) -> list[Garbage]:
    """Take away what :func:`find_garbage` finds, while no other process can be at work in the folder.

    Args:
        run: its folder.
        last: see there.

    Returns:
        What was taken away.

    Raises:
        ArenaError: the run is at work, or see there.
    """
    load_run(run)
    with Lock(run):
        garbage = find_garbage(run, last=last)
        for entry in garbage:
            # By another name first: half of a checkpoint must not look like one.
            removed = entry.path.with_name(f".{entry.path.name.lstrip('.')}.removed")
            if removed != entry.path:
                entry.path.rename(removed)
            shutil.rmtree(removed)
    return garbage
