"""What one run of a program takes, from the last few that were timed."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable


class StepTimes:
    """Turns single timings into ones that a hiccup of the machine does not move.

    One step of a round is timed and stands for the round's others, so that a second in which the machine did something
    else would be counted several times over. The median of the last timings of the same program is taken instead.

    Args:
        keep: how many timings of a program count.

    Example:
        >>> times = StepTimes()
        >>> [times("gradients", seconds) for seconds in (0.5, 0.1, 9.0, 0.1)]
        [0.5, 0.1, 0.5, 0.1]
    """

    def __init__(self, keep: int = 5) -> None:
        self._keep = keep
        self._seconds: dict[Hashable, deque[float]] = {}

    def forget(self, name: str) -> None:
        """Forget what a model's programs take: it has another shape now."""
        self._seconds = {key: times for key, times in self._seconds.items() if not (type(key) is tuple and name in key)}

    def __call__(self, program: Hashable, seconds: float) -> float:
        """Take a program's new timing; return what a run of it takes, in seconds."""
        recent = self._seconds.setdefault(program, deque(maxlen=self._keep))
        recent.append(seconds)
        # The lower of two: the first run of a program also warms it up.
        return statistics.median_low(recent)
