"""Learning curves for the simulator from what was measured: a table of one's own, or recorded competitions."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from arena_jax.arena.simulate import Curves
from arena_jax.config.errors import ArenaError, few, nearest

COLUMNS = ("run", "model", "seconds", "score")
_POINTS = 401


class Curve(NamedTuple):
    """Of one model in one run.

    Attributes:
        seconds: [evaluations], device-seconds spent on it, rising.
        scores: [evaluations], higher is better.
    """

    seconds: np.ndarray
    scores: np.ndarray


Run = Mapping[str, Curve]


def read_curves(path: Path) -> list[dict[str, Curve]]:
    """Read a CSV file with the columns run, model, seconds and score, a line an evaluation.

    Args:
        path: of the file; lines in any order.

    Returns:
        A run each, in the order in which they first appear, ``{model: its curve}``.

    Raises:
        ArenaError: a missing column, or a line that is no evaluation, with its number.
    """
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            for column in COLUMNS:
                if column not in (lines.fieldnames or ()):
                    hint = nearest(column, lines.fieldnames or ("nothing",))
                    raise ArenaError(f"{path} has no column '{column}'; {hint}: the columns are {', '.join(COLUMNS)}")
            for line in lines:
                try:
                    seconds, score = float(line["seconds"]), float(line["score"])
                except (TypeError, ValueError):
                    seconds, score = math.nan, math.nan
                if None in line or not math.isfinite(seconds) or seconds < 0 or math.isinf(score):
                    raise ArenaError(f"{path}, line {lines.line_num}: seconds and score must be numbers, seconds ≥ 0")
                points.setdefault(line["run"], {}).setdefault(line["model"], []).append((seconds, score))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArenaError(f"cannot read the curves {path}: {error}") from None
    if not points:
        raise ArenaError(f"{path} holds no evaluation: a line each is needed, with {', '.join(COLUMNS)}")
    return [{model: Curve(*np.array(sorted(pairs)).T) for model, pairs in run.items()} for run in points.values()]


def as_curves(runs: Sequence[Run]) -> tuple[Curves, list[str]]:
    """Put recorded curves on one axis.

    Args:
        runs: of the same models.

    Returns:
        Curves with scores [runs, models, points], straight between evaluations, models in the first run's order; and
        what a person should know of them, a sentence each: how far they reach, as beyond its end a curve stays flat.

    Raises:
        ArenaError: runs of different models, or a curve of fewer than two evaluations or with two at one time.

    Example:
        >>> curve = Curve(np.array([0.0, 10.0]), np.array([-4.0, -2.0]))
        >>> curves, notes = as_curves([{"a": curve, "b": curve._replace(seconds=np.array([0.0, 5.0]))}])
        >>> print(curves.scores.shape, notes)
        (1, 2, 401) ['b was trained for 5 s of the 10 s that its curve is taken for: it stays flat from there']
    """
    names = list(runs[0])
    for number, run in enumerate(runs, start=1):
        if set(run) != set(names):
            raise ArenaError(
                f"run {number} is of {few(sorted(run))}, the first of {few(sorted(names))}: they must be alike"
            )
        for name, curve in run.items():
            if len(curve.seconds) < 2 or (np.diff(curve.seconds) <= 0).any():
                raise ArenaError(
                    f"run {number}, {name}: a curve needs two evaluations at least, each at another time; "
                    f"these are at {few([f'{second:g}' for second in curve.seconds])} seconds"
                )
    longest = max(curve.seconds[-1] for run in runs for curve in run.values())
    seconds = np.linspace(0, longest, _POINTS)
    scores = np.array([[np.interp(seconds, *run[name]) for name in names] for run in runs])
    notes = []
    for name in names:
        reach = min(run[name].seconds[-1] for run in runs)
        if reach < longest:
            notes.append(
                f"{name} was trained for {reach:,.4g} s of the {longest:,.4g} s that its curve is taken for: it stays "
                "flat from there"
            )
    return Curves(jnp.asarray(seconds, jnp.float32), jnp.asarray(scores, jnp.float32)), notes
