"""The learning-rate schedule of each form of the MultiModelOptimizer."""

from __future__ import annotations

from typing import Any

import optax

from arena_jax.config.forms import FORMS
from arena_jax.transforms.warmup_and_decay import warmup_and_decay


def form_schedule(
    form: str, peak: Any, *, warmup_steps: Any = None, decay_steps: Any = None, decay: str | None = None
) -> optax.Schedule:
    """A learning rate as a form of ``multi_model_adamw`` has it.

    Args:
        form: "default", "paper" or "published".
        peak: the rate after the warm-up, at least 0; may be traced.
        warmup_steps: updates until the peak, may be traced; the form's if not given.
        decay_steps: updates from there to the end of the decay, may be traced; the form's if not given.
        decay: "cosine", "linear" or "constant"; the form's if not given.

    Returns:
        ``count -> rate``, of :func:`warmup_and_decay`.

    Raises:
        ArenaError: a bad argument.

    Example:
        >>> [round(float(form_schedule(form, 1.0, warmup_steps=4)(0)), 2) for form in FORMS]
        [0.0, 0.0, 0.25]
    """
    arguments = {"warmup_steps": warmup_steps, "decay_steps": decay_steps, "decay": decay}
    filled: dict[str, Any] = {n: FORMS[form][n] if value is None else value for n, value in arguments.items()}
    of_form: dict[str, Any] = {"first": 1, "floor": 0.1, "periodic": True} if form == "published" else {}
    return warmup_and_decay(peak, **filled, **of_form)
