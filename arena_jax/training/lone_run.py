"""One model of a run by itself: the configuration that one would write to train it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from arena_jax.config import RunConfig
from arena_jax.config.together import TogetherConfig
from arena_jax.config.units import parse_duration
from arena_jax.runs.session import Session
from arena_jax.runs.signals import Stopped


def lone_run(config: RunConfig, name: str, steps: int) -> RunConfig:
    """The run of one model alone, for so many steps: what its numbers are compared with, to the bit.

    Args:
        config: of the run that it belongs to.
        name: of the model.
        steps: of its own run.

    Example:
        >>> from arena_jax.config import presets
        >>> run = lone_run(presets.get("joint-synthetic"), "gpt2", 5)
        >>> [model.name for model in run.models], run.training.steps, run.training.epochs
        (['gpt2'], 5, None)
    """
    return dataclasses.replace(
        config,
        models=(dataclasses.replace(config.model(name), teacher_weight=1.0),),
        training=dataclasses.replace(config.training, steps=steps, epochs=None, output=None, mirror=None),
        together=TogetherConfig(ema=config.together.ema),
        optimizer=dataclasses.replace(config.optimizer, weights_follow="none"),
    )


def in_time_left(session: Session, run: RunConfig) -> RunConfig:
    """A run inside another's folder, with what is left of the time of the other's session.

    Args:
        session: of the whole run, before :meth:`Session.begin`.
        run: from :func:`lone_run`.
    """
    limit = session.config.training.stop_after
    if limit is None:
        return run
    left = max(0.001, parse_duration(limit) - session.clock()["seconds"])  # none left: it stops after one step
    return dataclasses.replace(run, training=dataclasses.replace(run.training, stop_after=f"{left:.3f}s"))


def train_inside(session: Session, run: RunConfig, folder: Path, total_steps: int, train: Callable[..., Path]) -> None:
    """Train a run inside another's folder, or go on with it.

    Args:
        session: of the whole run, before :meth:`Session.begin`.
        run: from :func:`lone_run`.
        folder: of this run.
        total_steps: of the whole run, for who stops it.
        train: :func:`arena_jax.training.train`.

    Raises:
        Stopped: naming the whole run's folder.
    """
    try:
        train(in_time_left(session, run), folder, resume=(folder / "config.json").is_file())
    except Stopped as stopped:
        raise Stopped(session.folder, stopped.step, total_steps) from None
