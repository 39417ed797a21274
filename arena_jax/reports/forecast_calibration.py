"""Whether forecasts of recorded competitions held what they promised, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arena_jax.arena.predictor import (
    COVERAGE,
    Calibration,
    Predictor,
    RecordedRun,
    calibration,
    fit_predictor,
    samples_of,
)
from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.config.errors import ArenaError
from arena_jax.reports.arms import read_run
from arena_jax.runs.document import Block, Paragraph, Table

_FEWEST_RUNS = 3  # one is held out, and the weights from one other have no width of their own
KINDS = {
    "curve": "the curve alone",
    "horizon": "… and other runs",
    "inputs": "… with parameters and memory",
}


class CalibrationOfRuns(NamedTuple):
    """Of several competitions.

    Attributes:
        kinds: ``{kind of predictor: calibration by run}``, the keys of `KINDS`.
        predictor: φ from all runs.
    """

    kinds: dict[str, Calibration]
    predictor: Predictor

    def coverage(self, kind: str) -> ConfidenceInterval:
        """The part of forecasts whose band held what came: mean over runs."""
        return confidence_interval(self.kinds[kind].coverage.tolist(), (0.0, 1.0))


def recorded_run(folder: Path) -> RecordedRun:
    """What is taken from a finished competition's folder.

    Raises:
        ArenaError: it is none.
    """
    run = read_run(folder)
    rows = np.maximum(np.searchsorted(run.dealt, run.fraction - 1e-12) - 1, 0)
    parameters = np.array([about["parameters"] for about in run.models.values()], float)
    return RecordedRun(run.scores, run.seconds, run.shares[rows], parameters)


def calibrate_runs(runs: Sequence[RecordedRun]) -> CalibrationOfRuns:
    """Hold forecasts of each run against what came, by predictors that have not seen it.

    Args:
        runs: competitions.

    Raises:
        ArenaError: there are too few, or one holds no forecast.
    """
    if len(runs) < _FEWEST_RUNS:
        raise ArenaError(f"{len(runs)} competitions cannot be held against one another: give {_FEWEST_RUNS} or more")
    samples = samples_of(runs)
    for number in range(len(runs)):
        if not (samples.run == number).any():
            raise ArenaError(f"competition {number + 1} has too few evaluations: a forecast takes 4, and one to come")
    return CalibrationOfRuns({kind: calibration(samples, kind) for kind in KINDS}, fit_predictor(samples))


def blocks(table: CalibrationOfRuns) -> Sequence[Block]:
    """Write the calibration for people."""
    runs = len(table.kinds["curve"].coverage)
    rows = []
    for kind, title in KINDS.items():
        error = confidence_interval(table.kinds[kind].error.tolist())
        rows.append((title, table.coverage(kind).text(".1f", 100), error.text(".4f")))
    level = f"{COVERAGE:.0%}".replace("%", " %")
    header = ("forecast by", f"held by the {level} band, %", "mean error")
    coverage, width = table.coverage("inputs"), table.predictor.width
    verdict = "agrees with" if coverage.low <= COVERAGE <= coverage.high else "does not agree with"
    count = int(table.kinds["curve"].forecasts.sum())
    difference = confidence_interval((table.kinds["inputs"].error - table.kinds["horizon"].error).tolist())
    better = "help" if difference.high < 0 else "harm" if difference.low > 0 else "are not shown to help"
    return [
        Table(header, rows),
        Paragraph(
            f"{count:,} forecasts of {runs} competitions, one, two, four, … evaluations ahead; each competition by "
            f"what the others taught. Brackets: 95 % intervals over competitions. The last band's "
            f"{coverage.text('.1f', 100)} % {verdict} {level}. Parameters and memory {better}: "
            f"error {difference.text('+.4f')}."
        ),
        Paragraph(
            "φ of all: "
            + ", ".join(
                f"{name} {weight:+.3f}"
                for name, weight in zip(
                    ("constant", "log parameters", "log memory", "log distance"), table.predictor.weights, strict=True
                )
            )
            + f"; half of the band is {width:.2f} times the curve's own uncertainty."
        ),
    ]


def as_json(table: CalibrationOfRuns) -> dict[str, Any]:
    """The predictor as ``--predictor`` reads it, and the calibration."""
    return {
        "predictor": [*table.predictor.weights, table.predictor.width],
        "level": COVERAGE,
        "kinds": {
            kind: {
                "coverage": each.coverage.tolist(),
                "error": each.error.tolist(),
                "forecasts": each.forecasts.tolist(),
            }
            for kind, each in table.kinds.items()
        },
    }
