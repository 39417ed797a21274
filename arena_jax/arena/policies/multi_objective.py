"""Several objectives at once: progress, level, stability and cost, weighted."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.equilibria.arguments import as_floats
from arena_jax.transforms.learning_progress import learning_progress

OBJECTIVES = ("progress", "level", "stability", "cost")


@dataclass(frozen=True)
class MultiObjective:
    """Weigh how fast a model learns, how good and how steady it is, and how little a step costs.

    w_i = Σ_j β_j · Objective_j(i), each objective scaled to sum to 1 over the models:

    - progress: max(λ_i, ε), equation 1
    - level: exp((S_i − max S) / sd(S)), so that neither the unit nor the offset of the score matters
    - stability: exp(−sd_i / mean sd), sd_i the standard deviation of the model's recent improvements
    - cost: 1 / (device-seconds per step)

    Then smoothing and floor as in equations 3 to 5. A model whose score is not finite has level and stability 0; one
    that has not stepped yet is taken to cost as much as the average of the others. The weights β are fixed here; see
    `StagedObjectives` and `LearnedObjectives` for others.

    Attributes:
        progress: β of the progress.
        level: β of the level.
        stability: β of the stability.
        cost: β of the cheapness.
        window: improvements that count for progress and stability.
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
    stability: float = 0.0
    cost: float = 0.25
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        parts = objectives(history, self.window, self.epsilon)
        betas = jnp.asarray([getattr(self, name) for name in OBJECTIVES], parts.dtype)
        weights = jnp.sum(betas[:, None] * parts, axis=0)
        return blend(weights, history.shares[-1], smoothing=self.smoothing, floor=self.floor)


def objectives(history: History, window: int, epsilon: float) -> jax.Array:
    """Compute the objectives of equation 9 at the last evaluation.

    Args:
        history: the record so far.
        window: improvements that count.
        epsilon: ε, the progress of a model that makes none.

    Returns:
        [objectives, models] in the order of ``OBJECTIVES``, each row summing to 1.

    Example:
        >>> from arena_jax.arena.history import start
        >>> objectives(start([-4.0, -4.0]), 5, 1e-6).shape
        (4, 2)
    """
    learning = jnp.maximum(learning_progress(history.scores, window), epsilon)
    rows = jnp.stack(
        [
            jnp.minimum(learning, jnp.finfo(learning.dtype).max ** 0.5),
            level(history.scores[-1]),
            stability(history.scores, window),
            1 / seconds_per_step(history),
        ]
    )
    return rows / jnp.sum(rows, axis=1, keepdims=True)


def stability(scores: jax.typing.ArrayLike, window: int = 5) -> jax.Array:
    """Compute how steadily each model moves, between 0 and 1.

    exp(−sd_i / mean sd), sd_i of the last ``window`` improvements. A curve that rises evenly is steady; the unit of the
    score does not matter.

    Args:
        scores: [evaluations, models], oldest first.
        window: how many improvements count.

    Returns:
        [models]; 0 where the last score is not finite, unless none is: then, and with fewer than two improvements, 1.

    Example:
        >>> stability([[-4.0, -4.0], [-3.0, -1.0], [-2.0, -2.0]])
        Array([1.        , 0.13533528], dtype=float32)
    """
    recent = as_floats(scores)[-(window + 1) :]
    big = jnp.finfo(recent.dtype).max ** 0.25
    there = jnp.isfinite(recent)
    recent = jnp.where(there, jnp.clip(recent, -big, big), 0)
    usable = there[1:] & there[:-1]
    count = jnp.maximum(usable.sum(0), 1)
    steps = jnp.where(usable, recent[1:] - recent[:-1], 0)
    deviation = jnp.sqrt(jnp.sum(jnp.where(usable, (steps - (steps.sum(0) / count)[None]) ** 2, 0), axis=0) / count)
    last = there[-1]
    mean = jnp.sum(jnp.where(last, deviation, 0)) / jnp.maximum(last.sum(), 1)
    values = jnp.exp(-deviation / jnp.where(mean > 0, mean, 1))
    return jnp.where(last.any(), jnp.where(last, jnp.where(mean > 0, values, 1.0), 0.0), 1.0)


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
