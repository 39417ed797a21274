"""Look ahead: forecast each curve, and spend where the forecast gains most."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.forecast import Family, fit, gain
from arena_jax.arena.history import History
from arena_jax.arena.progress import as_floats


@dataclass(frozen=True)
class Predictive:
    """Share in proportion to the gain per second that each score curve promises.

    Each curve is fitted by power laws and exponentials of the device-seconds spent on it. The forecast looks as far
    ahead as an equal split of what is left of the budget would reach, and counts ``optimism`` standard deviations of it
    as gain, so that a curve nobody understands yet is looked at. Then smoothing and floor as in equations 3 to 5.

    Attributes:
        optimism: standard deviations added to the expected gain; 0 trusts the forecast.
        half_life: evaluations after which an observation weighs half in the fit.
        family: ``"power-law"``, ``"exponential"`` or ``"both"``.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the least gain relative to the largest.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> x = np.arange(8.0)[:, None] * np.ones(2)
        >>> scores = -np.exp(-x / np.array([1.0, 10.0]))    # the first has converged, the second is under way
        >>> record = History(scores, np.full((8, 2), 0.5), x, x, np.linspace(0, 0.5, 8))
        >>> shares = Predictive(smoothing=0, optimism=0)(record)
        >>> print(f"{shares[1]:.1f}")
        1.0

    Source: ModelArena, equation 10.
    """

    optimism: float = 0.5
    half_life: float = 8.0
    family: Family = "both"
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-3

    def __call__(self, history: History, /) -> jax.Array:
        """Say the next shares [models]."""
        seconds = as_floats(history.seconds)
        shares = as_floats(history.shares[-1])
        ahead = jnp.full_like(shares, equal_part_of_the_rest(seconds[-1], history.fraction[-1]))
        mean, deviation = gain(
            fit(seconds, history.scores, half_life=self.half_life, family=self.family), ahead, family=self.family
        )
        promise = jnp.maximum(mean + self.optimism * deviation, 0)
        promise = jnp.where(jnp.isfinite(as_floats(history.scores[-1])), promise, 0)
        best = jnp.max(promise)
        promise = jnp.where(best > 0, promise / jnp.where(best > 0, best, 1), 1)
        return blend(jnp.maximum(promise, self.epsilon), shares, smoothing=self.smoothing, floor=self.floor)


def equal_part_of_the_rest(seconds: jax.Array, fraction: jax.typing.ArrayLike) -> jax.Array:
    """Say how many device-seconds an equal split of the remaining budget gives each model.

    Args:
        seconds: spent on each model so far [models].
        fraction: of the budget that this was.

    Returns:
        Seconds, a scalar: Σ seconds · (1 − f)/f / N, and at the least a hundredth of what was spent.

    Example:
        >>> equal_part_of_the_rest(jnp.array([3.0, 1.0]), 0.5).item()
        2.0
    """
    big = jnp.finfo(seconds.dtype).max / 1e6
    spent = jnp.sum(jnp.clip(jnp.where(jnp.isfinite(seconds), seconds, 0), 0, big / seconds.shape[-1]))
    used = jnp.clip(jnp.nan_to_num(as_floats(fraction)), 0.01, 1)
    return spent * jnp.maximum((1 - used) / used, 0.01) / seconds.shape[-1]
