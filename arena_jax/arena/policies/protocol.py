"""What a policy is, and how a run calls one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Protocol, cast

import jax
import numpy as np
from jax.typing import ArrayLike

from arena_jax.arena.history import History, pad
from arena_jax.config.errors import ArenaError


class Policy(Protocol):
    """A pure function of the history: scores, shares, seconds and steps in, the next shares out."""

    def __call__(self, history: History, /) -> ArrayLike:
        """The shares [models] that hold from now on; they sum to 1."""


# Shares computed in float32, or written with three digits, are normalised without a word; more is a mistake.
_SUM_TOLERANCE = 1e-3
# A compiled policy sees a record of this many rows, or of a multiple.
_ROWS = 64


def name_of(policy: Policy) -> str:
    """A policy's name, for messages and records.

    Example:
        >>> def mine(history):
        ...     return [0.5, 0.5]
        >>> name_of(mine)
        'mine'
    """
    return getattr(policy, "__name__", type(policy).__name__)


def _of_this_package(policy: Policy) -> bool:
    return getattr(type(policy), "__module__", "").startswith("arena_jax.")


@functools.lru_cache(maxsize=32)
def _compiled(policy: Hashable) -> Callable[[History], jax.Array]:
    return jax.jit(cast(Policy, policy))


def decide(policy: Policy, history: History) -> np.ndarray:
    """Ask a policy for the next shares, and check that they are shares.

    The policies of this package are compiled, on a padded history, so that a growing record costs one compilation in
    64 evaluations; see `prepare`. A function of your own is called as it is, with numpy arrays.

    Args:
        policy: a policy of this package, or any function from a history to shares.
        history: the record so far; the last row holds the shares in force.

    Returns:
        Shares [models], float64, summing to 1 to the last digit.

    Raises:
        ArenaError: the function returned something that is not shares of these models.

    Example:
        >>> from arena_jax.arena.history import start
        >>> decide(lambda history: [0.25, 0.75], start([-4.0, -3.0]))
        array([0.25, 0.75])
    """
    if _of_this_package(policy):
        answer: object = _compiled(cast(Hashable, policy))(pad(history, _ROWS))
    else:
        answer = policy(_read_only(history))
    return as_shares(answer, history.scores.shape[-1], name_of(policy))


def as_shares(answer: object, models: int, name: str) -> np.ndarray:
    """What a policy returned, as shares.

    Args:
        answer: [models], an array or a list of numbers.
        models: how many there are.
        name: of the policy, for messages.

    Returns:
        Shares [models], float64, summing to 1 to the last digit.

    Raises:
        ArenaError: it is something else, or its numbers are no shares.

    Example:
        >>> as_shares([-0.5, 1.5], 2, "mine")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: policy mine: returned [-0.5, 1.5]; each share must be finite and not below 0
    """
    expected = f"it must return {models} shares, one a model, that sum to 1"
    try:
        shares = np.asarray(answer, float)
    except (TypeError, ValueError):
        raise ArenaError(f"policy {name}: returned {answer!r}, which are no numbers; {expected}") from None
    if shares.shape != (models,):
        raise ArenaError(f"policy {name}: returned {answer!r}, of shape {shares.shape}; {expected}")
    if not np.isfinite(shares).all() or (shares < 0).any():
        raise ArenaError(f"policy {name}: returned {shares.tolist()}; each share must be finite and not below 0")
    if abs(shares.sum() - 1) > _SUM_TOLERANCE:
        raise ArenaError(f"policy {name}: its shares {shares.tolist()} sum to {shares.sum():.6g}; they must sum to 1")
    return shares / shares.sum()


def _read_only(history: History) -> History:
    views = [None if rows is None else np.asarray(rows).view() for rows in history]
    for view in views:
        if view is not None:
            view.flags.writeable = False  # the record is the competition's
    return History(*views)  # type: ignore[arg-type]


def prepare(policy: Policy, history: History) -> None:
    """Compile what `decide` will need when the record is half a program longer, if that is not there yet.

    Called now and then beside the training, it keeps `decide` from compiling while training waits.

    Args:
        policy: as for `decide`; nothing is done for a function of your own.
        history: the record so far.

    Example:
        >>> from arena_jax.arena.history import start
        >>> prepare(lambda history: [0.25, 0.75], start([-4.0, -3.0]))
    """
    if _of_this_package(policy):
        rows = -(-(len(history.scores) + _ROWS // 2) // _ROWS) * _ROWS
        _compiled(cast(Hashable, policy))(pad(history, rows))
