"""A run's models, step and state, read back from one of its checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path

from arena_jax.config import RunConfig
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runtime.devices import make_mesh
from arena_jax.training.build import Parts, build
from arena_jax.training.build_step import build_step
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step


def restore(run: Path, config: RunConfig, checkpoint: str = "newest") -> tuple[Parts, Step, TrainState]:
    """Read a checkpoint of a run, on one device.

    Args:
        run: the run's folder.
        config: of the run, from :func:`arena_jax.runs.folder.load_run`.
        checkpoint: ``"newest"`` that is whole, ``"best"`` (by the run's score) or a step.

    Returns:
        The parts of the run, its step, and the state.

    Raises:
        ArenaError: there is no such checkpoint, or none can be used.
    """
    parts = build(config, run / "tokenizers")
    step = build_step(config, parts.models, parts.objectives, mesh=make_mesh(1))
    checkpoints = Checkpoints(run / "checkpoints")
    state, _ = checkpoints.load(step.init(), checkpoints.find(checkpoint))
    for damage in checkpoints.damaged:
        print(f"the checkpoint '{damage.path}' cannot be used: {damage.reason}; an older one is taken", file=sys.stderr)
    return parts, step, state
