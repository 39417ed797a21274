"""How fast each model learns, and what its memory bought: the paper's equations 1 and 8."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import as_floats


def learning_progress(scores: ArrayLike, window: int = 5) -> jax.Array:
    """Average the recent improvements of each model, relative to where it stands.

    λ(t) = (1/w) Σ_{j=1..w} (S(t−j+1) − S(t−j)) / (1 + |S(t)|)

    Higher scores are better: a language model is scored by its negative loss. Fewer scores than the window use
    what is there, and one score means no progress yet. A score that is not finite counts as not there: the
    differences that touch it are left out of the sum and of w, and a model whose latest score is not finite
    (it diverged) has progress 0. So rows of NaN before the first score change nothing.

    Args:
        scores: [evaluations, models], oldest first.
        window: how many improvements count, at least 1.

    Returns:
        Progress [models]; never NaN or infinite.

    Raises:
        ArenaError: there is no score, or the window is not positive.

    Example:
        >>> learning_progress([[-4.0, -2.0], [-3.0, -2.0], [-1.0, -2.5]])
        Array([ 0.75      , -0.07142857], dtype=float32)

    Source: ModelArena, equation 1.
    """
    scores = as_floats(scores)
    if window < 1:
        raise ArenaError(f"learning_progress: the window is {window}; it must be 1 or more")
    if scores.ndim == 0 or scores.shape[0] == 0:
        raise ArenaError("learning_progress: no scores; evaluate the models once before asking for progress")
    recent = scores[-(window + 1) :]
    there = jnp.isfinite(recent)
    recent = jnp.where(there, recent, 0)  # inf − inf must not appear even in a branch that is not taken
    usable = there[1:] & there[:-1]
    improvements = jnp.where(usable, recent[1:] - recent[:-1], 0) / (1 + jnp.abs(recent[-1:]))
    progress = improvements.sum(0) / jnp.maximum(usable.sum(0), 1)
    return jnp.where(there[-1] & jnp.isfinite(progress), progress, 0)  # two huge scores may overflow their difference


def resource_utilization_efficiency(score_gain: ArrayLike, memory: ArrayLike, *, signed: bool = False) -> jax.Array:
    """Average the score gained per unit of memory over the models.

    RUE = (1/N) Σ_i |ΔS_i| / m_i

    As printed, a model that got worse counts as if it had improved by as much; ``signed`` leaves the bars out.

    Args:
        score_gain: ΔS [..., models], last score minus first score of the phase.
        memory: m [..., models], positive; bytes or shares of the budget, and the result is per that unit.
        signed: use ΔS instead of |ΔS|.

    Returns:
        RUE [...], one number for each leading index.

    Example:
        >>> print(f"{resource_utilization_efficiency([0.3, -0.1], [0.75, 0.25]):.2f}")
        0.40
        >>> print(f"{resource_utilization_efficiency([0.3, -0.1], [0.75, 0.25], signed=True):.2f}")
        0.00

    Source: ModelArena, equation 8.
    """
    gain = as_floats(score_gain)
    return jnp.mean((gain if signed else jnp.abs(gain)) / as_floats(memory), axis=-1)


def efficiency_by_phase(
    scores: ArrayLike, memory: ArrayLike, boundaries: Sequence[float] = (0.0, 0.3, 0.7, 1.0), *, signed: bool = False
) -> jax.Array:
    """Take the resource utilization efficiency of each phase of a run.

    A phase's gain is the score at its end minus the score at its start; its memory is the mean of what was held
    between the two. ``boundaries=(0, 1)`` gives the figure of the whole run.

    Args:
        scores: [evaluations, models], the baseline evaluation first.
        memory: [evaluations, models], what each model held up to that evaluation (the first row is not used).
        boundaries: rising fractions of the run; the paper's table uses 0, 0.3, 0.7 and 1.
        signed: see `resource_utilization_efficiency`.

    Returns:
        RUE [phases].

    Raises:
        ArenaError: a phase holds no evaluation.

    Example:
        >>> efficiency_by_phase([[-4.0], [-3.0], [-2.5]], [[1.0], [1.0], [0.5]], (0.0, 0.5, 1.0))
        Array([1., 1.], dtype=float32)

    Source: ModelArena, equation 8 and Table 2.
    """
    scores, memory = as_floats(scores), as_floats(memory)
    rows = [round(boundary * (scores.shape[0] - 1)) for boundary in boundaries]
    for i, (first, last) in enumerate(pairwise(rows)):
        if last <= first:
            raise ArenaError(
                f"efficiency_by_phase: phase {boundaries[i]}–{boundaries[i + 1]} holds no evaluation "
                f"of the {scores.shape[0]} there are; use fewer phases or evaluate more often"
            )
    return jnp.stack(
        [
            resource_utilization_efficiency(
                scores[last] - scores[first], memory[first + 1 : last + 1].mean(0), signed=signed
            )
            for first, last in pairwise(rows)
        ]
    )
