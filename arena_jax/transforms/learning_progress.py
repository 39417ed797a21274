"""How fast each model learns: the paper's equation 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError


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
    array = jnp.asarray(scores)
    scores = array.astype(jnp.result_type(array, float))  # whole numbers become JAX's own float
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
