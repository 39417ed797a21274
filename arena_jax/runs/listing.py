"""What runs there are in a folder: one summary each, read from what they wrote; nothing is computed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax.config.errors import ArenaError
from arena_jax.runs.columns import columns
from arena_jax.runs.folder import load_run
from arena_jax.runs.records import FILE, read

RUNNING, ENDED, STOPPED, UNREADABLE = "running", "ended", "stopped", "unreadable"
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


class Summary(NamedTuple):
    """One run as a line of a list.

    Attributes:
        folder: of the run.
        task: of its models.
        models: their names.
        loss: mean validation loss of the last evaluation, in nats; None before the first.
        state: "running", "ended", "stopped" (it can be resumed) or "unreadable".
        progress: steps taken and, where that is known, of how many.
        age: seconds since its last record.
        disk: bytes of its files.
    """

    folder: Path
    task: str
    models: tuple[str, ...]
    loss: float | None
    state: str
    progress: str
    age: float
    disk: int

    def json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {**self._asdict(), "folder": str(self.folder), "models": list(self.models)}


def list_runs(root: Path) -> list[Summary]:
    """Every run in a folder, and in its folders, the newest first.

    Args:
        root: a run's folder, or one that holds some, two levels deep at most.

    Raises:
        ArenaError: there is no such folder.

    Example:
        >>> import tempfile
        >>> list_runs(Path(tempfile.mkdtemp()))
        []
    """
    if not root.is_dir():
        raise ArenaError(f"there is no folder '{root}': give the folder that your runs are in")
    return sorted((summarize(folder) for folder in folders(root)), key=lambda run: run.age)


def folders(root: Path) -> Iterator[Path]:
    """The folders of runs: those that have a format number and a configuration."""
    for pattern in ("", "*", "*/*"):
        for folder in sorted(root.glob(pattern)) if pattern else [root]:
            if (folder / "format").is_file() and (folder / "config.json").is_file():
                yield folder


def summarize(run: Path) -> Summary:
    """One run's summary; a folder that cannot be read is one too, of that state."""
    disk = disk_use(run)
    file = run / FILE
    written = (file if file.exists() else run / "config.json").stat().st_mtime
    age = max(0.0, time.time() - written)
    try:
        config = load_run(run)
        records = read(run) if file.exists() else []
    except ArenaError:
        return Summary(run, "", (), None, UNREADABLE, "", age, disk)
    losses: list[float] = []
    step, total = 0, None
    for record in records:
        step = record["step"]
        if record["kind"] == "start":
            total = record["steps"]
        if record["kind"] == "evaluation":
            losses = [metrics["loss"] for metrics in record["models"].values() if "loss" in metrics]
    ended = bool(records) and records[-1]["kind"] == "end"
    state = RUNNING if in_use(run) else ENDED if ended else STOPPED
    return Summary(
        run,
        config.task,
        tuple(model.name for model in config.models),
        sum(losses) / len(losses) if losses else None,
        state,
        f"{step:,}" if total is None else f"{step:,} of {total:,}",
        age,
        disk,
    )


def in_use(run: Path) -> bool:
    """Whether a process holds the run's lock; the lock is shared for a moment, and not taken."""
    try:
        with open(run / "lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def disk_use(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # a run at work removes its old checkpoints
                continue
    return total


def table(runs: list[Summary]) -> list[str]:
    """The list for a terminal."""
    rows = [("run", "task", "models", "step", "val. loss", "state", "age", "disk")]
    for run in runs:
        loss = "" if run.loss is None else f"{run.loss:.4f}"
        models = ", ".join(run.models)
        rows.append(
            (str(run.folder), run.task, models, run.progress, loss, run.state, duration(run.age), size(run.disk))
        )
    return columns(rows, right=(3, 4, 6, 7), rule=True)


def duration(seconds: float) -> str:
    """A length of time in one unit.

    Example:
        >>> duration(40), duration(7300), duration(200_000)
        ('40 s', '2 h', '2 d')
    """
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """An amount of memory in one unit.

    Example:
        >>> size(900), size(2_500_000)
        ('900 B', '2.5 MB')
    """
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
