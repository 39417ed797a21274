"""How many parameters a model has."""

from __future__ import annotations

from typing import Any

import jax


def count_parameters(params: Any) -> int:
    """Count the numbers in a parameter tree; `optax.tree.size` takes no shapes without values.

    Args:
        params: arrays, or `jax.ShapeDtypeStruct`.

    Example:
        >>> from arena_jax import models
        >>> count_parameters(models.split(models.create("bert-tiny", "masked-lm"))[1])
        30880
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
