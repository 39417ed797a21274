"""The list of checks and how one is run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from parity import tolerances
from parity.measure import Measurement
from parity.report import Row

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Check:
    """One layer's comparison on one family, task and dtype.

    Attributes:
        layer: the layer of the cake, as the report names it.
        family: of the model, or "all" for what concerns several.
        task: of the model, or which variant.
        dtype: of our side.
        run: yields measurements.
        tolerance: the allowed error; None: the table of measured ones.
    """

    layer: str
    family: str
    task: str
    dtype: str
    run: Callable[[], Iterable[Measurement]]
    tolerance: float | None = None

    @property
    def name(self) -> str:
        """Layer/family/task/dtype."""
        return "/".join((self.layer, self.family, self.task, self.dtype))


def run(check: Check) -> Row:
    """Run one check; its worst measurement is the row. An exception is a failure that says what was raised."""
    start = time.perf_counter()
    worst, count = Measurement("nothing was compared", 0.0), 0
    for measurement in check.run():
        error = math.inf if math.isnan(measurement.error) else measurement.error
        if count == 0 or error > worst.error:
            worst = Measurement(measurement.where, error)
        count += 1
    if count and worst.error == 0:
        worst = Measurement(f"the same in all {count}", 0.0)
    tolerance = check.tolerance
    if tolerance is None:
        # A row without an entry fails until it has been recorded: nothing passes unmeasured.
        tolerance = tolerances.load().get(check.name, {"tolerance": 0.0})["tolerance"]
    return Row(
        layer=check.layer,
        family=check.family,
        task=check.task,
        dtype=check.dtype,
        error=worst.error,
        tolerance=tolerance,
        where=worst.where,
        comparisons=count,
        seconds=time.perf_counter() - start,
        fixed=check.tolerance is not None,
    )


def select(
    checks: Sequence[Check],
    *,
    family: str | None = None,
    task: str | None = None,
    dtype: str | None = None,
    layer: str | None = None,
) -> Iterator[Check]:
    """Those that concern what was asked for; None is everything."""
    for check in checks:
        asked = ((family, check.family), (task, check.task), (dtype, check.dtype), (layer, check.layer))
        if all(wanted in (None, own) for wanted, own in asked):
            yield check
