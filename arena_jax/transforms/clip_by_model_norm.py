"""Clipping by the norm of each model on its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_number
from arena_jax.transforms.by_model import check_names, current_active, silence
from arena_jax.transforms.trees import Name, branches, is_float, models_of, scale_leaves


def clip_by_model_norm(
    max_norm: float | Mapping[Name, float], *, epsilon: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Bound the global norm of each model's updates; one model's large gradient does not shrink another's.

    .. math:: u_i \leftarrow u_i \min\!\left(1,\ \frac{c_i}{\lVert u_i \rVert_2 + \epsilon}\right)

    Put it before ``share_gradients`` to bound what a model gives, after it to bound what it takes.

    Args:
        max_norm: c, above 0: one for all models, or ``{model: c}``.
        epsilon: added to the norm. PyTorch's ``clip_grad_norm_``, and so the published code, adds 1e-6.

    Returns:
        A stateless transformation over ``{model: updates}``; it understands ``active=``. Norms are taken in float32 at
        least.

    Raises:
        ArenaError: a bound that is not above 0, or names that are not the models'.

    Example:
        >>> import jax.numpy as jnp
        >>> clip = clip_by_model_norm(1.0)
        >>> gradients = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.3, 0.4])}
        >>> clipped, _ = clip.update(gradients, clip.init(gradients))
        >>> print(clipped["a"], clipped["b"])
        [0.6 0.8] [0.3 0.4]
    """
    bounds = dict(max_norm) if isinstance(max_norm, Mapping) else {None: max_norm}
    for name, bound in bounds.items():
        whose = "max_norm" if name is None else f"the max_norm of {name!r}"
        if not is_number(bound, lambda norm: norm > 0):
            raise ArenaError(f"clip_by_model_norm: {whose} is {bound!r}; give a number above 0")

    def bounds_of(models: tuple[Name, ...]) -> dict[Name, float]:
        if not isinstance(max_norm, Mapping):
            return dict.fromkeys(models, max_norm)
        check_names(max_norm, models, "clip_by_model_norm: max_norm")
        return dict(max_norm)

    def init_fn(params: Any) -> optax.EmptyState:
        bounds_of(models_of(params))
        return optax.EmptyState()

    def update_fn(
        updates: Any,
        state: optax.EmptyState,
        params: Any = None,
        *,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, optax.EmptyState]:
        del params, extra_args
        trees, definition = branches(updates)
        models = tuple(trees)
        current = bounds_of(models)
        mask = current_active(active, models, "clip_by_model_norm")

        def clipped(model: Name) -> Any:
            floats = [u for u in jax.tree.leaves(trees[model]) if is_float(u)]
            dtype = jnp.finfo(jnp.result_type(jnp.float32, *floats)).dtype
            squares = [jnp.sum(jnp.square(jnp.abs(u).astype(dtype))) for u in floats]
            norm = jnp.sqrt(sum(squares, start=jnp.zeros([], dtype)))
            factor = jnp.minimum(1, current[model] / (norm + epsilon))
            return silence(scale_leaves(trees[model], factor), mask, model)

        return jax.tree.unflatten(definition, [clipped(model) for model in models]), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
