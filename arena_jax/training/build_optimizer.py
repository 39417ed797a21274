"""The optimizer of a run: its configuration as the arguments of ``transforms.multi_model_adamw``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from arena_jax import transforms
from arena_jax.config import OptimizerConfig, RunConfig
from arena_jax.config.sections import ARGUMENTS
from arena_jax.transforms.correspondence import CORRESPONDENCES

# What stands in Adam's place, by the name of `--optimizer`; the configuration's names for the arguments.
_INNER: dict[str, Callable[..., optax.GradientTransformation]] = {
    "nadamw": lambda b1, b2, epsilon: optax.scale_by_adam(b1, b2, epsilon, nesterov=True),
    "radam": lambda b1, b2, epsilon: optax.scale_by_radam(b1, b2, epsilon),
    "adabelief": lambda b1, b2, epsilon: optax.scale_by_belief(b1, b2, epsilon),
    "lion": lambda b1, b2: optax.scale_by_lion(b1, b2),
    "muon": lambda momentum, b1, b2, epsilon: transforms.scale_by_muon(momentum, b1=b1, b2=b2, eps=epsilon),
    "sgd": lambda momentum: optax.trace(momentum),
}


def build_optimizer(config: RunConfig, total_steps: int | None) -> optax.GradientTransformationExtraArgs:
    """Put the run's optimizer together.

    Args:
        config: of the run.
        total_steps: the run's length, for the decay; None in a competition, where nobody knows how many steps a model
            will take: learning rates come with each update, ``learning_rates={model: scalar}``.

    Returns:
        ``multi_model_adamw`` with :func:`optimizer_arguments`, inside ``freeze`` where parts stay as they are.

    Raises:
        ArenaError: arguments that do not fit each other; at init, a part to freeze that no model has.

    Example:
        >>> from arena_jax.config import presets
        >>> optimizer = build_optimizer(presets.joint_synthetic(), total_steps=100)
        >>> state = optimizer.init({name: {"up": jnp.ones(1)} for name in ("bert", "gpt2", "roberta")})
        >>> sorted(transforms.learning_rates(state))
        ['bert', 'gpt2', 'roberta']
    """
    optimizer = transforms.multi_model_adamw(**optimizer_arguments(config, total_steps))
    if config.optimizer.freeze:
        return transforms.freeze(config.optimizer.freeze, optimizer)
    return optimizer


def optimizer_arguments(config: RunConfig, total_steps: int | None) -> dict[str, Any]:
    """Map a run's configuration to arguments of ``multi_model_adamw``.

    Args:
        config: of the run. What its optimizer leaves open stays open: the form fills it in.
        total_steps: the run's length; None in a competition.

    Returns:
        Keyword arguments.

    Example:
        >>> from arena_jax.config import presets
        >>> arguments = optimizer_arguments(presets.joint_synthetic(), total_steps=100)
        >>> arguments["learning_rate"], arguments["warmup_steps"], arguments["decay_steps"]
        ({'bert': 0.004, 'gpt2': 0.004, 'roberta': 0.004}, 10, 90)
    """
    optimizer = config.optimizer
    arguments = {
        argument: getattr(optimizer, field) for field, argument in ARGUMENTS.items() if field not in ("b1", "b2")
    }
    arguments |= {"form": optimizer.form, "weights": {model.name: model.weight for model in config.models}}
    if optimizer.correspondence is not None:
        arguments["correspondence"] = CORRESPONDENCES[optimizer.correspondence]
    if optimizer.inner == "adamw":
        arguments |= {"b1": optimizer.b1, "b2": optimizer.b2, "eps": optimizer.epsilon, "amsgrad": optimizer.amsgrad}
    else:
        arguments["inner"] = _INNER[optimizer.inner](**optimizer.inner_arguments())
    if total_steps is None:
        return arguments | {"learning_rate": None, "warmup_steps": None, "decay_steps": None, "decay": None}
    warmup = warmup_steps(optimizer, total_steps)
    return arguments | {
        "learning_rate": {model.name: model.learning_rate or optimizer.learning_rate for model in config.models},
        "warmup_steps": warmup,
        "decay_steps": max(1, total_steps - warmup),
    }


def warmup_steps(optimizer: OptimizerConfig, total_steps: int) -> int:
    """The warm-up of the configuration or its form, or as much of it as leaves a short run one step at its peak.

    Example:
        >>> warmup_steps(OptimizerConfig(), 1000), warmup_steps(OptimizerConfig(), 20)
        (100, 19)
    """
    warmup = optimizer.resolved().warmup_steps
    assert warmup is not None
    return min(warmup, max(0, total_steps - 1))


def learning_rate_metrics(step: jax.Array, opt_state: Any) -> dict[str, dict[str, jax.Array]]:
    """The effective learning rates as a step's metrics, ``{model: {"learning_rate": float32}}``: off the state."""
    del step
    rates = transforms.learning_rates(opt_state)
    return {str(name): {"learning_rate": jnp.asarray(rate, jnp.float32)} for name, rate in rates.items()}
