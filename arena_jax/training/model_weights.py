"""The models' weights in sharing and synchronisation while a run goes on: as configured, or following validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_jax.config import RunConfig


def validation_weights(
    weights: Mapping[str, float], first_losses: Mapping[str, float], losses: Mapping[str, float]
) -> dict[str, float]:
    r"""Weigh models by how far they have come, each measured by its own first evaluation.

    .. math::
        w_i' = \frac{\sum_j w_j}{\sum_j w_j e^{p_j}}\, w_i e^{p_i}, \qquad p_i = 1 - \frac{L_i}{L_i^{\mathrm{first}}}

    The paper says only that weights can be "dynamically adjusted during training based on validation performance"
    (section 3.5); the equation is ours. A model that has learnt much has more to give. p is relative to the model's own
    first loss, so that losses of different tasks and units can be compared; it is at most 1, so that no model weighs
    more than e times what another does for its progress alone; and the sum of the weights stays, so that pools that are
    sums keep their size. At the first evaluation every p is 0, and weights are as configured.

    Args:
        weights: ``{model: w_i}`` as configured, above 0.
        first_losses: ``{model: L_i}`` of the first evaluation.
        losses: ``{model: L_i}`` of the newest.

    Returns:
        ``{model: w_i'}``. A model whose loss is not finite weighs 0, one whose first loss was not finite or not above 0
        has p = 0; where no loss is finite the weights stay as configured.

    Example:
        >>> first, now = {"bert": 0.7, "gpt2": 4.0}, {"bert": 0.7, "gpt2": 2.0}
        >>> weights = validation_weights({"bert": 1.0, "gpt2": 1.0}, first, now)
        >>> {name: round(weight, 4) for name, weight in weights.items()}  # e^0 : e^0.5
        {'bert': 0.7551, 'gpt2': 1.2449}
    """

    def progress(name: str) -> float:
        first, loss = first_losses[name], losses[name]
        if not math.isfinite(loss):
            return -math.inf
        return 1 - loss / first if math.isfinite(first) and first > 0 else 0.0

    each = {name: progress(name) for name in weights}
    best = max(each.values())
    if not math.isfinite(best):
        return dict(weights)
    # Less the best, which the quotient does not see: no exponential overflows.
    grown = {name: weight * math.exp(each[name] - best) for name, weight in weights.items()}
    scale = sum(weights.values()) / sum(grown.values())
    return {name: scale * weight for name, weight in grown.items()}


class ModelWeights:
    """The weights in force, and what is needed to go on with them after an interruption.

    Args:
        config: of the run.
        state: from :meth:`state` of the interrupted run, or None.
    """

    def __init__(self, config: RunConfig, state: Mapping[str, Any] | None = None) -> None:
        self.configured = {model.name: model.weight for model in config.models}
        self.follows_validation = config.optimizer.weights_follow == "validation"
        self.first_losses: dict[str, float] = dict(state["first_losses"]) if state else {}
        self.current: dict[str, float] = dict(state["current"]) if state else dict(self.configured)

    def follow(self, losses: Mapping[str, float]) -> None:
        """Take the losses of an evaluation into account, ``{model: loss}``, by :func:`validation_weights`."""
        if self.follows_validation:
            self.first_losses = self.first_losses or dict(losses)
            self.current = validation_weights(self.configured, self.first_losses, losses)

    def arguments(self) -> dict[str, dict[str, np.float32]]:
        """What a step hands to the optimizer: nothing where weights stay, as constants are compiled in."""
        if not self.follows_validation:
            return {}
        return {"weights": {name: np.float32(weight) for name, weight in self.current.items()}}

    def record(self) -> dict[str, dict[str, float]]:
        """What an evaluation's record says of them: nothing where they stay."""
        return {"weights": dict(self.current)} if self.follows_validation else {}

    def state(self) -> dict[str, dict[str, float]]:
        """Plain numbers, for a checkpoint's position; JSON gives them back to the bit."""
        return {"first_losses": dict(self.first_losses), "current": dict(self.current)}
