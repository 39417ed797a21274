"""Telling exhausted memory from every other failure."""

from __future__ import annotations

import jax


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that a device's memory is exhausted.

    A step that runs may say so, and a GPU's compiler, which allocates (autotuning, constants). No GPU has run this yet:
    what is tested are made-up errors.

    Args:
        error: what was raised.

    Returns:
        True for a runtime error of XLA that speaks of exhausted memory.

    Example:
        >>> ran_out(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"))
        True
        >>> ran_out(ValueError("out of memory"))
        False
    """
    told = str(error).lower()
    return isinstance(error, jax.errors.JaxRuntimeError) and ("resource_exhausted" in told or "out of memory" in told)
