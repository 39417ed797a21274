"""Section 3.5: a model's weight scales its learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_number
from arena_jax.transforms.by_model import constant_weights, current_active, current_weights, keep_idle, silence
from arena_jax.transforms.trees import Name, branches, models_of, scale_leaves, wide_dtype


class ScaleByModelWeightState(NamedTuple):
    """The factor of each model's last update, float32 or float64; 0 before the first."""

    factors: dict[Name, jax.Array]


def scale_by_model_weight(
    weights: Mapping[Name, float] | None = None,
    *,
    base: float = 0.0,
    normalize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Scale each model's updates by a line in its weight.

    .. math:: u_i \leftarrow (\mathit{base} + (1 - \mathit{base})\, w_i)\, u_i

    ``base=0`` scales by the weight itself. The published code uses ``base=0.5, normalize=True``: 0.5 + 0.5·w.

    Args:
        weights: ``{model: weight}``, finite and at least 0; None is 1 each. ``update(..., weights=...)`` overrides
            them, and may be traced.
        base: the factor of a model of weight 0, in [0, 1].
        normalize: divide the weights by their sum over all models first.

    Returns:
        A transformation over ``{model: updates}``; it understands ``weights=`` and ``active=``, and its state keeps
        each model's last factor.

    Raises:
        ArenaError: a bad argument (when built), or names that are not the models' (at init or update).

    Example:
        >>> import jax.numpy as jnp
        >>> scale = scale_by_model_weight({"a": 1.0, "b": 3.0}, base=0.5, normalize=True)
        >>> updates = {"a": jnp.ones(1), "b": jnp.ones(1)}
        >>> scaled, _ = scale.update(updates, scale.init(updates))
        >>> print(scaled["a"], scaled["b"])  # 0.5 + 0.5·¼ and 0.5 + 0.5·¾
        [0.625] [0.875]

    Source: MultiModelOptimizer, section 3.5 (the line itself: the published code).
    """
    constants = constant_weights(weights, "scale_by_model_weight")
    if not is_number(base, lambda part: 0 <= part <= 1):
        raise ArenaError(f"scale_by_model_weight: base is {base!r}; give a number from 0 to 1")

    def weights_now(models: tuple[Name, ...], weights: Any) -> dict[Name, Any]:
        return current_weights(constants, weights, models, normalize=normalize, what="scale_by_model_weight")

    def init_fn(params: Any) -> ScaleByModelWeightState:
        weights_now(models_of(params), None)
        trees, _ = branches(params)
        return ScaleByModelWeightState({model: jnp.zeros([], wide_dtype(tree)) for model, tree in trees.items()})

    def update_fn(
        updates: Any,
        state: ScaleByModelWeightState,
        params: Any = None,
        *,
        weights: Mapping[Name, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, ScaleByModelWeightState]:
        del params, extra_args
        trees, definition = branches(updates)
        models = tuple(trees)
        current = weights_now(models, weights)
        mask = current_active(active, models, "scale_by_model_weight")

        moved, factors = [], {}
        for model in models:
            old = state.factors[model]
            factor = jnp.asarray(base + (1 - base) * current[model], old.dtype)
            moved.append(silence(scale_leaves(trees[model], factor), mask, model))
            factors[model] = keep_idle(factor, old, mask, model)
        return jax.tree.unflatten(definition, moved), ScaleByModelWeightState(factors)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
