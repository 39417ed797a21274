"""Initial values of parameters, drawn by NumPy: compiling a program to draw them takes longer than drawing."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Initial:
    """Gives each parameter its first value, in the order in which a model is built.

    Args:
        dtype: of the parameters.
        seed: whole number of at least 0; None gives shapes in place of arrays.

    Example:
        >>> Initial("float32", seed=0).stacked(3).normal((2, 2), std=0.1).shape
        (3, 2, 2)
    """

    def __init__(self, dtype: str, seed: int | None) -> None:
        self.dtype = jnp.dtype(dtype)
        self.generator = None if seed is None else np.random.default_rng(seed)
        self.leading: tuple[int, ...] = ()

    def stacked(self, layers: int) -> Initial:
        """The same source, with a leading axis of layers before every shape."""
        other = copy.copy(self)
        other.leading = (layers,)
        return other

    def normal(self, shape: tuple[int, ...], std: float, *, zero_row: int | None = None) -> Any:
        """Normal numbers of mean 0 and deviation ``std``; row ``zero_row`` is 0."""
        shape = (*self.leading, *shape)
        if self.generator is None:
            return jax.ShapeDtypeStruct(shape, self.dtype)
        wide = np.float64 if self.dtype == np.float64 else np.float32
        values = self.generator.standard_normal(shape, wide)
        values *= wide(std)
        if zero_row is not None:
            values[zero_row] = 0
        return jnp.array(values, self.dtype, copy=True)

    def constant(self, shape: tuple[int, ...], value: float) -> Any:
        """One value everywhere."""
        shape = (*self.leading, *shape)
        if self.generator is None:
            return jax.ShapeDtypeStruct(shape, self.dtype)
        return jnp.array(np.full(shape, value, self.dtype), copy=True)
