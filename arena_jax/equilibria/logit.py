"""The logit (quantal response) equilibrium, followed from equal shares."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, finite_array, square


def logit_equilibrium(payoff: Any, temperature: Any) -> Array:
    """Solve x = softmax(Ax/τ): the equilibrium of players who err, always interior, hence usable as shares.

    The branch that starts at equal shares for infinite temperature is followed by pseudo-arclength continuation, so
    the answer is the same one whatever other equilibria exist.

    Args:
        payoff: (n, n).
        temperature: τ > 0 in units of the payoff, a number or a (k,) sweep.

    Returns:
        (n,) shares, or (k, n).

    Raises:
        ArenaError: a temperature that is not positive, or so low that the branch could not be followed.

    Example:
        >>> logit_equilibrium([[1, 0], [0, 0]], [100.0, 0.5]).round(3).tolist()
        [[0.501, 0.499], [0.844, 0.156]]

    Source: McKelvey and Palfrey 1995 (quantal response equilibrium); the principal branch: Turocy 2005.
    """
    matrix = square(payoff)
    sweep = finite_array(temperature, "temperature", (0, 1))
    if sweep.min() <= 0:
        raise ArenaError(f"temperature is {sweep.min():g}; give a positive number in units of the payoff")
    scale = max(float(np.ptp(matrix)), 1e-300)
    precisions = scale / np.atleast_1d(sweep)
    order = np.argsort(precisions)
    branch = np.empty((len(precisions), len(matrix)))
    for k, shares in zip(order, _branch(matrix / scale, precisions[order]), strict=True):
        branch[k] = shares
    return branch[0] if sweep.ndim == 0 else branch


def _branch(payoff: Array, precisions: Array) -> list[Array]:
    """Points of the principal branch at increasing precisions 1/τ; unknowns (z, λ) with x = softmax(z)."""
    n = len(payoff)
    centred = payoff - payoff.mean(axis=0)
    point = np.zeros(n + 1)
    tangent = np.append(centred.mean(axis=1), 1.0)
    tangent /= np.linalg.norm(tangent)
    residual = functools.partial(_residual, centred)
    results: list[Array] = []
    stride = 0.1
    for _ in range(20_000):
        while len(results) < len(precisions) and point[-1] >= precisions[len(results)]:
            results.append(_softmax(_at_precision(residual, point, precisions[len(results)])[:-1]))
        if len(results) == len(precisions):
            return results
        target = precisions[len(results)]
        step = stride
        if tangent[-1] > 0 and point[-1] + step * tangent[-1] > target:
            step = max((target - point[-1]) / tangent[-1], 1e-12)
        guess = point + step * tangent
        corrected, rounds = _newton(residual, guess, tangent, float(tangent @ guess))
        if corrected is None or np.linalg.norm(corrected - point) > 3 * step + 1e-9:
            stride /= 2
            if stride < 1e-9:
                break
            continue
        _, jacobian = residual(corrected)
        # The tangent is the null vector of the Jacobian; its sign keeps the direction of travel.
        following = np.linalg.svd(jacobian)[2][-1]
        following *= np.sign(following @ tangent) or 1.0
        if following @ tangent < 0.9 and stride > 1e-6:
            stride /= 2
            continue
        point, tangent = corrected, following
        if abs(point[-1] - target) < 1e-12 * max(1.0, target):
            point[-1] = target
        if rounds <= 3:
            stride = min(stride * 1.5, 1.0 + abs(point[-1]))
    raise ArenaError("the logit equilibrium could not be followed to this temperature; raise temperature")


def _residual(centred: Array, point: Array) -> tuple[Array, Array]:
    z, precision = point[:-1], point[-1]
    x = _softmax(z)
    jacobian = np.empty((len(z), len(z) + 1))
    jacobian[:, :-1] = np.eye(len(z)) - precision * centred @ (np.diag(x) - np.outer(x, x))
    jacobian[:, -1] = -centred @ x
    return z - precision * centred @ x, jacobian


def _newton(residual: Any, guess: Array, normal: Array, offset: float) -> tuple[Array | None, int]:
    """Solve residual = 0 on the hyperplane normal·point = offset; None where it does not converge."""
    point = guess.copy()
    for rounds in range(12):
        value, jacobian = residual(point)
        gap = np.append(value, normal @ point - offset)
        if np.abs(gap).max() < 1e-11 * (1 + np.abs(point).max()):
            return point, rounds
        try:
            point = point - np.linalg.solve(np.vstack([jacobian, normal]), gap)
        except np.linalg.LinAlgError:
            return None, rounds
        if not np.isfinite(point).all():
            return None, rounds
    return None, 12


def _at_precision(residual: Any, near: Array, precision: float) -> Array:
    """Polish a point of the branch at exactly this precision."""
    if near[-1] == precision:
        return near
    normal = np.zeros(len(near))
    normal[-1] = 1.0
    guess = near.copy()
    guess[-1] = precision
    solved, _ = _newton(residual, guess, normal, precision)
    return near if solved is None else solved


def _softmax(z: Array) -> Array:
    powers = np.exp(z - z.max())
    return np.asarray(powers / powers.sum())
