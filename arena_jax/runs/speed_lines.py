"""How fast a run was, for people: tokens per second, and the part of what the devices can."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def speed_lines(trains: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line about the speed of training, of its records; none where they do not say.

    Example:
        >>> speed_lines([{"tokens_per_second": 5120.0, "mfu": 0.41, "peak": 3.1e11}])
        ['5,120 tokens/s, median over the lines above; matrix products took 41 % of the peak of 310 GFLOP/s (MFU)']
    """
    tokens = [record["tokens_per_second"] for record in trains if "tokens_per_second" in record]
    parts = [(record["mfu"], record["peak"]) for record in trains if "mfu" in record]
    if not tokens:
        return []
    line = f"{statistics.median(tokens):,.0f} tokens/s, median over the lines above"
    if parts:
        mfu, peak = (statistics.median(values) for values in zip(*parts, strict=True))
        line += f"; matrix products took {100 * mfu:.2g} % of the peak of {peak / 1e9:,.0f} GFLOP/s (MFU)"
    return [line]
