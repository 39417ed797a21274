"""Where a run begins: at its first step, or at the newest checkpoint that is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.records import FILE, read
from arena_jax.runs.same_run import changes
from arena_jax.runtime import processes
from arena_jax.runtime.devices import distribute


def newest(checkpoints: Checkpoints | None, state: Any, config: RunConfig) -> tuple[Any, dict[str, Any]]:
    """The state to go on with: the newest checkpoint that is whole.

    Args:
        checkpoints: of the run; None: it begins.
        state: before the first step; or a function from a checkpoint's metadata, empty at the beginning, to a state
            of the shapes that models have there.
        config: of the run, which the checkpoint must have been written under.

    Returns:
        The state, and the position. A run that was killed before it saved anything begins again: ``state`` as it is,
        and an empty position.

    Raises:
        ArenaError: there are checkpoints, and none can be used, or the configuration was changed since.
    """
    if checkpoints is None or (not processes.several() and checkpoints.latest is None):
        return (state({}) if callable(state) else state), {}
    if processes.several():
        state, position = _newest_for_all(checkpoints, state)
    else:
        state, position = checkpoints.load(state)
    if position:
        changed = changes(configuration.from_dict(position["config"]), config)
        if changed:
            raise ArenaError(
                f"'{checkpoints.folder.parent}' was begun with another configuration: {'; '.join(changed)}; change it "
                "back in config.json, or start a new run"
            )
    return state, position


def _newest_for_all(checkpoints: Checkpoints, state: Any) -> tuple[Any, dict[str, Any]]:
    """Process 0 reads for all: no two may take different checkpoints to be the newest whole one."""
    local = SingleDeviceSharding(jax.local_devices()[0])
    loaded: list[Any] = []

    def state_at(metadata: dict[str, Any]) -> Any:
        return state(metadata) if callable(state) else state

    def load() -> dict[str, Any]:
        if checkpoints.latest is None:
            return {}
        state_loaded, position = checkpoints.load(
            lambda metadata: jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=local), state_at(metadata)
            )
        )
        loaded.append(state_loaded)
        return position

    position = processes.on_first(load)
    like = state_at(position)
    if not position:
        return like, {}
    here = loaded[0] if loaded else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    return distribute(here, jax.tree.leaves(like)[0].sharding.mesh), position


def has_ended(folder: Path) -> bool:
    """Whether a run's records hold its end."""

    def look() -> bool:
        records = read(folder) if (folder / FILE).exists() else []
        return bool(records) and records[-1]["kind"] == "end"

    return processes.on_first(look)
