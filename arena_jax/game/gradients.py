"""Utilities that backward passes give: Aumann–Shapley, Michel's sensitivity, second order; and attention entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import ask, count, finite_array, one_number, real_number
from arena_jax.game.coalitions import Values

Gates = jax.Array
NAME = "the function of the gates"


TOLERANCE = 0.01  # of the summed sizes of Aumann–Shapley values


def aumann_shapley(
    value: Callable[[Gates], Any], n: int, *, points: int = 16, most: int = 64, tolerance: float = TOLERANCE
) -> Values:
    """Integrate the gates' gradients along the diagonal: φᵢ = ∫₀¹ ∂v/∂gᵢ(t·1) dt.

    A cheap relative of the Shapley value (equal to it for polynomials of degree 2 in which each gate is linear);
    the values sum to v(1) − v(0) as soon as the quadrature is exact. While they miss it by more than the tolerance the
    nodes are doubled. A small gap is necessary, not sufficient: errors of single values can cancel in it.

    Args:
        value: gates (n,) → scalar, differentiable by jax.
        n: number of gates.
        points: Gauss–Legendre nodes to begin with; exact for polynomials of degree 2·points along the diagonal.
        most: nodes that doubling does not exceed.
        tolerance: the gap allowed, as a part of Σ|φᵢ|.

    Returns:
        Values with the gradients of all nodes tried and of both ends; the standard errors are 0 (the error is the
        quadrature's alone). ``gap`` says by how much their sum misses v(1) − v(0), ``method`` how many nodes it had.

    Raises:
        ArenaError: points or n below 1, a tolerance that is no number of at least 0, a function that raises, or a
            value or gradient that is not one finite number.

    Example:
        >>> v = lambda g: 3 * g[0] + g[1] * g[2]
        >>> aumann_shapley(v, 3, points=4).values.round(5).tolist()
        [3.0, 0.5, 0.5]
        >>> steep = aumann_shapley(lambda g: jnp.tanh(10 * g.sum() - 10), 2, points=4)
        >>> steep.method, abs(steep.gap) < 0.02
        ('Aumann–Shapley (32 nodes)', True)

    Source: Aumann and Shapley 1974; with a straight path it is integrated gradients (Sundararajan et al. 2017).
    """
    count(points, "points", "the number of quadrature nodes")
    count(most, "most", "the number of quadrature nodes that doubling does not exceed")
    ones = jnp.ones(count(n, "n", "the number of gates"))
    real_number(tolerance, "tolerance", "a part of the values' sum, at least 0", lambda x: x >= 0)
    # One node at a time: a vmap over passes of a model is slower on a CPU and holds the activations of all.
    along = jax.jit(jax.value_and_grad(lambda gates: _scalar(value, gates)))
    (whole, _), (none, _) = along(ones), along(0 * ones)
    if not (jnp.isfinite(whole) and jnp.isfinite(none)):
        raise ArenaError(f"{NAME} is not finite: {whole} at open gates, {none} at closed ones")
    nodes, spent = points, 2
    while True:
        places, weights = np.polynomial.legendre.leggauss(nodes)
        rows = [along(jnp.full_like(ones, t))[1] for t in (places + 1) / 2]
        values = _finite(weights / 2 @ np.asarray(rows, np.float64), "the gates' gradient")
        spent += nodes
        gap = float(values.sum() - (float(whole) - float(none)))
        if abs(gap) <= tolerance * np.abs(values).sum() or 2 * nodes > most:
            break
        nodes *= 2
    return Values(values, np.zeros(n), 0, f"Aumann–Shapley ({nodes} nodes)", gradients=spent, gap=gap)


def sensitivity(losses: Callable[[Gates], Any], n: int) -> Values:
    """Average each gate's absolute effect on each example: Iᵢ = mean over x of |∂L(x)/∂gᵢ| at g = 1.

    Args:
        losses: gates (n,) → losses (examples,), differentiable by jax.
        n: number of gates.

    Returns:
        Values in loss per unit of gate; standard errors over examples, NaN for one example.

    Raises:
        ArenaError: n below 1, a function that raises or returns no vector, or a gradient that is not finite.

    Example:
        >>> sensitivity(lambda g: jnp.array([1.0, -1.0]) * g[0] + g[1], 2).values.tolist()
        [1.0, 1.0]

    Source: Michel, Levy and Neubig 2019 (arXiv 1905.10650), equation 2.
    """
    ones = jnp.ones(count(n, "n", "the number of gates"))
    shape = jax.eval_shape(lambda gates: jnp.asarray(ask(losses, NAME, gates)), ones).shape
    if len(shape) != 1:
        raise ArenaError(f"{NAME} returned shape {shape}; return one loss per example, shape (examples,)")
    rows = _finite(np.abs(np.asarray(jax.jit(jax.jacrev(losses))(ones), np.float64)), "a gate's gradient")
    m = len(rows)
    errors = rows.std(axis=0, ddof=1) / np.sqrt(m) if m > 1 else np.full(n, np.nan)
    return Values(rows.mean(axis=0), errors, 1, "sensitivity", samples=m, gradients=1)


def second_order(loss: Callable[[Gates], Any], n: int) -> Values:
    """Predict the loss when one gate closes, to second order: L(g − eᵢ) − L(g) ≈ −∂L/∂gᵢ + ½ ∂²L/∂gᵢ² at g = 1.

    Args:
        loss: gates (n,) → scalar, twice differentiable by jax.
        n: number of gates.

    Returns:
        Values in units of the loss, high for a gate that matters; n + 1 gradients.

    Raises:
        ArenaError: n below 1, a function that raises or returns no scalar, or a derivative that is not finite.

    Example:
        >>> second_order(lambda g: (g[0] - 3) ** 2 + g[1], 2).values.tolist()
        [5.0, -1.0]

    Source: LeCun, Denker and Solla 1989 (optimal brain damage), applied to gates.
    """
    ones = jnp.ones(count(n, "n", "the number of gates"))
    slope = jax.grad(lambda gates: _scalar(loss, gates))

    def entry(direction: jax.Array) -> jax.Array:
        return jnp.vdot(direction, jax.jvp(slope, (ones,), (direction,))[1])

    gradient, diagonal = jax.jit(lambda: (slope(ones), jax.lax.map(entry, jnp.eye(n))))()
    values = np.asarray(-gradient + diagonal / 2, np.float64)
    return Values(_finite(values, "a gate's derivative"), np.zeros(n), 1, "second order", gradients=n + 1)


def attention_entropy(attention: Any) -> np.ndarray:
    """Describe how evenly each head looks around: mean over queries of −Σ a ln a / ln(visible keys).

    A description, not a utility: no sign of it says that a head is useful.

    Args:
        attention: (..., heads, queries, keys) probabilities; a key of weight exactly 0 counts as not visible.

    Returns:
        (heads,) in [0, 1]: 0 looks at one key, 1 at all alike. Queries that see one key are left out.

    Raises:
        ArenaError: fewer than three axes, or rows that do not sum to 1.

    Example:
        >>> attention_entropy([[[0.5, 0.5], [1.0, 0.0]]]).tolist()
        [1.0]
    """
    a = finite_array(attention, "attention", tuple(range(33)))
    if a.ndim < 3:
        raise ArenaError(f"attention has shape {a.shape}; give (..., heads, queries, keys)")
    if not np.allclose(a.sum(axis=-1), 1, atol=1e-3):
        raise ArenaError("attention rows do not sum to 1; give probabilities after the softmax")
    visible = (a > 0).sum(axis=-1)
    entropy = -(a * np.log(np.where(a > 0, a, 1.0))).sum(axis=-1)
    counted = visible > 1
    relative = np.where(counted, entropy / np.log(np.maximum(visible, 2)), 0.0)
    axes = tuple(i for i in range(relative.ndim) if i != a.ndim - 3)
    return relative.sum(axis=axes) / np.maximum(counted.sum(axis=axes), 1)


def _scalar(value: Callable[[Gates], Any], gates: Gates) -> jax.Array:
    return one_number(ask(value, NAME, gates), NAME)


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ArenaError(f"{name} is not finite for gate {int(np.argwhere(~np.isfinite(values))[0][-1])}")
    return values
