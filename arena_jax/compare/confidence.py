"""A mean over seeds and its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class ConfidenceInterval(NamedTuple):
    """A mean with Student's interval.

    Attributes:
        mean: of the values.
        low: the interval's lower end; NaN where there is one value only.
        high: its upper end.
        seeds: how many values.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def finite(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def text(self, form: str = ".3f", scale: float = 1.0) -> str:
        """Write it as ``mean [low, high]``, the mean alone where there is no interval.

        Example:
            >>> ConfidenceInterval(0.5, 0.25, 0.75, 3).text("+.1f", 100)
            '+50.0 [+25.0, +75.0]'
            >>> ConfidenceInterval(0.5, math.nan, math.nan, 1).text()
            '0.500'
        """
        mean, low, high = (format(value * scale, form) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if self.finite else mean

    def plus_minus(self, form: str = ".3f", scale: float = 1.0) -> str:
        """Write it as ``mean ± half``, the mean alone where there is no interval, both ends where a bound cut one.

        Example:
            >>> ConfidenceInterval(0.5, 0.25, 0.75, 3).plus_minus(".2f")
            '0.50 ± 0.25'
            >>> ConfidenceInterval(0.8, 0.4, 1.0, 3).plus_minus(".1f")
            '0.8 [0.4, 1.0]'
        """
        if self.finite and not math.isclose(self.high - self.mean, self.mean - self.low, rel_tol=1e-6, abs_tol=1e-12):
            return self.text(form, scale)
        mean, half = (format(value * scale, form) for value in (self.mean, self.high - self.mean))
        return f"{mean} ± {half.lstrip('+')}" if self.finite else mean


def confidence_interval(values: Sequence[float], bounds: tuple[float, float] | None = None) -> ConfidenceInterval:
    """Take the mean of one value per seed, and its 95 % interval.

    mean ± t(0.975, n − 1) · s / √n

    Args:
        values: one per seed; for a comparison, the differences of pairs with the same seed.
        bounds: between which the mean must lie, such as 0 and 1 for shares: an interval that reaches beyond is cut off.

    Returns:
        The interval; without ends where there are fewer than two values or one is not finite.

    Example:
        >>> print(confidence_interval([1.0, 2.0, 3.0]).text())
        2.000 [-0.484, 4.484]
        >>> print(confidence_interval([0.3, 0.9], bounds=(0, 1)).text())
        0.600 [0.000, 1.000]
        >>> confidence_interval([1.0]).finite
        False

    Source: Student's t, as every textbook has it.
    """
    count = len(values)
    mean = sum(values) / count if count else math.nan
    if count < 2 or not all(map(math.isfinite, values)):
        return ConfidenceInterval(mean, math.nan, math.nan, count)
    from scipy.stats import t

    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    low, high = bounds or (-math.inf, math.inf)
    return ConfidenceInterval(mean, max(low, mean - half), min(high, mean + half), count)
