"""A relay: one model of a run, named or the fastest in a race, trains first, alone, and all others start from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.together import RACE
from arena_jax.runs.records import read
from arena_jax.runs.session import Session
from arena_jax.training.build import Parts
from arena_jax.training.lone_run import lone_run, train_inside
from arena_jax.training.race import Entry, fastest, race_steps, run_race
from arena_jax.training.restore import restore
from arena_jax.training.warm_start import warm_starts

FOLDER = "relay"  # of the leader's own run, inside the run's


class Relay(NamedTuple):
    """What the followers begin with.

    Attributes:
        config: of the run, every follower starting from the leader.
        parts: of the run, the leader as it is after its steps.
        resting: models that have finished: the leader, if there is one.
        steps: of the run that were before before: by the leader alone, and in the race for it.
        derived: what the first record says of it, a row each.
        spent: before the first step, as :func:`spent` says; None without a leader, and in a run that goes on.
    """

    config: RunConfig
    parts: Parts
    resting: tuple[str, ...]
    steps: int
    derived: list[tuple[str, str, str]]
    spent: dict[str, Any] | None = None


def leader_steps(config: RunConfig, total_steps: int) -> int:
    """How many of a run's steps its leader takes alone, of those that a race leaves; 0 without a leader.

    Raises:
        ArenaError: there are too few steps to divide.
    """
    if config.together.relay is None:
        return 0
    left = total_steps - len(config.models) * race_steps(config, total_steps)
    if left < 2:
        raise ArenaError("a relay has two parts: give 2 training steps or more")
    return min(left - 1, max(1, round(config.together.part * left)))


def followers_config(config: RunConfig, leader: str) -> RunConfig:
    """The run with every model that has no start of its own starting from the leader, unless it hands nothing down."""
    source = leader if config.together.relay_warm else None
    # The leader has started, from whatever it was, in its own run.
    followers = [
        dataclasses.replace(model, start=None, start_parts=())
        if model.name == leader
        else dataclasses.replace(model, start=model.start or source)
        for model in config.models
    ]
    together = dataclasses.replace(config.together, relay=leader, relay_race=None)
    return dataclasses.replace(config, models=tuple(followers), together=together)


def run_relay(session: Session, parts: Parts, total_steps: int, train: Callable[..., Path]) -> Relay:
    """Train the leader, or go on with it, in a run of its own inside the run's folder; before, race for who that is.

    It is the same run that it would be without the others, by the same code: its numbers are the same to the bit.

    Args:
        session: of the run, before :meth:`Session.begin`.
        parts: of the run.
        total_steps: of the run, those of the race and of the leader included.
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
    racing, steps = race_steps(config, total_steps), leader_steps(config, total_steps)
    before = steps + len(config.models) * racing
    if session.checkpoints.latest is not None:  # the followers have begun: all of it is in their checkpoints
        if leader == RACE:
            leader = next(record["relay"]["leader"] for record in read(session.folder) if record["kind"] == "start")
        return Relay(followers_config(config, leader), parts, (leader,), before, [])
    derived, entries = [], {}
    if leader == RACE:
        for model in config.models:
            _check_followers(config, model.name, parts)
        entries = run_race(session, racing, total_steps, train)
        leader = fastest(entries)
        speeds = ", ".join(f"{name} {entry.speed:.3g}" for name, entry in entries.items())
        derived.append(("race", f"{leader} learns fastest", f"progress per second: {speeds}; {racing} steps each"))
    else:
        _check_followers(config, leader, parts)
    most = "at most " if config.training.stop_after_no_gain else ""
    then = "the others start from it" if config.together.relay_warm else "it teaches the others from then on"
    how = f"{most}{steps:,} of {total_steps:,} steps alone, in {FOLDER}/; {then}"
    folder, alone = session.folder / FOLDER, lone_run(config, leader, steps)
    train_inside(session, alone, folder, total_steps, train)
    model = trained_model(folder, alone, parts)
    return Relay(
        followers_config(config, leader),
        parts._replace(models={**parts.models, leader: model}),
        (leader,),
        before,
        [*derived, ("relay", f"{leader} leads", how)],
        spent(leader, read(folder), entries),
    )


def _check_followers(config: RunConfig, leader: str, parts: Parts) -> None:
    """Refuse a leader that others cannot start from, before anything trains; their other starts are not looked at."""
    followers = followers_config(config, leader)
    only = [
        model if model.start == leader else dataclasses.replace(model, start=None, start_parts=())
        for model in followers.models
    ]
    warm_starts(dataclasses.replace(followers, models=tuple(only)), parts)


def spent(leader: str, records: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """What was spent before the first step: the steps, the seconds of training, and of compiling.

    Args:
        leader: by name.
        records: of its own run.
        entries: of the race, all of which count; empty where the leader was named.

    Example:
        >>> records = [{"kind": "train", "step": 9, "seconds": 2.0}, {"kind": "compile", "step": 0, "seconds": 1.0}]
        >>> race = {"a": Entry(0.1, 0.1, 4, 1.0, 0.5), "b": Entry(0.0, 0.0, 4, 3.0, 0.5)}
        >>> {name: value for name, value in spent("a", records, race).items() if name != "race"}
        {'leader': 'a', 'steps': 17, 'seconds': 6.0, 'compile_seconds': 2.0}
    """
    seconds = {
        kind: float(sum(record["seconds"] for record in records if record["kind"] == kind))
        for kind in ("train", "compile")
    }
    race = {"race": {name: entry._asdict() for name, entry in entries.items()}} if entries else {}
    return {
        "leader": leader,
        "steps": max(record["step"] for record in records) + sum(entry.steps for entry in entries.values()),
        "seconds": seconds["train"] + sum(entry.seconds for entry in entries.values()),
        "compile_seconds": seconds["compile"] + sum(entry.compile_seconds for entry in entries.values()),
        **race,
    }


def trained_model(folder: Path, config: RunConfig, parts: Parts) -> Any:
    """The leader, with the parameters of its own run's last checkpoint."""
    name = config.models[0].name
    _, _, state = restore(folder, config)
    structure, _ = models.split(parts.models[name])
    return models.merge(structure, state.params[name])
