"""Rounds of elimination: the worse part drops to the floor, the rest shares what is freed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.equilibria.arguments import as_floats


@dataclass(frozen=True)
class SuccessiveHalving:
    """Keep the best ⌈n/η⌉ of n models at each rung; rungs divide the budget evenly.

    With N models there are ⌈log_η N⌉ rungs, at fractions 1/(R+1), 2/(R+1), … of the budget, so that every stage costs
    the same. Who is left shares equally; who is out keeps the floor, and does not come back. Models that tie for the
    last place all stay. The rung's verdict is the first evaluation at or after it.

    Attributes:
        eta: η > 1, the reduction per rung.
        floor: δ, what an eliminated model keeps (before normalisation); 0 stops it.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> scores = np.array([[-4.0, -2.0], [-2.0, -1.0]])
        >>> SuccessiveHalving()(History(scores, ones / 2, ones, ones, np.array([0, 0.5])))
        Array([0.0476..., 0.952...], dtype=float32)

    Source: Jamieson and Talwalkar 2016, arXiv:1502.07943, Algorithm 1 with the finite budget.
    """

    eta: float = 2.0
    floor: float = 0.05

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        scores = as_floats(history.scores)
        fraction = as_floats(history.fraction)
        models = scores.shape[-1]
        rungs = max(0, math.ceil(math.log(models, self.eta) - 1e-9))
        alive = jnp.ones(models, bool)
        keep = models
        for rung in range(1, rungs + 1):
            keep = max(1, math.ceil(keep / self.eta - 1e-9))
            reached = fraction >= rung / (rungs + 1) - 1e-6
            verdict = scores[jnp.argmax(reached)]
            verdict = jnp.where(alive & jnp.isfinite(verdict), verdict, -jnp.inf)
            survivors = alive & (verdict >= jnp.sort(verdict)[-keep])
            alive = jnp.where(reached.any(), survivors, alive)
        return blend(alive.astype(scores.dtype), as_floats(history.shares[-1]), smoothing=0.0, floor=self.floor)
