"""Checkpoints of a whole run: written in the background, verified, and read back from the newest that is whole.

A checkpoint is written into a hidden folder, read back, held against its checksums, and only then renamed to its step:
one that can be seen was whole when it appeared. The last ``keep`` stay, and with them the best; an older one goes after
a newer one has appeared, never before. What is found damaged is renamed aside, never deleted.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arena_jax.config.errors import ArenaError
from arena_jax.runs import checkpoint_files as files
from arena_jax.runs.checkpoint_files import Unreadable
from arena_jax.runs.mirror import Mirror
from arena_jax.runtime import processes

COPIES = 2  # of the state in host memory while a checkpoint is written: the snapshot, and what is read back (measured)
# Saves that a run in this process had begun when Ctrl-C ended it at once, by folder.
_LEFT: dict[Path, threading.Thread] = {}


class Damage(NamedTuple):
    """A checkpoint that could not be used.

    Attributes:
        step: the one it was of.
        path: its folder.
        reason: what is wrong with it.
        aside: what it is renamed to, after its step.
    """

    step: int
    path: Path
    reason: str
    aside: str


class Snapshot(NamedTuple):
    """A state in host memory.

    Attributes:
        arrays: ``{path within the state: array}``.
        seconds: that training waited for it, the end of the last save included.
    """

    arrays: dict[str, Any]
    seconds: float


def flatten(tree: Any) -> dict[str, jax.Array]:
    """A tree's leaves under their paths, ``a/b/0/c``.

    Example:
        >>> flatten({"params": {"bert": [1, 2]}})
        {'params/bert/0': 1, 'params/bert/1': 2}
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


