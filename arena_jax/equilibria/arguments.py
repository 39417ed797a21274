"""Checks of arguments, shared by all solvers; each failure is an error of one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.config.errors import ArenaError, first_line

Array = np.ndarray[Any, Any]


def real_numbers(values: Any) -> Array:
    """Return a float64 copy; texts that look like numbers, dates and complex numbers are none.

    Raises:
        TypeError: another kind of entries.
        ValueError: rows of different lengths.
    """
    array = np.asarray(values)
    if array.dtype.kind in "cSUMm":
        raise TypeError(f"they are of type {array.dtype}")
    return array.astype(np.float64)


def count(number: Any, name: str, meaning: str, low: int = 1) -> int:
    """Read a whole number of at least 1, or another least one.

    Raises:
        ArenaError: anything else.
    """
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < low:
        raise ArenaError(f"{name} is {number!r}; give {meaning}, a whole number of at least {low}")
    return int(number)


def certainty(resamples: Any, confidence: Any, low: int) -> None:
    """Check how often measurements are resampled, and how sure an interval shall be.

    Raises:
        ArenaError: fewer resamples than ``low``, or a confidence outside (0, 1).
    """
    count(resamples, "resamples", "how many resamples are drawn", low)
    real_number(confidence, "confidence", "a number in (0, 1)", lambda x: 0 < x < 1)


def real_number(number: Any, name: str, meaning: str, fits: Callable[[float], bool] = math.isfinite) -> float:
    """Read one real number; texts, truth values and None are none.

    Args:
        number: a number, or an array of one.
        name: the argument's, for the message.
        meaning: what to give, for the message.
        fits: whether a number makes sense; NaN arrives here too.

    Raises:
        ArenaError: anything else, or a number that does not fit.
    """
    try:
        value = None if number is None or isinstance(number, bool) else float(real_numbers(number).item())
    except (TypeError, ValueError):
        value = None
    if value is None or not fits(value):
        raise ArenaError(f"{name} is {number!r}; give {meaning}")
    return value


def seed_number(seed: int) -> int:
    """Read the seed of a random generator.

    Raises:
        ArenaError: no whole number, or one below 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ArenaError(f"the seed is {seed!r}; give a whole number of at least 0")
    return int(seed)


