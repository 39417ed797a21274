"""A run's models, step and state, read back from one of its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import data
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runtime.devices import make_mesh
from arena_jax.training.build import Parts, build
from arena_jax.training.build_step import build_step
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step


def restore(
    run: Path, config: RunConfig, checkpoint: str = "newest", splits: Mapping[str, data.Dataset] | None = None
) -> tuple[Parts, Step, TrainState]:
    """Read a checkpoint of a run, on one device.

    Args:
        run: the run's folder.
        config: of the run, from :func:`arena_jax.runs.folder.load_run`.
        checkpoint: ``"newest"`` that is whole, ``"best"`` (by the run's score), a step,
            ``"ema"`` (the newest, with the running averages in the parameters' place), or ``"mean:K"`` (the mean of the
            parameters of the last K checkpoints).
        splits: the run's data, where they are read already; see :func:`arena_jax.training.build.load_splits`.

    Returns:
        The parts of the run, its step, and the state.

    Raises:
        ArenaError: there is no such checkpoint, or none can be used.
    """
    parts = build(config, run / "tokenizers", splits)
    step = build_step(config, parts.models, parts.objectives, mesh=make_mesh(1))
    checkpoints = Checkpoints(run / "checkpoints")
    if checkpoint == "ema":
        state = averaged(run, checkpoints.load(step.init())[0])
    elif checkpoint.startswith("mean:"):
        state = mean_state(checkpoints, step.init(), checkpoint.removeprefix("mean:"))
    else:
        state, _ = checkpoints.load(step.init(), checkpoints.find(checkpoint))
    for damage in checkpoints.damaged:
        print(f"the checkpoint '{damage.path}' cannot be used: {damage.reason}; an older one is taken", file=sys.stderr)
    return parts, step, state


def averaged(run: Path, state: TrainState) -> TrainState:
    """The state with its running averages in the place of its parameters.

    Raises:
        ArenaError: the run has kept none.
    """
    if not state.averages:
        raise ArenaError(
            f"'{run}' has kept no running average: train with --ema, or take the checkpoints' mean, mean:3"
        )
    return state._replace(params={name: average.params for name, average in state.averages.items()})


def mean_state(checkpoints: Checkpoints, like: TrainState, count: str) -> TrainState:
    """The newest state with the mean of the last checkpoints' parameters, computed in double precision.

    Args:
        checkpoints: of the run.
        like: a state of its structure.
        count: K, at least 2, as a text.

    Raises:
        ArenaError: K is no such number, there are not so many checkpoints, or one of them cannot be used.
    """
    steps = checkpoints.steps
    if not count.isdecimal() or int(count) < 2:
        raise ArenaError(f"'mean:{count}' does not say how many: give 2 or more checkpoints, such as mean:3")
    if len(steps) < int(count):
        raise ArenaError(
            f"'{checkpoints.folder}' has {len(steps)} checkpoints, not {count}: keep more, with --checkpoint-every and "
            "--keep-checkpoints"
        )
    states = [checkpoints.load(like, step)[0] for step in steps[-int(count) :]]

    def mean(*leaves: jax.Array) -> jax.Array:
        exact = np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0)
        return jax.device_put(jnp.asarray(exact, leaves[0].dtype), leaves[0].sharding)

    return states[-1]._replace(params=jax.tree.map(mean, *[state.params for state in states]))