class Checkpoints:
    """The checkpoints of one run, in ``folder/<step>``.

    Use it as a context: leaving it waits for what is still being written, unless by Ctrl-C.

    Args:
        folder: where they are.
        keep: how many of the newest are kept. Beside them the best stays, the one whose score is the lowest.
        writing: this run will write here: make the folder, and take away what a killed one left half-written.
        mirror: that each checkpoint is copied to, in the background too.

    Attributes:
        protected: steps that are kept in any case.
        damaged: what :meth:`load` found unusable.
        background_seconds: of the last save, beside the training.

    Raises:
        ArenaError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, keep: int = 2, writing: bool = False, mirror: Mirror | None = None) -> None:
        self.folder, self._keep = folder.absolute(), keep
        self.protected: set[int] = set()
        self.damaged: list[Damage] = []
        self.background_seconds = 0.0
        self._scores: dict[int, float | None] = {}
        self.mirror = mirror
        self._thread: threading.Thread | None = None
        self._trouble: str | None = None
        if writing:
            processes.on_first(self._prepare)

    def _prepare(self) -> None:
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArenaError(
                f"cannot write checkpoints to '{folder}': {error.strerror}; choose another --output"
            ) from None
        unfinished = _LEFT.pop(self.folder, None)
        if unfinished is not None:
            unfinished.join()
        for entry in folder.glob(".*"):
            if entry.suffix in (".partial", ".removed"):
                shutil.rmtree(entry, ignore_errors=True)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.wait()
        elif self._thread is not None:
            _LEFT[self.folder] = self._thread

    @property
    def steps(self) -> list[int]:
        """The steps there are checkpoints of, rising."""
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal() and entry.is_dir())

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return max(self.steps, default=None)

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the lowest score, the newer of two equal ones; None where none has one."""
        scores = {step: self._score(step) for step in self.steps}
        finite = [(score, -step) for step, score in scores.items() if score is not None and math.isfinite(score)]
        return -min(finite)[1] if finite else None

    # ---- writing ----

    def take(self, state: Any) -> Snapshot:
        """Copy a state to the host, after the last save has ended; then training may go on.

        Args:
            state: any pytree of arrays.

        Returns:
            The copy, for :meth:`write`.
        """
        start = time.perf_counter()
        if not processes.first():
            return Snapshot({}, 0.0)  # process 0 has all of it, and writes for all
        self._join()
        arrays = {name: files.to_host(leaf) for name, leaf in flatten(state).items()}
        return Snapshot(arrays, time.perf_counter() - start)

    def write(self, step: int, snapshot: Snapshot, position: Mapping[str, Any], *, score: float | None = None) -> None:
        """Write a snapshot in the background. What goes wrong is told by :meth:`trouble`.

        Args:
            step: steps taken so far; a checkpoint of this step that is there already is left as it is.
            snapshot: from :meth:`take`.
            position: what JSON can hold, for everything that is not an array.
            score: what the checkpoint is judged by; the lowest is kept.
        """
        self._join()
        if not processes.first() or step in self.steps:
            return
        content = {"position": dict(position), "score": score}
        self._thread = threading.Thread(
            target=self._write, args=(step, snapshot.arrays, content), name="checkpoint", daemon=True
        )
        self._thread.start()

    def save(self, step: int, state: Any, position: Mapping[str, Any], *, score: float | None = None) -> None:
        """Take a snapshot and write it: :meth:`take`, then :meth:`write`."""
        self.write(step, self.take(state), position, score=score)

    def trouble(self) -> str | None:
        """The reason, returned once, why the last save failed; None where it has not, or is still going on."""
        reason, self._trouble = self._trouble, None
        return reason

    def wait(self) -> None:
        """Return when everything is on disk, or has failed."""
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, step: int, arrays: dict[str, Any], content: Mapping[str, Any]) -> None:
        start = time.perf_counter()
        partial = self.folder / f".{step}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            files.write(partial, arrays, content)
            os.rename(partial, self.folder / str(step))
            self._scores[step] = content["score"]
            self._remove_old()
            if self.mirror is not None:
                self.mirror.copy(self.folder.parent, step, self.steps)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            self._trouble = _reason(error)
        self.background_seconds = time.perf_counter() - start

    def _remove_old(self) -> None:
        steps = self.steps
        staying = {*steps[-self._keep :], self.best, *self.protected}
        for step in steps:
            if step not in staying:
                # By another name first: half of a checkpoint must not look like one.
                removed = self.folder / f".{step}.removed"
                os.rename(self.folder / str(step), removed)
                shutil.rmtree(removed, ignore_errors=True)

    def _score(self, step: int) -> float | None:
        if step not in self._scores:
            try:
                score = files.read_content(self.folder / str(step))["score"]
            except Unreadable:
                score = None
            self._scores[step] = score
        return self._scores[step]

    # ---- reading ----

    def find(self, which: str) -> int | None:
        """The step of a checkpoint by name, for :meth:`load`.

        Args:
            which: ``"newest"``, ``"best"`` or a step.

        Raises:
            ArenaError: it is none of these, or no checkpoint was saved after an evaluation.
        """
        if which == "newest":
            return None
        if which == "best":
            if self.best is None:
                raise ArenaError(f"no checkpoint in '{self.folder}' has a score; take the newest, or name a step")
            return self.best
        if not which.isdecimal():
            raise ArenaError(f"there is no checkpoint '{which}': say newest, best or a step, such as 100")
        return int(which)

    def load(self, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Read a checkpoint back.

        Args:
            like: a state of the same structure; its arrays say shapes, dtypes and shardings, not values. Or a function
                from the position to such a state, where models change their shapes.
            step: which one. If not given, the newest that is whole; those that were passed over are in ``damaged``.

        Returns:
            The state and the position.

        Raises:
            ArenaError: there is none, it is damaged, or it holds other arrays than ``like``.
        """
        there = self.steps
        if not there or (step is not None and step not in there):
            which = "" if step is None else f"of step {step} "
            listed = ", ".join(map(str, there)) or "none"
            raise ArenaError(f"no checkpoint {which}in '{self.folder}'; there: {listed}")
        for candidate in reversed(there) if step is None else (step,):
            try:
                return self._load(like, candidate)
            except Unreadable as unreadable:
                if (self.folder / str(candidate)).is_dir():  # and was not removed by the run meanwhile
                    damage = Damage(candidate, self.folder / str(candidate), unreadable.reason, unreadable.aside)
                    self.damaged.append(damage)
        reasons = "; ".join(f"'{damage.path}': {damage.reason}" for damage in self.damaged)
        raise ArenaError(f"no checkpoint can be used; {reasons}; put one back, or start anew with another --output")

    def arrays(self, step: int) -> dict[str, Any]:
        """Read a checkpoint's arrays into host memory, ``{path within the state: array}``.

        Raises:
            Unreadable: it is not there, or damaged.
        """
        return files.read(self.folder / str(step))[0]

    def set_aside(self) -> list[Damage]:
        """Rename what :meth:`load` found damaged, so that its step can be saved again; nothing is deleted.

        Returns:
            The damaged ones, under their new names.
        """
        moved = []
        for damage in self.damaged:
            number, target = 1, damage.path.with_name(f"{damage.step}.{damage.aside}")
            while target.exists():
                number += 1
                target = damage.path.with_name(f"{damage.step}.{damage.aside}-{number}")
            os.rename(damage.path, target)
            moved.append(damage._replace(path=target))
        self.damaged = []
        return moved

    def _load(self, like: Any, step: int) -> tuple[Any, dict[str, Any]]:
        path = self.folder / str(step)
        content = files.read_content(path)
        expected_state = like(content["position"]) if callable(like) else like
        expected, leaves = flatten(expected_state), content["leaves"]
        differences = _differences(
            expected, {name: (tuple(shape), dtype) for name, (shape, dtype, _) in leaves.items()}
        )
        if differences:
            raise ArenaError(
                f"checkpoint '{path}' holds another state: {'; '.join(differences[:3])}"
                + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
            )
        arrays, content = files.read(path)
        # A copy, because a step donates its state: NumPy's memory is not XLA's to give away.
        ordered = [jax.device_put(jnp.array(arrays[name], copy=True), leaf.sharding) for name, leaf in expected.items()]
        return jax.tree.unflatten(jax.tree.structure(expected_state), ordered), content["position"]


def _differences(expected: Mapping[str, Any], stored: Mapping[str, tuple[tuple[int, ...], str]]) -> list[str]:
    """What a checkpoint lacks, has too much, or has in another shape or type."""
    texts = [f"'{name}' is missing" for name in sorted(set(expected) - set(stored))]
    texts += [f"'{name}' is not of this run" for name in sorted(set(stored) - set(expected))]
    for name in sorted(set(expected) & set(stored)):
        shape, dtype = stored[name]
        if shape != tuple(expected[name].shape):
            texts.append(f"'{name}' has shape {shape}, not {tuple(expected[name].shape)}")
        elif dtype != str(expected[name].dtype):
            texts.append(f"'{name}' is {dtype}, not {expected[name].dtype}")
    return texts


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: the system's, where it was the system."""
    if isinstance(error, Unreadable):
        return f"what was written is not what was to be written: {error.reason}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return "No space left on device" if "No space left" in text else text[:200] or type(error).__name__
