"""What one run of a program takes, from the last few that were timed."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable


class Pace:
    """Turns single timings into ones that a hiccup of the machine does not move.

    One step of a round is timed and stands for the round's others, so that a second in which the machine did something
    else would be counted several times over. The median of the last timings of the same program is taken instead.

    Args:
        keep: how many timings of a program count.

    Example:
        >>> pace = Pace()
        >>> [pace("gradients", seconds) for seconds in (0.5, 0.1, 9.0, 0.1)]
        [0.5, 0.1, 0.5, 0.1]
    """

    def __init__(self, keep: int = 5) -> None:
        self._keep = keep
        self._timed: dict[Hashable, deque[float]] = {}

    def __call__(self, program: Hashable, seconds: float) -> float:
        """Take a program's new timing; return what a run of it takes, in seconds."""
        timed = self._timed.setdefault(program, deque(maxlen=self._keep))
        timed.append(seconds)
        # The lower of two: the first run of a program also warms it up.
        return statistics.median_low(timed)
