"""What memory bought in learning: the paper's equation 8."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import as_floats


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
