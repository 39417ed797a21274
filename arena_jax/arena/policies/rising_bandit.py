"""Models as arms of a rising bandit: who cannot become the best any more drops to the floor."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.equilibria.arguments import as_floats


@dataclass(frozen=True)
class RisingBandit:
    """Drop every model whose score, rising on in a straight line with all that is left, stays below the best of today.

    u_i = S_i + ω_i · rest,  ω_i = max(0, ΔS_i / Δseconds_i) over the last ``window`` evaluations

    A curve that flattens stays below its own tangent, so u_i bounds what a model can still reach, and without noise the
    best is never dropped; a curve that wakes late, or a noisy one, can be. Models that are left share equally; one
    that is out keeps the floor and does not come back. A model without ``window`` + 1 finite scores is not judged, one
    whose score is not finite is out.

    Attributes:
        window: evaluations over which the slope is taken.
        margin: how far below the best of today the bound must stay, in units of the score.
        floor: δ, what a model that is out keeps (before normalisation); 0 stops it.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> seconds = np.array([[0.0, 0.0], [10.0, 10.0]])
        >>> scores = np.array([[-4.0, -4.0], [-3.0, -1.0]])    # 0.1 a second from -3: 20 seconds more reach -1
        >>> record = History(scores, np.full((2, 2), 0.5), seconds, seconds, np.array([0.0, 0.6]))
        >>> RisingBandit(window=1, floor=0.0)(record)    # 13.3 seconds are left
        Array([0., 1.], dtype=float32)

    Source: Li, Jiang, Gao, Shao, Zhang and Cui 2020, arXiv:2012.04371, Algorithm 1, with device-seconds for trials.
    """

    window: int = 3
    margin: float = 0.0
    floor: float = 0.05

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        scores, seconds = as_floats(history.scores), as_floats(history.seconds)
        fraction = as_floats(history.fraction)[:, None]
        spent = jnp.sum(seconds, axis=1, keepdims=True)
        rest = jnp.where(fraction > 0, spent * (1 - fraction) / jnp.where(fraction > 0, fraction, 1), jnp.inf)
        judged = max(0, len(scores) - self.window)
        gain, cost = scores[self.window :] - scores[:judged], seconds[self.window :] - seconds[:judged]
        now = scores[self.window :]
        slope = jnp.maximum(gain / jnp.where(cost > 0, cost, 1), 0)
        # A flat curve gains nothing however much is left; 0 · ∞ would be NaN.
        bound = now + jnp.where(slope > 0, slope * rest[self.window :], 0) + self.margin
        bound = jnp.where((cost > 0) & jnp.isfinite(gain), bound, jnp.inf)
        missing = jnp.full((len(scores) - judged, scores.shape[1]), jnp.inf, scores.dtype)
        bounds = jnp.where(jnp.isfinite(scores), jnp.concatenate([missing, bound]), -jnp.inf)

        def judge(alive: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            score, bound = row
            there = alive & jnp.isfinite(score)
            best = jnp.max(jnp.where(there, score, -jnp.inf))
            return jnp.where(there.any(), alive & ~(bound < best), alive), None

        alive, _ = jax.lax.scan(judge, jnp.ones(scores.shape[1], bool), (scores, bounds))
        return blend(alive.astype(scores.dtype), as_floats(history.shares[-1]), smoothing=0.0, floor=self.floor)
