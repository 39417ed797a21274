"""The one learning-rate schedule: a warm-up, then a decay."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.arguments import is_count, is_number, is_traced

DECAYS = ("cosine", "linear", "constant")


def warmup_factor(steps: Any, warmup_steps: Any) -> Any:
    """The rising part, min(1, steps / warmup_steps), in [0, 1].

    Args:
        steps: steps made before this one; a number or a traced scalar.
        warmup_steps: steps until 1; 0 is 1 at once.

    Returns:
        A float for numbers, a traced scalar for traced ones.

    Example:
        >>> warmup_factor(3, 10), warmup_factor(30, 10), warmup_factor(0, 0)
        (0.3, 1.0, 1.0)
    """
    if isinstance(steps, jax.Array) or isinstance(warmup_steps, jax.Array):
        return jnp.where(steps < warmup_steps, steps / jnp.maximum(1, warmup_steps), 1.0)
    return steps / warmup_steps if steps < warmup_steps else 1.0


def decay_factor(fraction: Any, decay: str) -> Any:
    """The falling part, from 1 at fraction 0 to 0 at 1: ``(1 + cos πf) / 2``, ``1 − f``, or 1 throughout.

    Args:
        fraction: part of the decay that is over; a number or a traced scalar.
        decay: "cosine", "linear" or "constant".

    Returns:
        A float for numbers, a traced scalar for traced ones.

    Example:
        >>> [round(decay_factor(0.25, decay), 3) for decay in ("cosine", "linear", "constant")]
        [0.854, 0.75, 1.0]
    """
    xp: Any = jnp if isinstance(fraction, jax.Array) else np
    if decay == "cosine":
        factor = (1 + xp.cos(xp.pi * fraction)) / 2
    else:
        factor = 1 - fraction if decay == "linear" else xp.ones_like(fraction, dtype=float)
    return factor if isinstance(fraction, jax.Array) else float(factor)


def warmup_and_decay(
    peak: Any,
    *,
    warmup_steps: Any = 100,
    decay_steps: Any = 10_000,
    decay: str = "cosine",
    first: int = 0,
    floor: float = 0.0,
    periodic: bool = False,
) -> optax.Schedule:
    r"""A learning rate over updates: linear to the peak, then down.

    .. math::
        \eta(c) = \mathit{peak} \cdot \begin{cases} t / N & t < N \\
        \max(\mathit{floor},\ d(f)) & t \ge N \end{cases}, \qquad
        t = c + \mathit{first}, \qquad f = \min(1,\ \max(\mathit{first},\ t - N) / T)

    with c the updates made before this one, N = ``warmup_steps``, T = ``decay_steps`` and d ``decay_factor``.

    ===========  =========  =========  ============
    form         ``first``  ``floor``  ``periodic``
    ===========  =========  =========  ============
    paper        0          0          no
    published    1          0.1        yes
    default      0          0          no
    ===========  =========  =========  ============

    Args:
        peak: the rate after the warm-up, at least 0.
        warmup_steps: N, updates until the peak.
        decay_steps: T, updates from there to the end of the decay.
        decay: "cosine", "linear" or "constant".
        first: the number of the first update, 0 or 1.
        floor: smallest part of the peak after the warm-up.
        periodic: f is not bounded by 1: beyond T a cosine rises again, as it does in the published code.

    Returns:
        ``count -> rate``, float32, or float64 where JAX is set to it. (Optax's own schedules are float32 always.)
        ``peak``, ``warmup_steps``, ``decay_steps`` and ``floor`` may be traced.

    Raises:
        ArenaError: a bad argument.

    Example:
        >>> rate = warmup_and_decay(1.0, warmup_steps=10, decay_steps=100, decay="linear")
        >>> [round(float(rate(count)), 2) for count in (0, 5, 10, 60, 110, 500)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
        >>> rate = warmup_and_decay(1.0, warmup_steps=10, decay_steps=100, first=1, floor=0.1)
        >>> [round(float(rate(count)), 2) for count in (0, 4, 9, 109)]
        [0.1, 0.5, 1.0, 0.1]

    Source: MultiModelOptimizer, equation 1 (linear warm-up, cosine).
    """
    if not is_number(peak, lambda rate: rate >= 0):
        raise ArenaError(f"learning_rate is {peak!r}; give a number that is at least 0, or a schedule")
    if not (is_traced(warmup_steps) or is_count(warmup_steps, 0)):
        raise ArenaError(f"warmup_steps is {warmup_steps!r}; give a whole number of updates, 0 or more")
    if not (is_traced(decay_steps) or is_count(decay_steps)):
        raise ArenaError(f"decay_steps is {decay_steps!r}; give a whole number of updates, 1 or more")
    if decay not in DECAYS:
        raise ArenaError(f"decay is {decay!r}; {nearest(str(decay), DECAYS)}")

    def schedule(count: Any) -> Any:
        t = jnp.asarray(count + first, float)
        fraction = jnp.maximum(first, t - warmup_steps) / decay_steps
        if not periodic:
            fraction = jnp.minimum(1, fraction)
        falling = jnp.maximum(floor, decay_factor(fraction, decay))
        return peak * jnp.where(t < warmup_steps, warmup_factor(t, warmup_steps), falling)

    return schedule
