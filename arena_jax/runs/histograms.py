"""A run's histograms as its records hold them, as trackers take them, and as its page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

KINDS = ("gradients", "weights")


class Histogram(NamedTuple):
    """How often values lie in each of several bins of one width.

    Attributes:
        low: the first bin's lower edge.
        high: the last bin's upper edge.
        counts: of each bin.
        nonfinite: how many values were NaN or infinite, and are in none.

    Example:
        >>> Histogram(0.0, 1.0, (3, 1)).edges.tolist()
        [0.0, 0.5, 1.0]
    """

    low: float
    high: float
    counts: Sequence[int]
    nonfinite: int = 0

    @property
    def edges(self) -> np.ndarray:
        """Of the bins, one more than there are, float64."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centres(self) -> np.ndarray:
        """Of the bins, float64."""
        return (self.edges[1:] + self.edges[:-1]) / 2


def of_record(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Histogram]]:
    """The histograms of a training record: model, kind, part and histogram; none where none were asked for."""
    for model, kinds in record.get("histograms", {}).items():
        for kind in KINDS:
            for part, values in kinds[kind].items():
                yield model, kind, part, Histogram(**values)
