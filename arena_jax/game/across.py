"""The same game at several sizes of one family: what of it stays, and what moves with the size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.game.ablation import AblationGame
from arena_jax.game.nested import between, groups_of_blocks, owen
from arena_jax.game.players import HEAD, fine_players
from arena_jax.game.subject import Subject, load_subject
from arena_jax.game.utilities import measure
from arena_jax.game.worth import interactions, leave_one_out, shapley

MEASUREMENTS = {
    "loss": "nats, all parts at work",
    "heads' share": "of v(N) − v(∅), shared by Shapley between all heads and all neurons",
    "worthless": "share of the players that are worth nothing or less, by leave-one-out",
    "pairs": "mean |interaction| of two players over the mean |worth| of one",
    "substitutes": "share of the pairs of which one can replace the other",
    "entropy and worth": "Spearman's correlation over heads: even attention, leave-one-out",
    "Owen predicts": "Spearman's correlation over blocks: Owen's value, and what closing the block costs on other text",
    "parts predict": "the same, of the sum of its players' leave-one-out values",
}


class Trend(NamedTuple):
    """A straight line through one measurement over log₁₀ of the parameters.

    Attributes:
        slope: change per tenfold of the parameters; NaN where all sizes are one, or values are missing.
        low: of its 95 % interval (Student's, over the runs); NaN below three runs.
        high: see low.
        runs: how many had a value.
    """

    slope: float
    low: float
    high: float
    runs: int

    @property
    def verdict(self) -> str:
        """In words."""
        if not math.isfinite(self.low):
            return "cannot be determined"
        return "no trend is shown" if self.low <= 0 <= self.high else "rises" if self.slope > 0 else "falls"


def trend(parameters: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit the line.

    Args:
        parameters: of each run's model.
        values: of the measurement; NaN is left out.

    Example:
        >>> line = trend([1e4, 1e5, 1e6], [1.0, 2.0, 3.0])
        >>> round(line.slope, 9), line.verdict
        (1.0, 'rises')
        >>> trend([1e4, 1e5], [1.0, 2.0]).verdict
        'cannot be determined'
    """
    x, y = np.log10(np.asarray(parameters, np.float64)), np.asarray(values, np.float64)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(x) < 2 or np.ptp(x) == 0:
        return Trend(math.nan, math.nan, math.nan, len(x))
    line = stats.linregress(x, y)
    if len(x) < 3:
        return Trend(float(line.slope), math.nan, math.nan, len(x))
    half = float(stats.t.ppf(0.975, len(x) - 2) * line.stderr)
    return Trend(float(line.slope), float(line.slope) - half, float(line.slope) + half, len(x))


def across(
    targets: Sequence[str | Path],
    *,
    dataset: str | None = None,
    model: str | None = None,
    max_length: int = 128,
    sequences: int = 16,
    groups: int = 4,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Play the same game in every model.

    Args:
        targets: runs' folders, or Hugging Face folders with ``dataset``.
        dataset: for all; each run's own if not given.
        model: which of each run's models; its first if not given.
        max_length: longest input in tokens, for Hugging Face folders.
        sequences: rows of the probe, of the calibration and of the text that groups' values are checked on.
        groups: of neurons per block.
        seed: of samples.
        tell: is called with each target as it begins.

    Returns:
        ``runs``: for each target its name, family, parameters and every one of ``MEASUREMENTS``; ``trends``: a
        :class:`Trend` of each.

    Raises:
        ArenaError: fewer than two targets, one twice, models of several families or tasks, or what a subject raises.
    """
    if len(targets) < 2:
        raise ArenaError("one model has no trend: name the runs of at least two sizes")
    places = [Path(target).resolve() for target in targets]
    if len(set(places)) < len(places):
        raise ArenaError("a run is named twice: name each once")
    rows: list[dict[str, Any]] = []
    for target in targets:
        tell(str(target))
        subject = load_subject(target, dataset=dataset, model=model, max_length=max_length)
        config = subject.model.config
        kind = (config.family, subject.model.task)
        if rows and kind != (rows[0]["family"], rows[0]["task"]):
            raise ArenaError(
                f"'{target}' is a {' of '.join(kind)}, '{targets[0]}' a {rows[0]['family']} of {rows[0]['task']}: "
                "name models of one family and task"
            )
        row = measurements(subject, sequences, groups, seed)
        rows.append({"target": str(target), "family": kind[0], "task": kind[1], **row})
    sizes = [row["parameters"] for row in rows]
    return {"runs": rows, "trends": {name: trend(sizes, [row[name] for row in rows]) for name in MEASUREMENTS}}


def measurements(subject: Subject, sequences: int, groups: int, seed: int) -> dict[str, float]:
    """Every one of ``MEASUREMENTS`` in one model, and its number of parameters.

    Args:
        subject: the model and its data.
        sequences: rows of each text.
        groups: of neurons per block.
        seed: of samples.
    """
    table = fine_players(subject.model.config, groups)
    halves = subject.batches(subject.validation, 2 * sequences, min(8, sequences))
    if len(halves) < 2:
        raise ArenaError("the validation rows fill one batch, and half of them must be other text: give more rows")
    probe, other = halves[::2], halves[1::2]
    calibration = subject.batches(subject.train, sequences, 8)
    played, check = (
        AblationGame(subject.model, rows, subject.objective, table=table, calibration=calibration, seed=seed)
        for rows in (probe, other)
    )
    n, nested = len(table), groups_of_blocks(table)
    heads = np.array([kind == HEAD for kind in table.kinds])
    worth = leave_one_out(played, n).values
    pairs = interactions(played, n).values[np.triu_indices(n, 1)]
    kinds = shapley(between(played, [np.flatnonzero(heads).tolist(), np.flatnonzero(~heads).tolist()], n), 2).values
    without = np.ones((len(nested) + 1, n), bool)
    for row, block in zip(without[1:], nested, strict=True):
        row[[i for part in block for i in part]] = False
    values = check(without)
    cost = values[0] - values[1:]
    of_blocks = {
        "Owen predicts": owen(played, n, nested, seed=seed).values,
        "parts predict": worth,
    }
    sums = {name: [v[[i for part in block for i in part]].sum() for block in nested] for name, v in of_blocks.items()}
    return {
        "parameters": models.count_parameters(models.split(subject.model)[1]),
        "loss": -float(played(np.ones((1, n), bool))[0]),
        "heads' share": _ratio(kinds[0], kinds.sum()),
        "worthless": float((worth <= 0).mean()),
        "pairs": _ratio(np.abs(pairs).mean(), np.abs(worth).mean()),
        "substitutes": float((pairs < 0).mean()),
        "entropy and worth": _correlation(measure(played, "entropy").values[heads], worth[heads]),
        **{name: _correlation(np.array(sum_of_parts), cost) for name, sum_of_parts in sums.items()},
    }


def text(result: Mapping[str, Any]) -> str:
    """The result as a table: a row for each measurement, a column for each run, and the trend.

    Args:
        result: of :func:`across`.
    """
    runs = result["runs"]
    lines = [f"{'parameters':<20}" + "".join(f"{row['parameters']:>13,}" for row in runs) + "   change per tenfold"]
    for name in MEASUREMENTS:
        line: Trend = result["trends"][name]
        interval = f" [{line.low:+.3f}, {line.high:+.3f}]" if math.isfinite(line.low) else ""
        slope = f"{line.slope:+.3f}{interval}: " if math.isfinite(line.slope) else ""
        cells = "".join(f"{row[name]:>13.3f}" if math.isfinite(row[name]) else f"{'-':>13}" for row in runs)
        lines.append(f"{name:<20}{cells}   {slope}{line.verdict}")
    return "\n".join([*lines, "", *(f"{name}: {about}" for name, about in MEASUREMENTS.items())])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _correlation(a: Array, b: Array) -> float:
    """Spearman's; NaN where one side is constant or missing, or where two points would make any line."""
    use = np.isfinite(a) & np.isfinite(b)
    if use.sum() < 3 or np.ptp(a[use]) == 0 or np.ptp(b[use]) == 0:
        return math.nan
    return float(stats.spearmanr(a[use], b[use]).statistic)
