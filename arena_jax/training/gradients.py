"""The gradient of one model's mean loss over a batch that is computed in microbatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arena_jax.training.modules import Structure, put_together, variables_of
from arena_jax.training.objective_signature import check_result
from arena_jax.training.objectives import Objective


def mean_gradient(
    structure: Structure,
    objective: Objective,
    params: Any,
    variables: Any,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
) -> tuple[Any, dict[str, jax.Array], Any]:
    """The gradient of ``loss_sum / count`` over all examples of a batch; pure, for use inside ``jit``.

    Args:
        structure: of the model.
        objective: what it is trained for.
        params: its parameters.
        variables: its other variables; each microbatch reads what the one before it left.
        batch: arrays (k, b, …): k microbatches of b examples. Only one microbatch's activations are held at a time.
        key: dropout and masking of microbatch i are folded from it and i.

    Returns:
        The gradient (a tree like ``params``), the sums over all k·b examples, and the variables afterwards.
    """

    def loss_sum(p: Any, v: Any, microbatch: Mapping[str, jax.Array], index: jax.Array) -> tuple[jax.Array, Any]:
        model = put_together(structure, p, v, training=True)
        sums = check_result(objective(model, microbatch, jax.random.fold_in(key, index), True), objective).sums
        return sums["loss_sum"], (sums, variables_of(model, v))

    def mean_loss(p: Any, v: Any, microbatch: Mapping[str, jax.Array]) -> tuple[jax.Array, Any]:
        total, (sums, after) = loss_sum(p, v, microbatch, jnp.zeros((), jnp.int32))
        return total / jnp.maximum(sums["count"], 1), (sums, after)

    count = jax.tree.leaves(batch)[0].shape[0]
    if count == 1:
        microbatch = jax.tree.map(lambda x: x[0], batch)
        (_, (sums, after)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params, variables, microbatch)
        return gradient, sums, after

    def accumulate(carry: Any, item: Any) -> tuple[Any, None]:
        index, microbatch = item
        totals, before = carry
        (_, (sums, after)), gradient = jax.value_and_grad(loss_sum, has_aux=True)(params, before, microbatch, index)
        return (jax.tree.map(lambda a, b: a + b.astype(a.dtype), totals, (gradient, sums)), after), None

    first = jax.tree.map(lambda x: x[0], batch)
    (_, (sums_shape, _)), gradient_shape = jax.eval_shape(
        jax.value_and_grad(loss_sum, has_aux=True), params, variables, first, jnp.zeros((), jnp.int32)
    )
    # Half-precision gradients are summed in float32: a sum of many small terms would otherwise stop growing.
    zeros = (
        jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.promote_types(s.dtype, jnp.float32)), gradient_shape),
        jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), sums_shape),
    )
    ((gradient, sums), after), _ = jax.lax.scan(accumulate, (zeros, variables), (jnp.arange(count), batch))
    # The number of targets is a float32 whole number, exact; its reciprocal would not be: in float64 1e-8 off.
    targets = jnp.maximum(sums["count"], 1)
    gradient = jax.tree.map(lambda g, s: (g * (1 / targets.astype(g.dtype))).astype(s.dtype), gradient, gradient_shape)
    return gradient, sums, after
