"""Removal from one product y = x W as a problem of least squares: what it costs, and how the rest makes up for it.

Everything here is of second moments C of the inputs: ‖X (W′ − W)‖² / tokens = tr (W′ − W)ᵀ C (W′ − W). A small multiple
of the mean of C's diagonal is added to the diagonal, so that channels that always agree have one solution.

Sources: Hassibi and Stork 1992 (optimal brain surgeon); Frantar and Alistarh 2023 (SparseGPT, arXiv 2301.00774).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_jax.equilibria.arguments import Array

DAMPING = 0.01  # part of the mean diagonal, as in SparseGPT
COLUMNS = 128  # channels between two updates of all those behind them, as there


def with_damping(moments: Array, damping: float = DAMPING) -> Array:
    """C + damping · mean(diag C) · I; a channel that is always 0 has 1 on its diagonal.

    Args:
        moments: (c, c) C.
        damping: part of the mean of its diagonal.
    """
    matrix = np.array(moments, np.float64)
    matrix[np.diag_indices(len(matrix))] += damping * np.mean(np.diag(matrix))
    dead = np.diag(matrix) <= 0
    matrix[dead, dead] = 1.0
    return matrix


def removal_errors(kernel: Array, moments: Array, groups: Sequence[Array], damping: float = DAMPING) -> Array:
    """The error of y when a group of channels goes and the others do their best: tr W_gᵀ [(C⁻¹)_gg]⁻¹ W_g.

    Args:
        kernel: (c, d) W.
        moments: (c, c) C of the inputs; the covariance, where the bias takes up the mean.
        groups: the channels of each group.
        damping: see :func:`with_damping`.

    Returns:
        (groups,) squared errors per token, at least 0.

    Example:
        >>> twins = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # two channels that always agree
        >>> removal_errors(np.ones((3, 1)), twins, [np.array([i]) for i in range(3)], damping=1e-9).round(6).tolist()
        [0.0, 0.0, 1.0]
    """
    inverse = np.linalg.inv(with_damping(moments, damping))
    weights = np.asarray(kernel, np.float64)
    return np.array([np.vdot(weights[g], np.linalg.solve(inverse[np.ix_(g, g)], weights[g])) for g in groups])


def refit(kernel: Array, moments: Array, stays: Array, damping: float = DAMPING) -> Array:
    """The kernel that comes nearest to y = x W without some channels: W′_S = (C_SS)⁻¹ C_S: W.

    Args:
        kernel: (c, d) W.
        moments: (c, c) C.
        stays: bool (c,), True for a channel that stays.
        damping: see :func:`with_damping`.

    Returns:
        (c, d) float64, rows of removed channels 0.

    Example:
        >>> refit(np.array([[1.0], [2.0]]), np.ones((2, 2)), np.array([True, False]), damping=0.0)  # x₁ = x₂
        array([[3.],
               [0.]])
    """
    matrix, weights = with_damping(moments, damping), np.asarray(kernel, np.float64)
    new = np.zeros(weights.shape)
    if stays.any():
        new[stays] = np.linalg.solve(matrix[np.ix_(stays, stays)], matrix[stays] @ weights)
    return new


def sparse_kernel(kernel: Array, moments: Array, share: float, damping: float = DAMPING) -> Array:
    """Single weights that go, channel by channel; the channels behind make up for each: SparseGPT.

    Of every 128 channels the weights with the smallest w² / (U_jj)² go, U the upper Cholesky factor of C⁻¹.

    Args:
        kernel: (c, d) W.
        moments: (c, c) C = E x xᵀ, not centred: there is no bias to take up a mean.
        share: part of the weights that goes, from 0 to 1.
        damping: see :func:`with_damping`.

    Returns:
        (c, d) float64; of every 128 channels the share, rounded, is 0.

    Source: Frantar and Alistarh 2023, algorithm 1, with blocks of 128 for the choice as for the updates.
    """
    dead = np.diag(moments) <= 0
    weights = np.where(dead[:, None], 0.0, np.asarray(kernel, np.float64))
    inverse = np.linalg.inv(with_damping(moments, damping))
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    for start in range(0, len(weights), COLUMNS):
        stop = min(start + COLUMNS, len(weights))
        score = (weights[start:stop] / np.diag(upper)[start:stop, None]) ** 2
        goes = lowest(score, share)
        errors = np.zeros(score.shape)
        for i in range(start, stop):
            row = weights[i].copy()
            weights[i] = np.where(goes[i - start], 0.0, row)
            errors[i - start] = (row - weights[i]) / upper[i, i]
            weights[i + 1 : stop] -= np.outer(upper[i, i + 1 : stop], errors[i - start])
        weights[stop:] -= upper[start:stop, stop:].T @ errors
    return weights


def lowest(score: Array, share: float) -> Array:
    """Where the lowest numbers of an array are: bool of its shape; ties go by place.

    Args:
        score: any shape.
        share: part of all, rounded to a whole number.

    Example:
        >>> lowest(np.array([[3.0, 1.0], [2.0, 1.0]]), 0.5).astype(int).tolist()
        [[0, 1], [0, 1]]
    """
    goes = np.zeros(score.size, bool)
    goes[np.argsort(score, axis=None, kind="stable")[: round(share * score.size)]] = True
    return goes.reshape(score.shape)
