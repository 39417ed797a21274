"""Which models diverged: whose steps are skipped again and again, and what becomes of them.

A step whose loss or gradient is not finite is skipped by itself (see `make_step`): nothing of that model moves. Here
such steps are counted. After so many in a row a model goes back to the last checkpoint before them, or is frozen, or
the run stops. Everything is decided by step numbers, never by what happens to be known already, so that a run that was
interrupted decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.runs.checkpoint_files import Unreadable
from arena_jax.runs.checkpoints import Checkpoints, flatten

Tree = TypeVar("Tree")


class Divergence:
    """Counts the skipped steps of the models of one run.

    Args:
        models: their names.
        max_nonfinite_steps: skipped steps in a row after which a model counts as diverged; None: never.
        on_nonfinite: ``"restore"``, ``"freeze"`` or ``"stop"``.
        state: from :meth:`state` of an interrupted run.

    Attributes:
        skipped: ``{model: skipped steps in all}``.
        frozen: ``{frozen model: step}``.

    Example:
        >>> divergence = Divergence(("bert", "gpt2"), 2, "freeze")
        >>> divergence.count([{"bert": False, "gpt2": True}] * 2)
        >>> divergence.diverged(), divergence.skipped
        (['gpt2'], {'bert': 0, 'gpt2': 2})
    """

    def __init__(
        self,
        models: Sequence[str],
        max_nonfinite_steps: int | None,
        on_nonfinite: str,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._limit, self._action = max_nonfinite_steps, on_nonfinite
        before: Mapping[str, Any] = state or {}
        self._in_a_row: dict[str, int] = dict.fromkeys(models, 0) | dict(before.get("in_a_row", {}))
        self.skipped: dict[str, int] = dict.fromkeys(models, 0) | dict(before.get("skipped", {}))
        # Restored, and not one finite step since: to restore it again would be the same once more.
        self._on_trial: list[str] = list(before.get("on_trial", []))
        self.frozen: dict[str, int] = dict(before.get("frozen", {}))
        self._source: dict[str, int] = dict(before.get("source", {}))
        self._counted = int(before.get("counted", 0))
        self._waiting: list[dict[str, bool]] = [dict(step) for step in before.get("waiting", [])]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "in_a_row": dict(self._in_a_row),
            "skipped": dict(self.skipped),
            "on_trial": list(self._on_trial),
            "frozen": dict(self.frozen),
            "source": dict(self._source),
            "counted": self._counted,
            "waiting": [dict(step) for step in self._waiting],
        }

    @property
    def active(self) -> dict[str, np.bool_]:
        """``{model: whether it takes part}``, for the step."""
        return {name: np.bool_(name not in self.frozen) for name in self._in_a_row}

    @property
    def sources(self) -> set[int]:
        """The steps of the checkpoints that a model would be restored from."""
        return set(self._source.values())

    def count(self, skipped: Sequence[Mapping[str, bool]]) -> None:
        """Take note of steps, in order: ``{model that took part: whether its step was skipped}``."""
        self._waiting.extend(dict(step) for step in skipped)

    def diverged(self, before: int | None = None) -> list[str]:
        """Evaluate what was counted, and name the models that have diverged and are not frozen yet.

        Args:
            before: the step that is about to be taken; steps from the one before it on are not evaluated yet, because a
                run that goes on without a pause does not know of them. None: all are.
        """
        while self._waiting and (before is None or self._counted <= before - 2):
            for name, skipped in self._waiting.pop(0).items():
                self.skipped[name] += skipped
                self._in_a_row[name] = self._in_a_row[name] + 1 if skipped else 0
                if not skipped and name in self._on_trial:
                    self._on_trial.remove(name)
            self._counted += 1
        limit = self._limit
        return [
            name
            for name, count in self._in_a_row.items()
            if limit is not None and count >= limit and name not in self.frozen
        ]

    def mark_finite(self, step: int, losses: Mapping[str, float]) -> None:
        """Remember a checkpoint as one to go back to, for the models that are finite in it.

        Args:
            step: its step. The run saves there whether it was interrupted or not.
            losses: ``{model: validation loss}`` as last known.
        """
        for name, count in self._in_a_row.items():
            recent = [skipped[name] for skipped in self._waiting if name in skipped]
            if count == 0 and not any(recent) and name not in self.frozen and np.isfinite(losses.get(name, 0.0)):
                self._source[name] = step

    def forget_sources(self, name: str) -> None:
        """Never go back to a checkpoint of so far with a model: it has another shape now."""
        self._source.pop(name, None)

    @property
    def hopeless(self) -> str | None:
        """Why the run cannot go on, or None: a model diverged and shall stop it, or every model is frozen."""
        if self.frozen and (self._action == "stop" or len(self.frozen) == len(self._in_a_row)):
            names = ", ".join(self.frozen)
            return (
                f"{names}: the loss or gradient was not finite in step after step, and the run has stopped; start a "
                "new one with a lower learning rate, or with --on-nonfinite freeze to let the others go on"
            )
        return None

    def handle(self, name: str, step: int, state: Tree, checkpoints: Checkpoints) -> tuple[Tree, dict[str, Any]]:
        """Restore or freeze a model that has diverged.

        Args:
            name: the model.
            step: steps (rounds) taken.
            state: of the run.
            checkpoints: of the run.

        Returns:
            The state to go on with, and what is to be recorded: ``text``, ``model``, ``action``, ``steps``, ``source``.
        """
        count, why = self._in_a_row[name], "its loss or gradient was not finite"
        action, source = self._action, self._source.get(name)
        arrays: Mapping[str, np.ndarray] | None = None
        if action == "restore":
            if jax.process_count() > 1:
                action, why = "freeze", f"{why}, and a run of several processes does not go back"
            elif source is None:
                action, why = "freeze", f"{why}, and there is no checkpoint in which it was finite"
            elif name in self._on_trial:
                action, why = "freeze", f"{why}, and again since it went back to step {source:,}"
            else:
                checkpoints.wait()
                try:
                    arrays = checkpoints.arrays(source)
                except Unreadable as error:
                    action, why = "freeze", f"{why}, and the checkpoint of step {source:,} cannot be used: {error}"
        self._in_a_row[name] = 0
        event = {"model": name, "action": action, "steps": count}
        head = f"{name} sat out {count} steps in a row: {why};"
        if arrays is not None:
            self._on_trial.append(name)
            text = f"{head} it goes back to step {source:,}"
            return put_back(state, arrays, name, tuple(self._in_a_row)), {**event, "text": text, "source": source}
        self.frozen[name] = step
        rest = "the run stops" if action == "stop" else "it is frozen, and the others go on"
        return state, {**event, "text": f"{head} {rest}"}


def owner(path: Sequence[Any], names: Sequence[str]) -> str | None:
    """The model that a leaf of a run's state belongs to, or None: the first dictionary key that is a model's name.

    Example:
        >>> leaves = jax.tree_util.tree_leaves_with_path({"opt": [{"bert": {"gpt2": 1}}], "step": 2})
        >>> [owner(path, ("bert", "gpt2")) for path, _ in leaves]
        ['bert', None]
    """
    keys = (entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
    return next((key for key in keys if key in names), None)


def leaves_of(state: Any, name: str, names: Sequence[str]) -> list[Any]:
    """The leaves of a run's state that belong to one model.

    Example:
        >>> leaves_of({"opt": [{"bert": 1, "gpt2": 2}], "step": 3}, "gpt2", ("bert", "gpt2"))
        [2]
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [leaf for path, leaf in leaves if owner(path, names) == name]


def put_back(state: Tree, arrays: Mapping[str, np.ndarray], name: str, names: Sequence[str]) -> Tree:
    """A state in which one model's parameters and optimizer state are those of a checkpoint.

    Args:
        state: of the run; a copy is returned.
        arrays: of the checkpoint, by path.
        name: the model.
        names: of all models.

    Returns:
        The new state; every other leaf is the same array.
    """
    paths, tree = jax.tree_util.tree_flatten_with_path(state)
    stored = list(flatten(state))
    leaves = [
        jax.device_put(jnp.array(arrays[key], copy=True), leaf.sharding) if owner(path, names) == name else leaf
        for key, (path, leaf) in zip(stored, paths, strict=True)
    ]
    restored: Tree = jax.tree.unflatten(tree, leaves)
    return restored
