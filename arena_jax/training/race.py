"""A race for the lead of a relay: each model trains alone for a short while, and the fastest learner leads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.config.together import RACE, TogetherConfig
from arena_jax.runs.records import read
from arena_jax.runs.resume import has_ended
from arena_jax.runs.session import Session
from arena_jax.training.lone_run import lone_run, train_inside
from arena_jax.transforms.learning_progress import learning_progress

FOLDER = "race"  # of the models' own short runs, inside the run's
EVALUATIONS = 4  # of a model in a race, at most: progress is the mean of what is gained between them


class Entry(NamedTuple):
    """What one model did in a race.

    Attributes:
        progress: mean gain in score from one evaluation to the next, relative to where the model stands (ModelArena,
            equation 1); 0 if it diverged.
        speed: progress per second of training between two evaluations: per device-second, times the run's devices,
            which are those of all models.
        steps: that it took.
        seconds: of training, in all.
        compile_seconds: beside them.
    """

    progress: float
    speed: float
    steps: int
    seconds: float
    compile_seconds: float


def race_steps(config: RunConfig, total_steps: int) -> int:
    """How many steps each model takes in the race; 0 without one.

    Raises:
        ArenaError: a run that is too short to have a race, a leader and followers.
    """
    if config.together.relay != RACE:
        return 0
    steps = max(EVALUATIONS, round(config.together.race_part * total_steps))
    in_all = steps * len(config.models)
    if in_all + 2 > total_steps:
        raise ArenaError(
            f"a race of {len(config.models)} models takes {in_all} steps of {total_steps}, which leaves none: give more"
            " steps, a smaller relay_race, or name the leader"
        )
    return steps


def entry_config(config: RunConfig, name: str, steps: int) -> RunConfig:
    """A model's run in a race: alone, for so many steps, with `EVALUATIONS` at most, and no ornaments."""
    every = math.ceil(steps / EVALUATIONS)
    run = lone_run(config, name, steps)
    training = dataclasses.replace(
        run.training,
        evaluate_every=every,
        log_every=every,
        checkpoint_every=None,
        keep_checkpoints=1,
        stop_after_no_gain=None,
        figures=False,
        tensorboard=False,
        track=(),
        histograms=False,
        profile=None,
    )
    return dataclasses.replace(run, training=training, together=TogetherConfig())


def run_race(session: Session, steps: int, total_steps: int, train: Callable[..., Path]) -> dict[str, Entry]:
    """Train each model alone, one after the other, or go on with those that have not finished.

    Args:
        session: of the run.
        steps: of each model.
        total_steps: of the run, for who stops it.
        train: :func:`arena_jax.training.train`.

    Returns:
        ``{model: what it did}``. It is read off what the runs wrote: a race that is over has one result, whatever the
        clock says later.

    Raises:
        Stopped: naming the run's folder.
    """
    entries = {}
    for model in session.config.models:
        folder = session.folder / FOLDER / model.name
        if not has_ended(folder):
            try:
                train_inside(session, entry_config(session.config, model.name, steps), folder, total_steps, train)
            except ArenaError:
                if not _has_diverged(folder):
                    raise
        result = entry(read(folder), session.config.training.score)
        entries[model.name] = result._replace(progress=0.0, speed=0.0) if _has_diverged(folder) else result
    return entries


def fastest(entries: Mapping[str, Entry]) -> str:
    """Who leads: the model with the most progress per device-second; of equals the first.

    Raises:
        ArenaError: no model has made any.

    Example:
        >>> slow, fast = Entry(0.2, 0.1, 8, 8.0, 0.0), Entry(0.1, 0.2, 8, 2.0, 0.0)
        >>> fastest({"bert": slow, "gpt2": fast})
        'gpt2'
    """
    leader = max(entries, key=lambda name: entries[name].speed)
    if entries[leader].speed <= 0:
        raise ArenaError(
            f"no model became better in a race of {entries[leader].steps} steps: give a larger relay_race, or name the"
            " leader"
        )
    return leader


def entry(records: Sequence[Mapping[str, Any]], metric: str) -> Entry:
    r"""A model's progress and its speed, off the records of its run.

    .. math:: \text{speed} = \lambda \Big/ \frac{1}{n} \sum_{j=1}^{n} s_j

    where :math:`\lambda` is the progress over all n pairs of evaluations, and :math:`s_j` are the seconds of training
    from one to the next: what came before the first evaluation is no part of either.

    Args:
        records: of the run, which has one model.
        metric: that it is judged by.

    Example:
        >>> trained = [{"kind": "train", "step": step, "seconds": 0.5} for step in (2, 4, 6)]
        >>> scored = [{"kind": "evaluation", "step": step, "models": {"m": {"loss": loss}}}
        ...           for step, loss in ((2, 3.0), (4, 2.0), (6, 1.0))]
        >>> entry([*trained, *scored], "loss")
        Entry(progress=0.5, speed=1.0, steps=6, seconds=1.5, compile_seconds=0.0)
    """
    sign = SCORES[metric].sign
    scores = {
        record["step"]: sign * next(iter(record["models"].values()))[metric]
        for record in records
        if record["kind"] == "evaluation"
    }
    spent = {record["step"]: record["seconds"] for record in records if record["kind"] == "train"}
    between = [
        sum(seconds for step, seconds in spent.items() if first < step <= last)
        for first, last in pairwise(sorted(scores))
    ]
    values = np.asarray([scores[step] for step in sorted(scores)])[:, None]
    progress = float(learning_progress(values, len(values))[0]) if sum(between) > 0 else 0.0
    compiling = sum(record["seconds"] for record in records if record["kind"] == "compile")
    return Entry(
        progress=progress,
        speed=progress / (sum(between) / len(between)) if progress else 0.0,
        steps=max((record["step"] for record in records), default=0),
        seconds=float(sum(spent.values())),
        compile_seconds=float(compiling),
    )


def _has_diverged(folder: Path) -> bool:
    return any(record["kind"] == "trouble" and record.get("what") == "non-finite" for record in read(folder))
