"""Algorithm 1: models mix a part of their pooled gradients into their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_count, is_number, is_traced
from arena_jax.transforms.by_model import constant_weights, current_active, current_weights, silence_idle
from arena_jax.transforms.correspondence import Correspondence, by_kind
from arena_jax.transforms.pools import plan, pooled, select
from arena_jax.transforms.trees import Name, models_of, read


class ShareGradientsState(NamedTuple):
    """How many updates were made, int32."""

    count: jax.Array  # type: ignore[assignment]


def share_gradients(
    weights: Mapping[Name, float] | None = None,
    *,
    alpha: float = 0.2,
    every: int = 1,
    correspondence: Correspondence | None = None,
    reduce: Literal["sum", "mean"] = "sum",
    normalize: bool = False,
    alone: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Mix every gradient with the pooled gradients of the parameters it corresponds to.

    .. math::
        G_k = \sum_{p \in k} w_{m(p)} \nabla p, \qquad \nabla p \leftarrow (1 - \alpha) \nabla p + \alpha G_k

    where k is a group of corresponding parameters of one shape over all models, and w the weight of the model a
    parameter is in. A stacked leaf counts as one parameter per layer. A group of one parameter is left untouched, and
    so is a tree of one model: there is nobody to share with. (Algorithm 1 as printed makes no such exception, and
    scales that gradient by :math:`1 - \alpha + \alpha w`; ``alone=True`` does as it says.)

    With the paper's ``reduce="sum"`` the pool grows with the group: 12 layers of query, key, value and output kernels
    in three models are 144 terms, so that the "20 % shared" outweigh the own gradient. ``reduce="mean"`` divides by
    the sum of the weights in the group; gradients that are equal then stay what they are.

    Args:
        weights: ``{model: weight}``, finite and at least 0; None is 1 each. ``update(..., weights=...)`` overrides
            them, and may be traced.
        alpha: the part taken from the pool, in [0, 1]. With 0 gradients pass through bit by bit.
        every: share on updates number every, 2·every, … (counted from 1); on the others gradients pass through.
        correspondence: ``(path, shape) -> key or None``; ``by_kind`` (None), ``by_role``, ``by_layer`` or your own.
        reduce: ``"sum"`` (the paper) or ``"mean"``.
        normalize: divide the weights by their sum over all models first (the published code).
        alone: pool a parameter with itself where nothing corresponds to it, as printed.

    Returns:
        A transformation over ``{model: gradients}``. Its update understands ``weights={model: w}`` and
        ``active={model: bool}``: a model that is not active adds nothing to any pool and gets zero updates. Pools are
        summed in float32 at least; results have the gradients' dtypes.

    Raises:
        ArenaError: a bad argument (when built), or names that are not the models' (at init or update).

    Example:
        >>> import jax.numpy as jnp
        >>> share = share_gradients({"a": 1.0, "b": 3.0}, alpha=0.5)
        >>> gradients = {"a": {"up": jnp.array([1.0, 2.0])}, "b": {"down": jnp.array([3.0, 4.0])}}
        >>> state = share.init(gradients)
        >>> print(share.update(gradients, state)[0])  # G = 1·[1, 2] + 3·[3, 4] = [10, 14]
        {'a': {'up': Array([5.5, 8. ], dtype=float32)}, 'b': {'down': Array([6.5, 9. ], dtype=float32)}}
        >>> mean = share_gradients({"a": 1.0, "b": 3.0}, alpha=0.5, reduce="mean")
        >>> print(mean.update(gradients, state)[0])  # G = [2.5, 3.5]
        {'a': {'up': Array([1.75, 2.75], dtype=float32)}, 'b': {'down': Array([2.75, 3.75], dtype=float32)}}

    Source: MultiModelOptimizer, Algorithm 1.
    """
    constants = constant_weights(weights, "share_gradients")
    same = by_kind if correspondence is None else correspondence
    if not is_number(alpha, lambda part: 0 <= part <= 1):
        raise ArenaError(f"share_gradients: alpha is {alpha!r}; it is a part, so give a number from 0 to 1")
    if not (is_traced(every) or is_count(every)):
        raise ArenaError(f"share_gradients: every is {every!r}; give a whole number of updates, 1 or more")
    if reduce not in ("sum", "mean"):
        raise ArenaError(f"share_gradients: reduce is {reduce!r}; give 'sum' or 'mean'")

    on = is_traced(alpha) or alpha > 0

    def weights_now(models: tuple[Name, ...], weights: Any) -> dict[Name, Any]:
        return current_weights(constants, weights, models, normalize=normalize, what="share_gradients")

    def init_fn(params: Any) -> ShareGradientsState:
        weights_now(models_of(params), None)
        return ShareGradientsState(jnp.zeros([], jnp.int32))

    def update_fn(
        updates: Any,
        state: ShareGradientsState,
        params: Any = None,
        *,
        weights: Mapping[Name, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, ShareGradientsState]:
        del params, extra_args
        models = models_of(updates)
        current = weights_now(models, weights)
        mask = current_active(active, models, "share_gradients")
        count = optax.safe_increment(state.count)

        def mix(updates: Any) -> Any:
            gradients, treedef, leaves = read(updates)
            groups = plan(leaves, same, alone)
            values = [(gradient,) for gradient in gradients]
            for index, pool in pooled(values, leaves, groups, current, mask, mean=reduce == "mean").items():
                gradient = gradients[index].astype(pool.value.dtype)
                gradients[index] = select(pool, (1 - alpha) * gradient + alpha * pool.value, gradients[index])
            return jax.tree.unflatten(treedef, gradients)

        if is_traced(every) or every > 1:
            updates = jax.lax.cond(count % every == 0, mix, lambda unmixed: unmixed, updates) if on else updates
        elif on:
            updates = mix(updates)
        return silence_idle(updates, mask), ShareGradientsState(count)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
