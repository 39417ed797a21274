"""What a policy is, and how one is asked during a run."""

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
        """Say the shares [models] that hold from now on; they sum to 1."""


# A compiled policy sees a record of this many rows, or of a multiple.
_ROWS = 64


def _ours(policy: Policy) -> bool:
    return getattr(type(policy), "__module__", "").startswith("arena_jax.")


@functools.lru_cache(maxsize=32)
def _compiled(policy: Hashable) -> Callable[[History], jax.Array]:
    return jax.jit(cast(Policy, policy))


def decide(policy: Policy, history: History) -> np.ndarray:
    """Ask a policy for the next shares, and hold it to its word.

    The policies of this package are compiled, on a padded history, so that a growing record costs one compilation in
    64 evaluations; see `prepare`. A function of your own is called as it is, with numpy arrays.

    Args:
        policy: a policy of this package, or any function from a history to shares.
        history: the record so far; the last row holds the shares in force.

    Returns:
        Shares [models], float64, summing to 1 to the last digit.

    Raises:
        ArenaError: the function gave something that is not shares of these models.

    Example:
        >>> from arena_jax.arena.history import start
        >>> decide(lambda history: [0.25, 0.75], start([-4.0, -3.0]))
        array([0.25, 0.75])
    """
    asked = _compiled(cast(Hashable, policy))(pad(history, _ROWS)) if _ours(policy) else policy(_read_only(history))
    models = history.scores.shape[-1]
    try:
        shares = np.asarray(asked, float)
    except (TypeError, ValueError):
        raise ArenaError(
            f"policy {policy}: gave {asked!r}; it must give {models} shares, and these are no numbers"
        ) from None
    if shares.shape != (models,):
        given = f"{asked!r}, of shape {shares.shape}"
        raise ArenaError(f"policy {policy}: gave {given}; it must give {models} shares, one a model")
    if not np.isfinite(shares).all() or (shares < 0).any():
        raise ArenaError(f"policy {policy}: gave {shares.tolist()}; each share must be finite and not below 0")
    if abs(shares.sum() - 1) > 1e-3:
        raise ArenaError(f"policy {policy}: its shares {shares.tolist()} sum to {shares.sum():.6g}; they must sum to 1")
    return shares / shares.sum()


def _read_only(history: History) -> History:
    views = [np.asarray(rows).view() for rows in history]
    for view in views:
        view.flags.writeable = False  # the record is the competition's
    return History(*views)


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
    if _ours(policy):
        rows = -(-(len(history.scores) + _ROWS // 2) // _ROWS) * _ROWS
        _compiled(cast(Hashable, policy))(pad(history, rows))
