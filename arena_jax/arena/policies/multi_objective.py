"""Several wishes at once: progress, level and cost, weighted."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.arena.progress import learning_progress
from arena_jax.equilibria.arguments import as_floats


@dataclass(frozen=True)
class MultiObjective:
    """Weigh how fast a model learns, how good it is and how little a step costs.

    w_i = Σ_j β_j · Objective_j(i), each objective scaled to sum to 1 over the models:

    - progress: max(λ_i, ε), equation 1
    - level: exp((S_i − max S) / sd(S)), so that neither the unit nor the offset of the score matters
    - cost: 1 / (device-seconds per step)

    Then smoothing and floor as in equations 3 to 5. A model whose score is not finite has level 0; one that has not
    stepped yet is taken to cost as much as the average of the others.

    Attributes:
        progress: β of the progress.
        level: β of the level.
        cost: β of the cheapness.
        window: improvements averaged in the progress.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the progress of a model that makes none.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> h = History(np.array([[-4.0, -2.0], [-2.0, -1.0]]), ones / 2, ones, ones, np.array([0, 0.1]))
        >>> MultiObjective(progress=0, level=1, cost=0, smoothing=0)(h)
        Array([0.119..., 0.88...], dtype=float32)

    Source: ModelArena, equation 9.
    """

    progress: float = 0.5
    level: float = 0.25
    cost: float = 0.25
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        learning = jnp.maximum(learning_progress(history.scores, self.window), self.epsilon)
        objectives = (
            (self.progress, jnp.minimum(learning, jnp.finfo(learning.dtype).max ** 0.5)),
            (self.level, level(history.scores[-1])),
            (self.cost, 1 / seconds_per_step(history)),
        )
        weights = sum(beta * objective / jnp.sum(objective) for beta, objective in objectives)
        return blend(weights, history.shares[-1], smoothing=self.smoothing, floor=self.floor)


def level(scores: jax.typing.ArrayLike) -> jax.Array:
    """Compute how good each model is, between 0 and 1 for the best, free of the score's unit and offset.

    exp((S − max S) / sd(S))

    Args:
        scores: [models]; what is not finite has level 0, unless nothing is finite: then all have level 1.

    Returns:
        Levels [models].

    Example:
        >>> level([-1.0, -2.0, float("nan")])
        Array([1.        , 0.13533528, 0.        ], dtype=float32)
    """
    scores = as_floats(scores)
    there = jnp.isfinite(scores)
    big = jnp.finfo(scores.dtype).max ** 0.5  # differences of larger scores, or divisions by them, leave the range
    safe = jnp.clip(jnp.where(there, scores, 0), -big, big)
    below = jnp.where(there, safe - jnp.max(jnp.where(there, safe, -jnp.inf)), 0)
    scale = jnp.max(jnp.abs(below))
    relative = below / jnp.where(scale > 0, scale, 1)  # squares of huge scores would overflow
    count = jnp.maximum(there.sum(), 1)
    mean = jnp.sum(relative) / count
    deviation = jnp.sqrt(jnp.sum(jnp.where(there, (relative - mean) ** 2, 0)) / count)
    values = jnp.exp(relative / jnp.where(deviation > 0, deviation, 1))
    return jnp.where(there.any(), jnp.where(there, values, 0), 1.0)


def seconds_per_step(history: History) -> jax.Array:
    """Compute what a step of each model costs, averaged over the run.

    Args:
        history: seconds and steps are read from the last row.

    Returns:
        Device-seconds per step [models]; the others' average for a model that has not stepped, 1 when none has.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import start
        >>> seconds_per_step(start([-4.0, -3.0])._replace(seconds=np.array([[2.0, 0]]), steps=np.array([[4.0, 0]])))
        Array([0.5, 0.5], dtype=float32)
    """
    seconds, steps = as_floats(history.seconds[-1]), as_floats(history.steps[-1])
    has_cost = (steps > 0) & (seconds > 0) & jnp.isfinite(steps) & jnp.isfinite(seconds)
    cost = jnp.where(has_cost, seconds / jnp.where(has_cost, steps, 1), 0)
    average = jnp.sum(cost) / jnp.maximum(has_cost.sum(), 1)
    cost = jnp.where(has_cost, cost, jnp.where(has_cost.any(), average, 1.0))
    return jnp.clip(cost, 1e-12, 1e12)
