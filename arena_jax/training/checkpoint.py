"""Checkpoints of a whole run: the one module that knows Orbax.

What is written are pure containers: the state's leaves under their paths (``params/bert/blocks/…``), and one JSON
object with the position (data streams, records, histories). Orbax writes in the background into a temporary folder and
renames it when it is complete, so a checkpoint that can be seen is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from arena_jax.errors import ArenaError

Tree = TypeVar("Tree")


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

    Use it as a context: leaving it waits for what is still being written.

    Args:
        folder: where they are; made if need be.
        keep: how many of the newest are kept; older ones are removed after a newer one is complete.

    Raises:
        ArenaError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        # Orbax tells each save and each choice at INFO and warns of what it decided itself; a run has its own records.
        logging.getLogger("absl").setLevel(logging.ERROR)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArenaError(
                f"cannot write checkpoints to '{folder}': {error.strerror}; choose another --output"
            ) from None
        self.folder = folder.absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self.folder,
            save_decision_policy=_Always(),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else int(newest.step)

    def save(self, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Start writing a checkpoint; returns when the device's arrays have been copied, not when they are on disk.

        Args:
            step: steps taken so far; a checkpoint of this step that is there already is left as it is.
            state: any pytree of arrays.
            position: what JSON can hold, for everything that is not an array.
        """
        if self.latest == step:
            return
        # On a CPU the "host copy" Orbax takes is the device's own memory, which the next step's donation hands to XLA.
        own = {name: _own(leaf) for name, leaf in flatten(state).items()}
        self._checkpointer.save_async(step, own, custom_metadata={"position": dict(position)})

    def wait(self) -> None:
        """Return when everything is on disk."""
        self._checkpointer.wait()

    def load(self, like: Tree, step: int | None = None) -> tuple[Tree, dict[str, Any]]:
        """Read a checkpoint back.

        Args:
            like: a state of the same structure; its arrays say shapes, dtypes and shardings, not values.
            step: which one; the newest if not given.

        Returns:
            The state and the position.

        Raises:
            ArenaError: there is none, or it holds other arrays than ``like``.
        """
        step = self.latest if step is None else step
        if step is None or not (self.folder / str(step)).is_dir():
            there = (
                ", ".join(str(c.step) for c in sorted(self._checkpointer.checkpoints, key=lambda c: c.step)) or "none"
            )
            which = "" if step is None else f"of step {step} "
            raise ArenaError(f"no checkpoint {which}in '{self.folder}'; there: {there}")
        wanted = flatten(like)
        try:
            stored = self._checkpointer.metadata(step)
            held: Any = stored.metadata
        except Exception:  # whatever Orbax and TensorStore meet in a broken folder
            held = None
        if not isinstance(held, Mapping) or not held:
            raise self._damaged(step)
        differences = _differences(wanted, held)
        if differences:
            raise ArenaError(
                f"checkpoint '{self.folder / str(step)}' holds another state: {'; '.join(differences[:3])}"
                + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
            )
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in wanted.items()
        }
        try:
            arrays = self._checkpointer.load(step, abstract)
        except Exception:
            raise self._damaged(step) from None
        ordered = [arrays[name] for name in wanted]
        position = (stored.custom_metadata or {}).get("position", {})
        return jax.tree.unflatten(jax.tree.structure(like), ordered), dict(position)

    def _damaged(self, step: int) -> ArenaError:
        others = [int(c.step) for c in self._checkpointer.checkpoints if int(c.step) != step]
        go_on = f"remove that folder to go on from step {max(others)}" if others else "there is no other: start anew"
        return ArenaError(f"checkpoint '{self.folder / str(step)}' is damaged and cannot be read; {go_on}")


class _Always:
    """Save whenever the loop asks: it has its own interval."""

    def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
        return True


def _own(array: jax.Array) -> jax.Array:
    return jnp.copy(array) if next(iter(array.devices())).platform == "cpu" else array


def _differences(wanted: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """What a checkpoint lacks, has too much, or has in another shape."""
    found = [f"'{name}' is missing" for name in sorted(set(wanted) - set(held))]
    found += [f"'{name}' is not of this run" for name in sorted(set(held) - set(wanted))]
    for name in sorted(set(wanted) & set(held)):
        shape = tuple(held[name].shape)
        if shape != tuple(wanted[name].shape):
            found.append(f"'{name}' has shape {shape}, not {tuple(wanted[name].shape)}")
    return found
