"""The matrix products of a program, counted in the program itself: what a count from shapes is held against."""

from __future__ import annotations

import math
from typing import Any

import jax

from arena_jax.config.errors import ArenaError


def product_flops(jaxpr: Any, times: int = 1) -> float:
    """Count the operations of every ``dot_general``, two per multiplication and addition.

    Those of inner programs count too, in a scan once for each turn; of a choice, those of its costliest branch.

    Args:
        jaxpr: of the program, e.g. of ``jax.make_jaxpr(f)(x).jaxpr``.
        times: that it runs.

    Returns:
        Operations.

    Raises:
        ArenaError: products in a loop whose turns the program itself decides.

    Example:
        >>> import jax.numpy as jnp
        >>> product_flops(jax.make_jaxpr(lambda a: a @ a @ a)(jnp.ones((3, 3))).jaxpr)
        108.0
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            summed = math.prod(shape[axis] for axis in contracted)
            total += times * 2.0 * summed * math.prod(equation.outvars[0].aval.shape)
            continue
        turns = times * equation.params.get("length", 1)
        inner = [product_flops(program, turns) for program in _inner(equation)]
        if name == "while" and any(inner):
            raise ArenaError("cannot count the matrix products of a loop whose turns are not known before it runs")
        total += max(inner, default=0.0) if name == "cond" else sum(inner)
    return total


def _inner(equation: Any) -> list[Any]:
    """The programs that an equation runs."""
    values = jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"))
    programs = [getattr(value, "jaxpr", value) for value in values]
    return [program for program in programs if hasattr(program, "eqns")]
