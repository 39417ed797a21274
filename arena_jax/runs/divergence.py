"""Which models are sick: whose steps are skipped again and again, and what becomes of them.

A step whose loss or gradient is not finite is skipped by itself (see `make_step`): nothing of that model moves. Here
such steps are counted. After so many in a row a model goes back to where it was last well, or is frozen, or the run
stops. Everything is decided by step numbers, never by what happens to be known already, so that a run that was
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
from arena_jax.runs.session import Saving

Tree = TypeVar("Tree")


class Health:
    """The models' health in one run.

    Args:
        names: of the models.
        after: skipped steps in a row after which something is done; None: never.
        action: ``"restore"``, ``"freeze"`` or ``"stop"``.
        state: from :meth:`state` of an interrupted run.

    Example:
        >>> health = Health(("bert", "gpt2"), 2, "freeze")
        >>> health.saw([{"bert": False, "gpt2": True}] * 2)
        >>> health.due(), health.skipped
        (['gpt2'], {'bert': 0, 'gpt2': 2})
    """

    def __init__(
        self, names: Sequence[str], after: int | None, action: str, state: Mapping[str, Any] | None = None
    ) -> None:
        self._after, self.action = after, action
        held: Mapping[str, Any] = state or {}
        self._row: dict[str, int] = dict.fromkeys(names, 0) | dict(held.get("row", {}))
        self.skipped: dict[str, int] = dict.fromkeys(names, 0) | dict(held.get("skipped", {}))
        # Restored, and not one good step since: to restore it again would be the same once more.
        self._on_trial: list[str] = list(held.get("on_trial", []))
        self.frozen: dict[str, int] = dict(held.get("frozen", {}))
        self.good: dict[str, int] = dict(held.get("good", {}))
        self._seen = int(held.get("seen", 0))
        self._waiting: list[dict[str, bool]] = [dict(one) for one in held.get("waiting", [])]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "row": dict(self._row),
            "skipped": dict(self.skipped),
            "on_trial": list(self._on_trial),
            "frozen": dict(self.frozen),
            "good": dict(self.good),
            "seen": self._seen,
            "waiting": [dict(one) for one in self._waiting],
        }

    @property
    def active(self) -> dict[str, np.bool_]:
        """``{model: whether it takes part}``, for the step."""
        return {name: np.bool_(name not in self.frozen) for name in self._row}

    def saw(self, skipped: Sequence[Mapping[str, bool]]) -> None:
        """Take note of steps, in order: ``{model that took part: whether its step was skipped}``."""
        self._waiting.extend(dict(one) for one in skipped)

    def due(self, before: int | None = None) -> list[str]:
        """Count what was seen, and name the models that something is to be done about.

        Args:
            before: the step that is about to be taken; steps from the one before it on are not counted yet, because a
                run that goes on without a pause does not know of them. None: all are counted.
        """
        while self._waiting and (before is None or self._seen <= before - 2):
            for name, skipped in self._waiting.pop(0).items():
                self.skipped[name] += skipped
                self._row[name] = self._row[name] + 1 if skipped else 0
                if not skipped and name in self._on_trial:
                    self._on_trial.remove(name)
            self._seen += 1
        sick = [name for name, row in self._row.items() if self._after is not None and row >= self._after]
        return [name for name in sick if name not in self.frozen]

    def note_good(self, at: int, losses: Mapping[str, float]) -> None:
        """Remember a checkpoint as one to go back to, for the models that are well.

        Args:
            at: its step. The run saves there whether it was interrupted or not.
            losses: ``{model: validation loss}`` as last known.
        """
        for name, row in self._row.items():
            lately = [one[name] for one in self._waiting if name in one]
            if row == 0 and not any(lately) and name not in self.frozen and np.isfinite(losses.get(name, 0.0)):
                self.good[name] = at

    @property
    def hopeless(self) -> str | None:
        """Why the run cannot go on, or None: a model is sick and shall stop it, or every model is frozen."""
        if self.frozen and (self.action == "stop" or len(self.frozen) == len(self._row)):
            names = ", ".join(self.frozen)
            return (
                f"{names}: the loss or gradient was not finite in step after step, and the run has stopped; start a "
                "new one with a lower learning rate, or with --sick-model freeze to let the others go on"
            )
        return None

    def act(self, name: str, at: int, state: Tree, checkpoints: Checkpoints, saving: Saving) -> Tree:
        """Do what is to be done about a sick model, and record it.

        Args:
            name: the model.
            at: steps (rounds) taken.
            state: of the run.
            checkpoints: of the run.
            saving: records it.

        Returns:
            The state to go on with.
        """
        row, why = self._row[name], "its loss or gradient was not finite"
        action, source = self.action, self.good.get(name)
        arrays: Mapping[str, np.ndarray] | None = None
        if action == "restore":
            if jax.process_count() > 1:
                action, why = "freeze", f"{why}, and a run of several processes does not go back"
            elif source is None:
                action, why = "freeze", f"{why}, and there is no checkpoint in which it was well"
            elif name in self._on_trial:
                action, why = "freeze", f"{why}, and again since it went back to step {source:,}"
            else:
                checkpoints.wait()
                try:
                    arrays = checkpoints.arrays(source)
                except Unreadable as error:
                    action, why = "freeze", f"{why}, and the checkpoint of step {source:,} cannot be used: {error}"
        self._row[name] = 0
        told = {"model": name, "action": action, "steps": row}
        head = f"{name} sat out {row} steps in a row: {why};"
        if arrays is not None:
            self._on_trial.append(name)
            saving.trouble(at, "sick model", f"{head} it goes back to step {source:,}", source=source, **told)
            return put_back(state, arrays, name, tuple(self._row))
        self.frozen[name] = at
        rest = "the run stops" if action == "stop" else "it is frozen, and the others go on"
        saving.trouble(at, "sick model", f"{head} {rest}", **told)
        return state


def owner(path: Sequence[Any], names: Sequence[str]) -> str | None:
    """The model that a leaf of a run's state belongs to, or None: the first dictionary key that is a model's name.

    Example:
        >>> leaves = jax.tree_util.tree_leaves_with_path({"opt": [{"bert": {"gpt2": 1}}], "step": 2})
        >>> [owner(path, ("bert", "gpt2")) for path, _ in leaves]
        ['bert', None]
    """
    keys = (entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
    return next((key for key in keys if key in names), None)


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
