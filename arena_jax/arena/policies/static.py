"""The control: everybody keeps what they had."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.history import History


@dataclass(frozen=True)
class Static:
    """Keep the initial shares, the control of every experiment.

    Example:
        >>> from arena_jax.arena.history import start
        >>> Static()(start([-4.0, -3.0], shares=[0.25, 0.75]))
        Array([0.25, 0.75], dtype=float32)

    Source: ModelArena, section 4.3.
    """

    def __call__(self, history: History, /) -> jax.Array:
        """Return the shares [models] already in force."""
        return jnp.asarray(history.shares)[-1]
