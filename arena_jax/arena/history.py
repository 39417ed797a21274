"""What a policy may look at: the record of every evaluation so far."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

Array = jax.Array | np.ndarray


class History(NamedTuple):
    """The evaluations so far, oldest first; a frozen tuple of arrays, hence a pytree.

    Rows of NaN scores at the beginning mean "not there yet": a history padded that way (see `pad`) gives the same
    shares, so that one compiled policy serves a growing history.

    Attributes:
        scores: [evaluations, models], higher is better; not finite where a model diverged.
        shares: [evaluations, models], the share held up to that evaluation; the last row is in force now.
        seconds: [evaluations, models], device-seconds spent on each model from the start until then.
        steps: [evaluations, models], optimizer steps taken from the start until then.
        fraction: [evaluations], how much of the run's budget was used by then, 0 to 1.
        worth: [models], the models' weights in what the competition is for (those of the ensemble, at the last
            evaluation); None where they count alike.
        cost: [models], what scores are set against (objective pareto); None where they are not.
        parameters: [models], counts; None where no policy looks at them.
    """

    scores: Array
    shares: Array
    seconds: Array
    steps: Array
    fraction: Array
    worth: Array | None = None
    cost: Array | None = None
    parameters: Array | None = None


def empty(models: int) -> History:
    """A history before the first evaluation.

    Args:
        models: how many there are.

    Returns:
        A history of no rows.

    Example:
        >>> empty(2).scores.shape
        (0, 2)
    """
    rows = np.zeros((0, models))
    return History(rows, rows, rows, rows, np.zeros(0))


def start(scores: ArrayLike, shares: ArrayLike | None = None) -> History:
    """Begin a history with the baseline evaluation, before any step.

    Args:
        scores: baseline scores [models].
        shares: initial shares [models]; equal when not given.

    Returns:
        A history of one evaluation.

    Example:
        >>> start([-4.0, -3.0]).shares
        array([[0.5, 0.5]])
    """
    row = np.asarray(scores, float)[None]
    shares = np.full_like(row, 1 / row.shape[1]) if shares is None else np.asarray(shares, float)[None]
    return History(row, shares, np.zeros_like(row), np.zeros_like(row), np.zeros(1))


def extend(
    history: History, *, scores: ArrayLike, shares: ArrayLike, seconds: ArrayLike, steps: ArrayLike, fraction: float
) -> History:
    """Add one evaluation.

    Args:
        history: the record until now; it is not changed.
        scores: [models] of the new evaluation.
        shares: [models] in force until it.
        seconds: [models] device-seconds since the start.
        steps: [models] optimizer steps since the start.
        fraction: of the run's budget used, 0 to 1.

    Returns:
        The longer history.

    Example:
        >>> h = start([-4.0, -3.0])
        >>> h = extend(h, scores=[-3, -2], shares=[0.5, 0.5], seconds=[1, 2], steps=[5, 5], fraction=0.1)
        >>> h.scores.shape, h.fraction
        ((2, 2), array([0. , 0.1]))
    """
    row = (np.asarray(value, float) for value in (scores, shares, seconds, steps, fraction))
    columns = (np.concatenate([old, new[None]]) for old, new in zip(history[:5], row, strict=True))
    return history._replace(**dict(zip(History._fields, columns, strict=False)))


def pad(history: History, multiple: int = 64) -> History:
    """Put empty evaluations before the first, up to a multiple of rows, so that few shapes are ever compiled.

    Args:
        history: any record.
        multiple: the length becomes the next multiple of this.

    Returns:
        The same record with NaN scores, the first shares and zeros before it.

    Example:
        >>> pad(start([-4.0, -3.0]), 4).scores
        array([[nan, nan], [nan, nan], [nan, nan], [-4., -3.]])
    """
    missing = -len(history.scores) % multiple

    def front(values: Array, fill: float) -> np.ndarray:
        return np.concatenate([np.full((missing, *values.shape[1:]), fill), values])

    first = np.repeat(np.asarray(history.shares)[:1], missing, axis=0)
    return History(
        scores=front(history.scores, np.nan),
        shares=np.concatenate([first, history.shares]),
        seconds=front(history.seconds, 0),
        steps=front(history.steps, 0),
        fraction=front(history.fraction, 0),
        worth=history.worth,
        cost=history.cost,
        parameters=history.parameters,
    )
