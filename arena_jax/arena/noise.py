"""Up to which batch more examples a step help: the gradient noise scale, from gradients at two batch sizes."""

from __future__ import annotations

import math
from typing import NamedTuple

from arena_jax.config.errors import ArenaError

# The two parts are averaged apart: each is unbiased, and their quotient is not.
DECAY = 0.8


class GradientNoise(NamedTuple):
    """Running means of what a model's gradient is made of.

    Attributes:
        signal: |G|², the squared norm of the whole gradient.
        variance: tr Σ, of an example's gradient.
        measurements: how many.
    """

    signal: float = 0.0
    variance: float = 0.0
    measurements: int = 0

    @property
    def scale(self) -> float:
        """B = tr Σ / |G|², in examples; infinite where no signal is to be seen, NaN before the first measurement."""
        if not self.measurements:
            return math.nan
        return max(self.variance, 0.0) / self.signal if self.signal > 0 else math.inf

    def after(self, small_square: float, large_square: float, small: int, large: int) -> GradientNoise:
        """These means with one more measurement.

        Args:
            small_square: |g|² of gradients of ``small`` examples, their mean.
            large_square: |g|² of a gradient of ``large`` examples.
            small: examples.
            large: examples.

        Returns:
            The new means; these, where a square is not finite.
        """
        if not (math.isfinite(small_square) and math.isfinite(large_square)):
            return self
        signal, variance = signal_and_variance(small_square, large_square, small, large)
        keep = min(DECAY, self.measurements / (self.measurements + 1))  # a plain mean at first
        return GradientNoise(
            keep * self.signal + (1 - keep) * signal,
            keep * self.variance + (1 - keep) * variance,
            self.measurements + 1,
        )


def signal_and_variance(small_square: float, large_square: float, small: int, large: int) -> tuple[float, float]:
    """Tell a gradient from its noise by two batch sizes.

    E|g_B|² = |G|² + tr Σ / B, so  |G|² = (L·|g_L|² − S·|g_S|²) / (L − S)  and  tr Σ = (|g_S|² − |g_L|²) / (1/S − 1/L)

    Args:
        small_square: |g_S|².
        large_square: |g_L|².
        small: S, examples, at least 1.
        large: L, more than S.

    Returns:
        Unbiased estimates of |G|² and tr Σ; either may be negative where the noise is large.

    Raises:
        ArenaError: the sizes do not rise.

    Example:
        >>> signal_and_variance(4.0 + 32 / 8, 4.0 + 32 / 16, 8, 16)  # |G|² 4, tr Σ 32
        (4.0, 32.0)

    Source: McCandlish, Kaplan, Amodei and OpenAI Dota Team 2018, arXiv:1812.06162, appendix A.1.
    """
    if not 1 <= small < large:
        raise ArenaError(f"signal_and_variance: {small} and {large} examples; give a smaller and a larger batch")
    signal = (large * large_square - small * small_square) / (large - small)
    return signal, (small_square - large_square) / (1 / small - 1 / large)
