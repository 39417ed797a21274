"""The paper's policy: who learns faster gets more."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from arena_jax.arena.allocation import Variant, allocate
from arena_jax.arena.history import History
from arena_jax.transforms.learning_progress import learning_progress


@dataclass(frozen=True)
class ModelArena:
    """Allocate in proportion to learning progress, smoothed and never below a floor.

    Attributes:
        window: improvements averaged, equation 1.
        smoothing: α, the part kept of the current share, equation 3.
        floor: δ, the smallest share before normalisation, equation 4.
        epsilon: ε, the progress of a model that makes none, equation 2.
        variant: ``"paper"`` or ``"published-code"``, see `arena_jax.arena.allocate`.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> ModelArena()(History(np.array([[-4.0, -2.0], [-2.0, -1.0]]), ones / 2, ones, ones, np.array([0, 0.1])))
        Array([0.52..., 0.47...], dtype=float32)

    Source: ModelArena, equations 1 to 6.
    """

    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6
    variant: Variant = "paper"

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        return allocate(
            learning_progress(history.scores, self.window),
            history.shares[-1],
            smoothing=self.smoothing,
            floor=self.floor,
            epsilon=self.epsilon,
            variant=self.variant,
        )
