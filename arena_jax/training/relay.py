"""A relay: one model of a run trains first, alone, and all others start from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.together import TogetherConfig
from arena_jax.runs.records import read
from arena_jax.runs.session import Session
from arena_jax.runs.signals import Stopped
from arena_jax.training.build import Parts
from arena_jax.training.restore import restore
from arena_jax.training.warm_start import warm_starts

FOLDER = "relay"  # of the leader's own run, inside the run's


class Relay(NamedTuple):
    """What the followers begin with.

    Attributes:
        config: of the run, every follower starting from the leader.
        parts: of the run, the leader as it is after its steps.
        resting: models that have finished: the leader, if there is one.
        steps: that it took alone.
        derived: what the first record says of it, a row or none.
        spent: on the leader's own run: "steps", "seconds" of training and "compile_seconds"; None without a leader.
    """

    config: RunConfig
    parts: Parts
    resting: tuple[str, ...]
    steps: int
    derived: list[tuple[str, str, str]]
    spent: dict[str, float] | None = None


def leader_steps(config: RunConfig, total_steps: int) -> int:
    """How many of a run's steps its leader takes alone; 0 without one.

    Raises:
        ArenaError: there are too few steps to divide.
    """
    if config.together.relay is None:
        return 0
    if total_steps < 2:
        raise ArenaError("a relay has two parts: give 2 training steps or more")
    return min(total_steps - 1, max(1, round(config.together.part * total_steps)))


def leader_config(config: RunConfig, steps: int) -> RunConfig:
    """The leader's own run: what one would write to train it alone for so many steps."""
    leader = config.model(config.together.relay or "")
    return dataclasses.replace(
        config,
        models=(leader,),
        training=dataclasses.replace(config.training, steps=steps, epochs=None, output=None, mirror=None),
        together=TogetherConfig(ema=config.together.ema),
        optimizer=dataclasses.replace(config.optimizer, weights_follow="none"),
    )


def followers_config(config: RunConfig) -> RunConfig:
    """The run with every model that has no start of its own starting from the leader, unless it hands nothing down."""
    leader = config.together.relay
    source = leader if config.together.relay_warm else None
    # The leader has started, from whatever it was, in its own run.
    followers = [
        dataclasses.replace(model, start=None, start_parts=())
        if model.name == leader
        else dataclasses.replace(model, start=model.start or source)
        for model in config.models
    ]
    return dataclasses.replace(config, models=tuple(followers))


def run_relay(session: Session, parts: Parts, total_steps: int, train: Callable[..., Path]) -> Relay:
    """Train the leader, or go on with it, in a run of its own inside the run's folder.

    It is the same run that it would be without the others, by the same code: its numbers are the same to the bit.

    Args:
        session: of the run, before :meth:`Session.begin`.
        parts: of the run.
        total_steps: of the run, the leader's included.
        train: :func:`arena_jax.training.train`.

    Returns:
        What the followers begin with. Without a leader, the run as it is.

    Raises:
        ArenaError: the followers cannot start from the leader, which is found out first.
        Stopped: naming the run's folder.
    """
    config, leader = session.config, session.config.together.relay
    if leader is None:
        return Relay(config, parts, (), 0, [])
    steps, followers = leader_steps(config, total_steps), followers_config(config)
    most = "at most " if config.training.stop_after_no_gain else ""
    then = "the others start from it" if config.together.relay_warm else "it teaches the others from then on"
    how = f"{most}{steps:,} of {total_steps:,} steps alone, in {FOLDER}/; {then}"
    relay = Relay(followers, parts, (leader,), steps, [("relay", f"{leader} leads", how)])
    if session.checkpoints.latest is not None:  # the followers have begun: all of it is in their checkpoints
        return relay
    warm_starts(followers, parts)  # whether they fit, before the leader trains
    folder, alone = session.folder / FOLDER, leader_config(config, steps)
    try:
        train(alone, folder, resume=(folder / "config.json").is_file())
    except Stopped as stopped:
        raise Stopped(session.folder, stopped.step, total_steps) from None
    model = trained_model(folder, alone, parts)
    return relay._replace(parts=parts._replace(models={**parts.models, leader: model}), spent=spent_on(folder))


def spent_on(folder: Path) -> dict[str, float]:
    """The steps of the leader's run, its seconds of training, and of compiling."""
    records = read(folder)
    seconds = {
        kind: sum(record["seconds"] for record in records if record["kind"] == kind) for kind in ("train", "compile")
    }
    steps = max(record["step"] for record in records)
    return {"steps": steps, "seconds": seconds["train"], "compile_seconds": seconds["compile"]}


def trained_model(folder: Path, config: RunConfig, parts: Parts) -> Any:
    """The leader, with the parameters of its own run's last checkpoint."""
    name = config.models[0].name
    _, _, state = restore(folder, config)
    structure, _ = models.split(parts.models[name])
    return models.merge(structure, state.params[name])
