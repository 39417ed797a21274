"""The learning rate of a model in a competition: by its own steps, how much of the run is over, and its batch."""

from __future__ import annotations

import math

from arena_jax.transforms import decay_factor, warmup_factor


def learning_rate(
    peak: float,
    *,
    steps: int,
    fraction: float,
    warmup_steps: int = 0,
    decay: str = "cosine",
    batch_ratio: float = 1.0,
    follows: str = "none",
) -> float:
    """Compute the rate of a model's next step.

    η = peak · min(1, s / W) · d(f) · g(b / b₀)

    d is 1, 1 − f or (1 + cos πf) / 2; g is 1, √x or x. The decay goes by the run and not by the model's steps: who is
    given more steps would otherwise reach a rate of 0 long before the end.

    Args:
        peak: the rate after warm-up.
        steps: s, optimizer steps the model has taken.
        fraction: f, the part of the run that is over: of its rounds, or of what it may spend.
        warmup_steps: W, in the model's own steps.
        decay: ``"constant"``, ``"linear"`` or ``"cosine"``.
        batch_ratio: b / b₀, effective batch relative to the run's first.
        follows: ``"none"``, ``"sqrt"`` or ``"linear"``.

    Returns:
        The rate.

    Example:
        >>> learning_rate(1.0, steps=50, fraction=0.5, warmup_steps=100, decay="linear")
        0.25
        >>> learning_rate(1.0, steps=500, fraction=0.0, batch_ratio=4.0, follows="sqrt")
        2.0

    Source: ModelArena, section 4.2 (linear decay after warm-up); square root and linear scaling as in Malladi et al.
    2022, arXiv:2205.10287, and Goyal et al. 2017, arXiv:1706.02677.
    """
    rising, falling = warmup_factor(steps, warmup_steps), decay_factor(fraction, decay)
    following = {"none": 1.0, "sqrt": math.sqrt(batch_ratio), "linear": batch_ratio}[follows]
    return peak * rising * falling * following
