"""Several objectives whose weights change: by the stage of training, or by what each would have brought."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.arena.policies.multi_objective import objectives
from arena_jax.equilibria.arguments import as_floats


@dataclass(frozen=True)
class StagedObjectives:
    """Objectives of `MultiObjective` whose weights go from one mixture to another as the budget is used.

    β(t) = (1 − f)·first + f·last, f the part of the budget that is used. By default training begins with who learns
    fastest and ends with who is best.

    Attributes:
        first: β of progress, level, stability and cost at the start.
        last: … at the end.
        window: improvements that count for progress and stability.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the progress of a model that makes none.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> h = History(np.array([[-4.0, -2.0], [-2.0, -1.0]]), ones / 2, ones, ones, np.array([0.0, 0.0]))
        >>> policy = StagedObjectives(smoothing=0)
        >>> bool(policy(h)[0] > policy(h._replace(fraction=np.array([0.0, 1.0])))[0])  # it learns faster, and is worse
        True

    Source: ModelArena, equation 9, "adapted based on the stage of training".
    """

    first: tuple[float, float, float, float] = (0.7, 0.1, 0.0, 0.2)
    last: tuple[float, float, float, float] = (0.2, 0.6, 0.1, 0.1)
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        parts = objectives(history, self.window, self.epsilon)
        used = jnp.clip(jnp.nan_to_num(as_floats(history.fraction[-1])), 0, 1)
        first, last = jnp.asarray(self.first, parts.dtype), jnp.asarray(self.last, parts.dtype)
        betas = (1 - used) * first + used * last
        weights = jnp.sum(betas[:, None] * parts, axis=0)
        return blend(weights, history.shares[-1], smoothing=self.smoothing, floor=self.floor)


@dataclass(frozen=True)
class LearnedObjectives:
    """Objectives of `MultiObjective` whose weights are learned: who would have brought more counts more.

    Between two evaluations model i improved by r_i for each device-second that it had. Objective j, which would have
    divided them by its parts p_j, is credited with Σ_i p_ji r_i, in units of the largest |r_i|. The weights follow by
    exponentiated gradient (`exponentiated_gradient`), from equal ones.

    Attributes:
        rate: η of the exponentiated gradient; √(2 ln 4 / evaluations) has the least bound on the regret, 0.37 for 20.
        window: improvements that count for progress and stability.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the progress of a model that makes none.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> x = np.arange(6.0)[:, None] * np.ones(2)
        >>> h = History(np.array([0.5, 0.1]) * x, np.full((6, 2), 0.5), x, x, np.linspace(0, 0.5, 6))
        >>> bool(LearnedObjectives()(h)[0] > 0.5)
        True

    Source: ModelArena, equation 9, "could themselves be learned"; exponentiated gradient: Kivinen and Warmuth 1997.
    """

    rate: float = 0.4
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        parts = _objectives_of_rows(history, self.window, self.epsilon)  # [evaluations, objectives, models]
        gains = jnp.sum(parts[:-1] * _gain_per_second(history)[:, None], axis=-1)
        betas = exponentiated_gradient(gains, self.rate)
        weights = jnp.sum(betas[:, None] * parts[-1], axis=0)
        return blend(weights, history.shares[-1], smoothing=self.smoothing, floor=self.floor)


def exponentiated_gradient(gains: ArrayLike, rate: float) -> jax.Array:
    """Weigh experts by what they would have gained so far.

    β_j ∝ exp(η Σ_t g_tj). For gains between −1 and 1, what the weights of each moment gained together is behind the
    best expert's sum by at most ln K / η + η·T / 2, whatever the gains are.

    Args:
        gains: [moments, experts].
        rate: η above 0.

    Returns:
        Weights [experts] after the last moment.

    Example:
        >>> exponentiated_gradient([[1.0, 0.0], [1.0, 0.0]], 0.5)[0]
        Array(0.731..., dtype=float32)
    """
    return jax.nn.softmax(rate * jnp.sum(as_floats(gains), axis=0))


def _objectives_of_rows(history: History, window: int, epsilon: float) -> jax.Array:
    """What the objectives were at each evaluation, [evaluations, objectives, models]."""
    scores, seconds, steps = (as_floats(x) for x in (history.scores, history.seconds, history.steps))
    early = jnp.full((window, scores.shape[1]), jnp.nan, scores.dtype)
    padded = jnp.concatenate([early, scores])
    rows = jnp.arange(len(scores))[:, None] + jnp.arange(window + 1)[None]

    def of_row(recent: jax.Array, row_seconds: jax.Array, row_steps: jax.Array) -> jax.Array:
        record = history._replace(scores=recent, seconds=row_seconds[None], steps=row_steps[None])
        return objectives(record, window, epsilon)

    return jax.vmap(of_row)(padded[rows], seconds, steps)


def _gain_per_second(history: History) -> jax.Array:
    """Each model's relative improvement per second between evaluations, [evaluations − 1, models], largest ±1."""
    scores, seconds = as_floats(history.scores), as_floats(history.seconds)
    big = jnp.finfo(scores.dtype).max ** 0.25
    there = jnp.isfinite(scores)
    safe = jnp.where(there, jnp.clip(scores, -big, big), 0)
    passed = jnp.diff(jnp.clip(jnp.nan_to_num(seconds), 0, big), axis=0)
    usable = there[1:] & there[:-1] & (passed > 0)
    gain = jnp.where(usable, jnp.diff(safe, axis=0) / (1 + jnp.abs(safe[1:])) / jnp.where(usable, passed, 1), 0)
    gain = jnp.clip(gain, -big, big)
    largest = jnp.max(jnp.abs(gain), axis=1, keepdims=True)
    return gain / jnp.where(largest > 0, largest, 1)
