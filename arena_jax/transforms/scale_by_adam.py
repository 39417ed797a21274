"""Adam with a choice of where epsilon is added, and AMSGrad."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_number, is_traced


class ScaleByAdamState(NamedTuple):
    """Moments in the gradients' dtypes; ``largest`` is None without AMSGrad."""

    count: jax.Array  # type: ignore[assignment]  # int32
    first: Any
    second: Any
    largest: Any


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    eps_before_correction: bool = False,
    amsgrad: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam's direction, for any pytree.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        c_1 = 1 - \beta_1^t, \quad c_2 = 1 - \beta_2^t

    ============================  ===============================================================
    form                          direction
    ============================  ===============================================================
    default (Adam, the paper)     :math:`(m / c_1) / (\sqrt{v / c_2} + \epsilon)`
    ``eps_before_correction``     :math:`(m\sqrt{c_2} / c_1) / (\sqrt{v} + \epsilon)`
    ============================  ===============================================================

    In the second, which is the published code's, epsilon is in effect divided by :math:`\sqrt{c_2}`: 32 times larger at
    the first step. With ``amsgrad`` v is the largest v so far, before its correction, as in PyTorch
    (``optax.scale_by_amsgrad`` takes the largest after it).

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, at least 0.
        eps_before_correction: the published code's form.
        amsgrad: never let the denominator's v fall.

    Returns:
        A transformation. The default form is ``optax.scale_by_adam`` to the bit. It keeps one count for the whole
        tree; wrap it in ``per_model`` where models sit out updates.

    Raises:
        ArenaError: a bad argument.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient = jnp.array([1e-8])
        >>> for before in (False, True):
        ...     adam = scale_by_adam(eps_before_correction=before)
        ...     print(adam.update(gradient, adam.init(gradient))[0])
        [0.4999982]
        [0.03065343]

    Source: Kingma and Ba, 2015, Algorithm 1 and the remark at the end of its section 2; Reddi et al., 2018.
    """
    for name, beta in (("b1", b1), ("b2", b2)):
        if not is_number(beta, lambda factor: 0 <= factor < 1):
            raise ArenaError(f"scale_by_adam: {name} is {beta!r}; give a number from 0 to below 1")
    if not is_number(eps, lambda number: number >= 0):
        raise ArenaError(f"scale_by_adam: eps is {eps!r}; give a number that is at least 0")

    def init_fn(params: Any) -> ScaleByAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(), zeros(), zeros() if amsgrad else None)

    def update_fn(
        updates: Any, state: ScaleByAdamState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ScaleByAdamState]:
        del params, extra_args
        count = optax.safe_increment(state.count)
        first = _like(state.first, optax.tree.update_moment(updates, state.first, b1, 1))
        second = _like(state.second, optax.tree.update_moment_per_elem_norm(updates, state.second, b2, 2))
        largest = jax.tree.map(jnp.maximum, state.largest, second) if amsgrad else None
        under = second if largest is None else largest
        if eps_before_correction:
            c1, c2 = (_correction(b, count, updates) for b in (b1, b2))
            factor = jnp.sqrt(c2) / c1
            direction = jax.tree.map(lambda m, v: (m * factor / (jnp.sqrt(v) + eps)).astype(m.dtype), first, under)
        else:
            direction = jax.tree.map(
                lambda m, v: m / (jnp.sqrt(v) + eps),
                optax.tree.bias_correction(first, b1, count),
                optax.tree.bias_correction(under, b2, count),
            )
        return _like(updates, direction), ScaleByAdamState(count, first, second, largest)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _like(tree: Any, values: Any) -> Any:
    """Values in the types of a tree: a traced coefficient has a type of its own, which would spread."""
    return jax.tree.map(lambda leaf, value: value.astype(leaf.dtype), tree, values)


def _correction(beta: Any, count: jax.Array, tree: Any) -> jax.Array:
    """``1 − βᵗ`` without the cancellation that costs float32 four digits at the first steps."""
    dtype = jnp.finfo(jnp.result_type(jnp.float32, *jax.tree.leaves(tree))).dtype
    if not is_traced(beta) and beta == 0:
        return jnp.ones([], dtype)
    log = jnp.log(jnp.asarray(beta, dtype)) if is_traced(beta) else math.log(beta)
    return -jnp.expm1(count.astype(dtype) * log)
