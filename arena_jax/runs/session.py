"""How a run is saved while it goes on, and where one that goes on begins; joint runs and competitions alike."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.console import Display
from arena_jax.runs.records import FILE, Records, Silence, read
from arena_jax.runtime import processes
from arena_jax.runtime.devices import replicate

Tree = TypeVar("Tree")

# What may be another at a resume: no number of the run depends on it.
_FREE = tuple(f"training.{name}: " for name in ("devices", "figures", "tensorboard", "keep_checkpoints", "output"))


def begin(checkpoints: Checkpoints, state: Tree, config: RunConfig, *, resume: bool) -> tuple[Tree, dict[str, Any]]:
    """The state to begin with: the newest checkpoint that is whole, or the given one.

    Args:
        checkpoints: of the run.
        state: before the first step.
        config: of the run, which the checkpoint must have been written under.
        resume: go on. A run that was killed before it saved anything begins again.

    Returns:
        The state, and the position: empty at the beginning.

    Raises:
        ArenaError: there are checkpoints, and none can be used, or the configuration was changed since.
    """
    if processes.several():
        state, position = _begin_together(checkpoints, state, resume=resume)
    elif not resume or checkpoints.latest is None:
        return state, {}
    else:
        state, position = checkpoints.load(state)
    if position:
        changed = configuration.differences(configuration.from_dict(position["config"]), config)
        changed = [one for one in changed if not one.startswith(_FREE)]
        if changed:
            raise ArenaError(
                f"'{checkpoints.folder.parent}' was begun with another configuration: {'; '.join(changed)}; change it "
                "back in config.json, or start a new run"
            )
    return state, position


def _begin_together(checkpoints: Checkpoints, state: Tree, *, resume: bool) -> tuple[Tree, dict[str, Any]]:
    """Process 0 reads for all: no two may find another checkpoint to be the newest whole one."""
    own = SingleDeviceSharding(jax.local_devices()[0])
    found = [jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)]

    def load() -> dict[str, Any]:
        if not resume or checkpoints.latest is None:
            return {}
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own), state)
        found[0], position = checkpoints.load(like)
        return position

    position = processes.on_first(load)
    if not position:
        return state, {}
    return replicate(found[0], jax.tree.leaves(state)[0].sharding.mesh), position


def has_ended(folder: Path) -> bool:
    """Whether a run's records hold its end."""

    def look() -> bool:
        records = read(folder) if (folder / FILE).exists() else []
        return bool(records) and records[-1]["kind"] == "end"

    return processes.on_first(look)


class Saving:
    """Writes a run's records and checkpoints, so that each checkpoint knows which records came before it.

    Nothing that goes wrong with the disk stops the run: it is told, and recorded as soon as that is possible.

    Args:
        folder: of the run.
        checkpoints: open for writing.
        records: open.
        screen: shows what is recorded.
        config: of the run; each checkpoint holds it.
        resume: the run goes on; what was damaged is put aside and told.
        position: from :func:`begin`.
        at: the step it begins at.
        began: when this session began, by ``time.perf_counter``.
    """

    def __init__(
        self,
        folder: Path,
        checkpoints: Checkpoints,
        records: Records | Silence,
        screen: Display,
        *,
        config: RunConfig,
        resume: bool,
        position: Mapping[str, Any],
        at: int,
        began: float,
    ) -> None:
        self._config = configuration.to_dict(config)
        self._folder, self._checkpoints, self._records, self._screen = folder, checkpoints, records, screen
        self._compiled = (
            Counter(r["program"] for r in read(folder) if r["kind"] == "compile") if resume else Counter[str]()
        )
        self._saved = at if position else None
        self._began = began - position.get("seconds", 0.0)
        self._compiling = position.get("compiling", 0.0)
        self._unsaved = "there was no room for the records"
        used = folder / "checkpoints" / str(at)
        for one in checkpoints.set_aside():
            self.trouble(
                at,
                "damaged",
                f"the checkpoint of step {one.step:,} cannot be used: {one.reason}; it is now {one.path.name}, "
                f"and the run goes on from {used.name}",
                checkpoint=str(one.path),
                used=str(used),
            )

    def emit(self, kind: str, at: int, **fields: Any) -> None:
        """Record something and show it."""
        self._screen.show(self._records.write(kind, at, **fields))

    def trouble(self, at: int, what: str, text: str, **fields: Any) -> None:
        """Record that something went wrong, and show it."""
        self.emit("trouble", at, what=what, text=text, **fields)

    def compiled(
        self, at: int, program: str, seconds: float, size: int, cached: bool = False, *, again: bool = False
    ) -> None:
        """Record a program; only show it where a run that goes on has made again what its records hold already.

        A competition, which makes programs of one name more than once, says itself which it has made again.
        """
        self._compiling += seconds
        told = {"program": program, "seconds": seconds, "bytes": size, "cached": cached}
        made = not program.startswith("gradients of ") and self._compiled[program] > 0
        if made or again:
            self._compiled[program] -= made
            self._screen.show({"kind": "compile", "step": at, "time": time.time(), **told})
            return
        self.emit("compile", at, **told)

    def look(self, at: int) -> None:
        """Tell what went wrong in the background since the last look."""
        reason = self._checkpoints.trouble()
        if reason is not None:
            self._saved, self._unsaved = self._checkpoints.latest, reason
            last = "there is none yet" if self._saved is None else f"the last one is of step {self._saved:,}"
            self.trouble(at, "checkpoint", f"a checkpoint could not be written: {reason}; {last}, and the run goes on")
        told = self._records.trouble()
        if told is not None:
            self.trouble(at, "records", told)

    def save(self, at: int, state: Any, position: Mapping[str, Any], score: float | None) -> None:
        """Start writing a checkpoint.

        Args:
            at: steps (of a competition: rounds) taken.
            state: arrays; copied before this returns.
            position: everything else that a resumed run needs, less the records'.
            score: mean validation loss over the models, as last evaluated; None before the first evaluation.
        """
        snapshot = self._checkpoints.take(state)
        self.look(at)
        path = str(self._folder / "checkpoints" / str(at))
        self.emit("checkpoint", at, path=path, seconds=snapshot.seconds)
        try:
            self._records.sync()
        except OSError as error:
            self._unsaved = error.strerror or str(error)
            return
        if self._records.waiting:
            # A checkpoint that counts on lines which are on no disk could not be resumed.
            self.look(at)
            self._unsaved = "there was no room for the records"
            return
        self._saved = at
        held = {**position, **self.clock(), "config": self._config, "records": self._records.position}
        self._checkpoints.write(at, snapshot, held, score=score)

    def finish(self, at: int) -> None:
        """Wait for the disk.

        Raises:
            ArenaError: the last state is not on it.
        """
        self._checkpoints.wait()
        self.look(at)
        if self._saved != at:
            on = "begins again" if self._saved is None else f"goes on from step {self._saved:,}"
            raise ArenaError(
                f"the state after step {at:,} could not be saved ({self._unsaved}); make room, then "
                f"`arena-jax resume {self._folder}` {on}"
            )

    def clock(self) -> dict[str, float]:
        """How long the run has taken, all its sessions together.

        Returns:
            "seconds" at work, and of these "compiling", what a resumed run makes again at once included. Work that
            was lost with a killed session is not in them.
        """
        return {"seconds": time.perf_counter() - self._began, "compiling": self._compiling}

    @property
    def saved(self) -> int | None:
        """The step of the last checkpoint that was begun and has not failed."""
        return self._saved
