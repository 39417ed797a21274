"""How alike models are: linear CKA of what they make of the same rows, agreement of what they answer, distances."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError

Array = np.ndarray[Any, Any]


def linear_cka(left: Array, right: Array) -> float:
    r"""Linear centered kernel alignment of two representations of the same rows.

    .. math:: \frac{\lVert Y^T X \rVert_F^2}{\lVert X^T X \rVert_F\,\lVert Y^T Y \rVert_F}

    with columns centered. It does not change when a representation is turned, mirrored, moved or scaled.

    Args:
        left: (rows, width), X.
        right: (rows, its width), Y: the same rows in the same order.

    Returns:
        In [0, 1]; NaN where a representation is the same for all rows.

    Raises:
        ArenaError: different rows, or fewer than two.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(linear_cka(x, 7 * x[:, ::-1] + 1), 6)
        1.0

    Source: Kornblith et al. 2019, equation 5.
    """
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right) or len(left) < 2:
        raise ArenaError(f"CKA compares two rows or more, the same in both: {left.shape} and {right.shape} are not")
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right)
    return float(np.linalg.norm(right.T @ left) ** 2 / scale) if scale > 0 else float("nan")


def agreement(answers: Mapping[str, Array]) -> tuple[float, float]:
    """How often two models answer alike, and Cohen's kappa: how much more often than by chance; means over pairs.

    Args:
        answers: ``{model: (rows,)}``, class numbers that mean the same in all models.

    Returns:
        (agreement, kappa), each at most 1; kappa is NaN where two models give one and the same answer to all rows.

    Example:
        >>> agreement({"a": np.array([0, 0, 1, 1]), "b": np.array([0, 1, 1, 1])})
        (0.75, 0.5)
    """
    pairs = list(itertools.combinations(answers.values(), 2))
    if not pairs:
        raise ArenaError("agreement is of two models or more")
    alike, corrected = [], []
    for left, right in pairs:
        same = float(np.mean(left == right))
        chance = sum(float(np.mean(left == c)) * float(np.mean(right == c)) for c in np.union1d(left, right))
        alike.append(same)
        corrected.append((same - chance) / (1 - chance) if chance < 1 else float("nan"))
    return float(np.mean(alike)), float(np.mean(corrected))


def relative_distance(left: Sequence[Array], right: Sequence[Array]) -> float:
    """The distance of two models' matrices, over their mean norm: 0 for the same, about √2 for unrelated ones.

    Args:
        left: matrices.
        right: as many, of the same shapes and in the same places.

    Returns:
        The mean over the matrices.

    Example:
        >>> round(relative_distance([np.array([3.0, 0.0])], [np.array([0.0, 3.0])]), 6)
        1.414214
    """
    distances = [
        np.linalg.norm(a - b) / (0.5 * (np.linalg.norm(a) + np.linalg.norm(b)))
        for a, b in zip(left, right, strict=True)
    ]
    return float(np.mean(distances))
