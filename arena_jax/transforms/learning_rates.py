"""The effective learning rates of an optimizer, read off its state."""

from __future__ import annotations

from typing import Any

import jax

from arena_jax.transforms.scale_by_convergence import ScaleByConvergenceState
from arena_jax.transforms.scale_by_learning_rates import ScaleByLearningRatesState
from arena_jax.transforms.scale_by_model_weight import ScaleByModelWeightState
from arena_jax.transforms.trees import Name


def learning_rates(state: Any) -> dict[Name, jax.Array]:
    """The learning rate with which each model last moved: base × warm-up × decay × weight × convergence.

    Args:
        state: of ``multi_model_adamw``, or of any chain that holds ``scale_by_learning_rates``; traced or not.

    Returns:
        ``{model: scalar}``, the product of what the links themselves multiplied by; 0 before a model's first update.
        Empty where the state holds no ``scale_by_learning_rates``.

    Example:
        >>> import jax.numpy as jnp
        >>> from arena_jax import transforms
        >>> optimizer = transforms.multi_model_adamw(0.1, {"a": 1.0, "b": 3.0}, form="published", warmup_steps=2)
        >>> params = {"a": {"up": jnp.ones(1)}, "b": {"up": jnp.ones(1)}}
        >>> _, state = optimizer.update(params, optimizer.init(params), params)
        >>> {model: round(float(rate), 5) for model, rate in learning_rates(state).items()}
        {'a': 0.03125, 'b': 0.04375}
    """
    kinds = (ScaleByLearningRatesState, ScaleByModelWeightState, ScaleByConvergenceState)
    links = [
        link for link in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds)) if isinstance(link, kinds)
    ]
    rates: dict[Name, jax.Array] = {}
    for link in links:
        if isinstance(link, ScaleByLearningRatesState):
            rates = {model: model_rate.rate for model, model_rate in link.models.items()}
    for link in links:
        if isinstance(link, ScaleByModelWeightState):
            rates = {model: rate * link.factors[model] for model, rate in rates.items()}
        elif isinstance(link, ScaleByConvergenceState):
            rates = {model: rate * link.models[model].factor for model, rate in rates.items()}
    return rates