def ask(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """Call a function that a user gave; what it raises becomes one line, with the error itself as its cause.

    Raises:
        ArenaError: the function's own, or one that names what it raised.
    """
    try:
        return function(*arguments)
    except ArenaError:
        raise
    except Exception as error:
        first = first_line(error, "without a message")
        raise ArenaError(f"{name} raised {type(error).__name__}: {first}; call it alone to see where") from error


def one_number(value: Any, name: str) -> jax.Array:
    """Read what a function that is differentiated by jax returned.

    Raises:
        ArenaError: it is not one real number.
    """
    number = jnp.asarray(value)
    if number.shape != () or not jnp.issubdtype(number.dtype, jnp.floating):
        raise ArenaError(f"{name} returned {number.dtype} of shape {number.shape}; return one real number, shape ()")
    return number


def finite_array(values: Any, name: str, ndim: int | tuple[int, ...]) -> Array:
    """Read numbers as float64, or say which axis count or which number is wrong.

    Args:
        values: anything numpy reads as an array of real numbers.
        name: the argument's name, for the message.
        ndim: how many axes it may have.

    Returns:
        A float64 copy.

    Raises:
        ArenaError: not real numbers, not finite, or another number of axes.
    """
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    try:
        array = real_numbers(values)
    except (TypeError, ValueError) as error:
        raise ArenaError(f"{name} is not an array of real numbers ({error}); give a rectangular one") from None
    if array.ndim not in allowed:
        axes = " or ".join(str(d) for d in allowed)
        raise ArenaError(f"{name} has shape {array.shape}; give an array with {axes} axes")
    if array.size == 0:
        raise ArenaError(f"{name} is empty; give at least one number")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ArenaError(f"{name} holds {array[where]} at {where}; remove or repair it first")
    return array


def square(payoff: Any, name: str = "payoff", *, symmetric: bool = False) -> Array:
    """Read a square matrix, and a symmetric one if that is needed.

    Args:
        payoff: (n, n); entry (i, j) is what i earns against j.
        name: the argument's name, for the message.
        symmetric: whether A must equal its transpose (to 1e-8 of its largest entry).

    Returns:
        A float64 copy.

    Raises:
        ArenaError: it is not square, or not symmetric where it must be.
    """
    matrix = finite_array(payoff, name, 2)
    if matrix.shape[0] != matrix.shape[1]:
        raise ArenaError(f"{name} has shape {matrix.shape}; a game within one population needs a square matrix")
    if symmetric:
        gap = float(np.abs(matrix - matrix.T).max())
        if gap > 1e-8 * max(1.0, float(np.abs(matrix).max())):
            raise ArenaError(f"{name} is not symmetric (largest difference {gap:.3g}); pass ({name} + {name}.T) / 2")
    return matrix


def player_tables(payoffs: Any) -> list[Array]:
    """Read the payoff tables of k players, one with k axes for each.

    Raises:
        ArenaError: no tables, tables of different shapes, or with another number of axes.
    """
    if not isinstance(payoffs, Sequence | np.ndarray) or len(payoffs) == 0:
        raise ArenaError("payoffs holds no tables; k players need k tables with k axes each")
    tables = [finite_array(table, f"payoffs[{k}]", tuple(range(1, 33))) for k, table in enumerate(payoffs)]
    shapes = {table.shape for table in tables}
    if len(shapes) > 1 or tables[0].ndim != len(tables):
        raise ArenaError(
            f"payoffs holds {len(tables)} tables of shapes {sorted(shapes)}; k players need k tables with k axes each"
        )
    return tables


def distribution(x: Any, n: int, name: str = "x") -> Array:
    """Read shares: n non-negative numbers that sum to 1 (rows of them, if there is a leading axis).

    Args:
        x: (n,) or (m, n).
        n: number of strategies.
        name: the argument's name, for the message.

    Returns:
        A float64 copy whose rows sum to 1 exactly (they must do so to 1e-6 already).

    Raises:
        ArenaError: a wrong length, a negative share or a wrong sum.
    """
    shares = finite_array(x, name, (1, 2))
    if shares.shape[-1] != n:
        raise ArenaError(f"{name} has {shares.shape[-1]} shares for {n} strategies; give one share per strategy")
    if shares.min() < -1e-9:
        raise ArenaError(f"{name} has a negative share ({shares.min():.3g}); shares are probabilities")
    total = shares.sum(axis=-1, keepdims=True)
    if np.abs(total - 1).max() > 1e-6:
        raise ArenaError(f"{name} sums to {float(total.ravel()[0]):.6g}; divide it by its sum")
    shares = np.maximum(shares, 0.0)
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def labels(names: Any, n: int | None) -> tuple[str, ...]:
    """Return the given names, or 0 … n−1 when there are none; n is None where the names alone say how many.

    Raises:
        ArenaError: there are more or fewer names than strategies, or they are no list.
    """
    if names is None and n is not None:
        return tuple(str(i) for i in range(n))
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ArenaError(f"names is {names!r}; give a list of texts")
    strategies = tuple(str(name) for name in names)
    if n is None:
        return strategies
    if len(strategies) != n:
        raise ArenaError(f"names has {len(strategies)} entries for {n} strategies; give one name each")
    return strategies


def random(seed: int) -> np.random.Generator:
    """Return the generator of a seed: the same seed gives the same result in every function of this package."""
    return np.random.default_rng(seed_number(seed))


def as_floats(values: ArrayLike) -> jax.Array:
    """Give an array of floats: float64 where it is switched on and asked for, integers become the default float.

    Args:
        values: numbers of any type.

    Returns:
        The same numbers, floating.

    Example:
        >>> as_floats([1, 2]).dtype
        dtype('float32')
    """
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))
