"""What counts as a number and as a count where a transformation is built, and calls that are mistaken."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from arena_jax.config.errors import ArenaError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def is_real(value: Any) -> bool:
    """Whether a value is a finite number; texts, booleans, None, NaN and infinities are not.

    Example:
        >>> is_real(0.2), is_real("0.2"), is_real(None), is_real(float("nan"))
        (True, False, False, False)
    """
    if isinstance(value, str | bytes | bool):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number, `least` or more.

    Example:
        >>> is_count(2), is_count(1.5), is_count(0), is_count(True)
        (True, False, False, False)
    """
    if isinstance(value, bool):
        return False
    try:
        return operator.index(value) >= least
    except TypeError:
        return False


def is_traced(value: Any) -> bool:
    """Whether a value is a scalar of JAX, as ``optax.inject_hyperparams`` makes of every number.

    Nobody knows its value inside ``jit``, so that its range is not checked.

    Example:
        >>> import jax.numpy as jnp
        >>> is_traced(jnp.float32(0.2)), is_traced(0.2), is_traced(jnp.ones(2))
        (True, False, False)
    """
    return isinstance(value, jax.Array) and value.ndim == 0


def is_number(value: Any, fits: Callable[[Any], Any]) -> bool:
    """Whether a value is a finite number in a range; of a traced one nobody knows.

    Example:
        >>> is_number(0.2, lambda part: 0 <= part <= 1), is_number(2, lambda part: 0 <= part <= 1)
        (True, False)
    """
    return is_traced(value) or (is_real(value) and bool(fits(value)))


def check_length(value: Any, least: int, what: str, reason: str) -> None:
    """Refuse a length that is no whole number, or that is traced: it is the shape of an array.

    Args:
        value: the length.
        least: the smallest that makes sense.
        what: how the message should call it, e.g. ``"scale_by_convergence: window"``.
        reason: why it cannot be smaller.

    Raises:
        ArenaError: traced, no whole number, or too small.
    """
    if isinstance(value, jax.Array):
        name = what.split()[-1]
        raise ArenaError(
            f"{what} is the length of an array and cannot be traced; with optax.inject_hyperparams name it in "
            f"static_args=({name!r},)"
        )
    if not is_count(value, least):
        raise ArenaError(f"{what} is {value!r}; {reason}")


def named_mistakes(positional: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a factory so that a call that does not fit its signature is an ``ArenaError`` that says how.

    Args:
        positional: how many arguments may be given by place.

    Example:
        >>> @named_mistakes(1)
        ... def scale(factor, *, every=1):
        ...     return factor, every
        >>> scale(2.0, evry=3)
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: scale has no argument 'evry'; did you mean 'every'?
    """

    def decorate(factory: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(factory).parameters
        name = factory.__name__

        @functools.wraps(factory)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if len(args) > positional:
                places = ", ".join(list(parameters)[:positional])
                raise ArenaError(
                    f"{name} takes {places} by place, and {len(args)} arguments are given so: name the others, e.g. "
                    f"{list(parameters)[positional]}=…"
                )
            for keyword in kwargs:
                if keyword not in parameters:
                    raise ArenaError(f"{name} has no argument {keyword!r}; {nearest(keyword, parameters)}")
            for place, parameter in zip(range(len(args)), parameters, strict=False):
                if parameter in kwargs:
                    raise ArenaError(f"{name}: {parameter} is given twice, at place {place + 1} and by name")
            for parameter in list(parameters)[len(args) :]:
                if parameters[parameter].default is inspect.Parameter.empty and parameter not in kwargs:
                    raise ArenaError(f"{name} needs {parameter}; give it by place or by name")
            return factory(*args, **kwargs)

        return checked

    return decorate
