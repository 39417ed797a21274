"""What an objective of one's own looks like, checked before it trains anything."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from arena_jax.config.errors import ArenaError
from arena_jax.training.objectives import Objective, Result

# Shown by every error about one.
SIGNATURE = (
    "def objective(model, batch, key, training) -> training.Result({'loss_sum': …, 'count': …}, {}): the model, "
    "{name: array (B, …)}, a random key, and whether it trains; the sum of the examples' losses, and how many there are"
)


def check_objective(name: str, objective: Any) -> None:
    """Refuse what cannot be called as an objective, before anything is compiled.

    Args:
        name: the model's.
        objective: a function ``(model, batch, key, training) -> Result``.

    Raises:
        ArenaError: showing the signature.

    Example:
        >>> check_objective("mine", lambda model, batch: 0.0)
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: the objective of 'mine' cannot be called with (model, batch, key, training); write def ...
    """
    try:
        inspect.signature(objective).bind("model", "batch", "key", True)
    except TypeError:
        what = "cannot be called with (model, batch, key, training)" if callable(objective) else "is no function"
        raise ArenaError(f"the objective of '{name}' {what}; write {SIGNATURE}") from None
    except ValueError:  # a built-in function that does not say what it takes
        return


def check_result(result: Any, objective: Objective) -> Result:
    """Refuse what is no objective's result, while the step is traced.

    Raises:
        ArenaError: showing the signature.
    """
    sums = getattr(result, "sums", None)
    called = getattr(objective, "__name__", type(objective).__name__)
    if not isinstance(result, Result) or not isinstance(sums, Mapping):
        raise ArenaError(f"the objective {called} returned a {type(result).__name__}; write {SIGNATURE}")
    missing = [key for key in ("loss_sum", "count") if key not in sums]
    if missing:
        raise ArenaError(f"the objective {called} returned no '{missing[0]}'; write {SIGNATURE}")
    shaped = [key for key, value in sums.items() if jnp.shape(value) != ()]
    if shaped:
        shape = jnp.shape(sums[shaped[0]])
        raise ArenaError(f"the objective {called} returned '{shaped[0]}' of shape {shape}, not a scalar: sum it")
    return Result({key: jnp.asarray(value) for key, value in sums.items()}, dict(result.outputs))
