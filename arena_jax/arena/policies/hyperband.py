"""Hyperband: halving over and over, less and less strict, so that late bloomers have another chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import as_floats


class Rung(NamedTuple):
    """A stage of the schedule.

    Attributes:
        bracket: s; the first rung of each bracket lets everybody in again.
        begin: the fraction of the budget at which it begins.
        keep: n, how many models share it.
    """

    bracket: int
    begin: float
    keep: int


def schedule(models: int, eta: float = 3.0) -> list[Rung]:
    """The rungs of Hyperband for so many models.

    s runs from ⌊log_η N⌋ down to 0; bracket s begins with n = ⌈(s_max + 1)/(s + 1) · η^s⌉ and goes on with ⌊n·η⁻ⁱ⌋.
    Published brackets have one budget, and the rungs of one cost the same, up to rounding: here they do to the dot.

    Args:
        models: N, at least 1.
        eta: η > 1.

    Returns:
        The rungs in their order.

    Raises:
        ArenaError: η is not above 1.

    Example:
        >>> [rung.keep for rung in schedule(81)]
        [81, 27, 9, 3, 1, 34, 11, 3, 1, 15, 5, 1, 8, 2, 5]

    Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, arXiv:1603.06560, Algorithm 1 with R = N.
    """
    if not eta > 1:
        raise ArenaError(f"hyperband: eta is {eta}; it must be above 1")
    largest = math.floor(math.log(models, eta) + 1e-9)
    rungs = []
    for number, bracket in enumerate(range(largest, -1, -1)):
        first = math.ceil((largest + 1) / (bracket + 1) * eta**bracket - 1e-9)
        for i in range(bracket + 1):
            begin = (number + i / (bracket + 1)) / (largest + 1)
            rungs.append(Rung(bracket, begin, max(1, min(models, math.floor(first * eta**-i + 1e-9)))))
    return rungs


@dataclass(frozen=True)
class Hyperband:
    """Run one bracket of successive halving after the other, from the strictest to one that cuts once, when it begins.

    A published bracket draws new configurations. Here the models are what they are: each bracket begins with the best
    of all of them by their scores then, so that who was dropped in an early, strict bracket may come back in a later
    one. Models that tie for the last place all stay; who is out keeps the floor.

    Attributes:
        eta: η > 1, the reduction per rung.
        floor: δ, what a model that is out keeps (before normalisation); 0 stops it.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 3))
        >>> scores = np.array([[-4.0, -2.0, -3.0], [-2.0, -1.0, -3.0]])
        >>> Hyperband(floor=0.0)(History(scores, ones / 3, ones, ones, np.array([0, 0.3])))  # 3 models, then 1, then 2
        Array([0., 1., 0.], dtype=float32)

    Source: Li et al. 2018, arXiv:1603.06560, Algorithm 1, see `schedule`.
    """

    eta: float = 3.0
    floor: float = 0.05

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        scores, fraction = as_floats(history.scores), as_floats(history.fraction)
        models = scores.shape[-1]
        everybody = alive = jnp.ones(models, bool)
        bracket = None
        for rung in schedule(models, self.eta):
            if rung.bracket != bracket:
                candidates, bracket = everybody, rung.bracket
            else:
                candidates = alive
            # The verdict is the first evaluation at or after the rung's begin; rows of padding are none.
            reached = (fraction >= rung.begin - 1e-6) & jnp.isfinite(scores).any(axis=-1)
            verdict = scores[jnp.argmax(reached)]
            verdict = jnp.where(candidates & jnp.isfinite(verdict), verdict, -jnp.inf)
            survivors = candidates & (verdict >= jnp.sort(verdict)[-rung.keep])
            alive = jnp.where(reached.any(), survivors, alive)
        return blend(alive.astype(scores.dtype), as_floats(history.shares[-1]), smoothing=0.0, floor=self.floor)
