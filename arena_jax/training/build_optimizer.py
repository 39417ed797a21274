"""The optimizer of a run: its configuration as the arguments of ``transforms.multi_model_adamw``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from arena_jax import transforms
from arena_jax.config import OptimizerConfig, RunConfig
from arena_jax.config.component_rates import TYPES, Rates
from arena_jax.config.optimizer import ARGUMENTS
from arena_jax.models.components import component_of
from arena_jax.transforms.correspondence import CORRESPONDENCES
from arena_jax.transforms.freeze import without_frozen

# What stands in Adam's place, by the name of `--optimizer`; the configuration's names for the arguments.
_INNER: dict[str, Callable[..., optax.GradientTransformation]] = {
    "nadamw": lambda b1, b2, epsilon: optax.scale_by_adam(b1, b2, epsilon, nesterov=True),
    "radam": lambda b1, b2, epsilon: optax.scale_by_radam(b1, b2, epsilon),
    "adabelief": lambda b1, b2, epsilon: optax.scale_by_belief(b1, b2, epsilon),
    "lion": lambda b1, b2: optax.scale_by_lion(b1, b2),
    "muon": lambda momentum, b1, b2, epsilon: transforms.scale_by_muon(momentum, b1=b1, b2=b2, eps=epsilon),
    "sgd": lambda momentum: optax.trace(momentum),
}


def build_optimizer(config: RunConfig) -> optax.GradientTransformationExtraArgs:
    """Put the run's optimizer together.

    Args:
        config: of the run.

    Returns:
        ``multi_model_adamw`` with :func:`optimizer_arguments`, inside ``freeze`` where parts stay as they are. Its
        learning rates come with each update, ``learning_rates={model: scalar or schedule}``, so that they are no
        constants of a compiled program.

    Raises:
        ArenaError: arguments that do not fit each other; at init, a part to freeze that no model has.

    Example:
        >>> from arena_jax.config import presets
        >>> config = presets.joint_synthetic()
        >>> optimizer, rates = build_optimizer(config), schedules(config, total_steps=100)
        >>> params = {name: {"up": jnp.ones(1)} for name in rates}
        >>> state = optimizer.init(params)
        >>> for step in range(2):
        ...     _, state = optimizer.update(params, state, params, learning_rates=rates)
        >>> {name: round(float(rate), 6) for name, rate in transforms.learning_rates(state).items()}
        {'bert': 0.0004, 'gpt2': 0.0004, 'roberta': 0.0004}
    """
    optimizer = transforms.multi_model_adamw(**optimizer_arguments(config))
    if config.optimizer.freeze:
        return transforms.freeze(config.optimizer.freeze, optimizer)
    return optimizer


def optimizer_arguments(config: RunConfig) -> dict[str, Any]:
    """Map a run's configuration to arguments of ``multi_model_adamw``.

    Args:
        config: of the run. What its optimizer leaves open stays open: the form fills it in.

    Returns:
        Keyword arguments.

    Example:
        >>> from arena_jax.config import presets
        >>> arguments = optimizer_arguments(presets.joint_synthetic())
        >>> arguments["learning_rate"], arguments["weights"]
        (None, {'bert': 1.0, 'gpt2': 0.8, 'roberta': 1.2})
    """
    optimizer = config.optimizer
    arguments = {
        argument: getattr(optimizer, field) for field, argument in ARGUMENTS.items() if field not in ("b1", "b2")
    }
    arguments |= {"form": optimizer.form, "weights": {model.name: model.weight for model in config.models}}
    if optimizer.correspondence is not None:
        arguments["correspondence"] = CORRESPONDENCES[optimizer.correspondence]
    if optimizer.unshared:
        arguments["unshared"] = optimizer.unshared
    rates = rates_by_component(config)
    if rates is not None:
        arguments |= {"component_rates": rates, "components": component_of}
    if optimizer.inner == "adamw":
        arguments |= {"b1": optimizer.b1, "b2": optimizer.b2, "eps": optimizer.epsilon, "amsgrad": optimizer.amsgrad}
    else:
        arguments["inner"] = _INNER[optimizer.inner](**optimizer.inner_arguments())
    return arguments | {"learning_rate": None, "warmup_steps": None, "decay_steps": None, "decay": None}


def rates_by_component(config: RunConfig) -> dict[str, Any] | None:
    """What the parts of each model multiply its learning rate by, before scaling, as the optimizer takes it.

    Args:
        config: of the run.

    Returns:
        ``{part: number or (layers,)}`` for all models; ``{model: …}`` where one has its own; None where rates are one
        per model.

    Example:
        >>> from arena_jax.config.change import change
        >>> from arena_jax.config import presets
        >>> rates_by_component(change(presets.joint_synthetic(), {"optimizer.component_rates": "query-key=8/4"}))
        {'query/key': [8.0, 4.0]}
    """

    def numbers(rates: Rates) -> dict[str, float | list[float]]:
        return {part: values[0] if len(values) == 1 else list(values) for part, values in rates}

    shared = config.optimizer.component_rates
    if any(model.component_rates for model in config.models):
        by_model = {model.name: numbers(model.component_rates or shared) for model in config.models}
        return {name: rates for name, rates in by_model.items() if rates}
    return numbers(shared) or None


def component_notes(config: RunConfig, params: Mapping[str, Any]) -> list[str]:
    """The rates by part for a run's head: a line for all models, or one for each where they differ.

    Args:
        config: of the run.
        params: ``{model: parameters}``, or anything of their shapes.

    Returns:
        A line each; none where rates are one per model.
    """
    rates = rates_by_component(config)
    if rates is None:
        return []
    trained = without_frozen(config.optimizer.freeze, params)
    multipliers = transforms.component_multipliers(component_of, rates, trained)
    texts = {
        str(name): ", ".join(
            f"{part} ×{'/'.join(f'{number:.3g}' for number in np.ravel(by_part[part]))}"
            for part in TYPES
            if part in by_part
        )
        for name, by_part in multipliers.items()
    }
    if len(texts) == len(params) and len(set(texts.values())) == 1:
        texts = {"all models": next(iter(texts.values()))}
    return [f"learning rate by part of {name}, scaled to a geometric mean of 1: {text}" for name, text in texts.items()]


def schedules(config: RunConfig, total_steps: int) -> dict[str, Partial]:
    """The learning rates of a joint run, over each model's own updates.

    Args:
        config: of the run.
        total_steps: its length; rates are warmed up, then decay until its end.

    Returns:
        ``{model: count -> rate}``, for ``update(..., learning_rates=…)``. They are pytrees: peak, warm-up and length
        are arguments of the program that is given them; only the shape of their course is part of it.

    Example:
        >>> from arena_jax.config import presets
        >>> rate = schedules(presets.joint_synthetic(), total_steps=100)["gpt2"]
        >>> [round(float(rate(count)), 6) for count in (0, 5, 10, 55, 100)]
        [0.0, 0.002, 0.004, 0.002, 0.0]
        >>> [leaf.item() for leaf in jax.tree.leaves(rate)]
        [0.004, 10, 90]
    """
    optimizer = config.optimizer
    warmup = warmup_steps(optimizer, total_steps)
    course = functools.partial(_rate, optimizer.form, optimizer.decay)
    return {
        model.name: Partial(
            course,
            np.asarray(model.learning_rate or optimizer.learning_rate, float),
            np.int32(warmup),
            np.int32(max(1, total_steps - warmup)),
        )
        for model in config.models
    }


def _rate(form: str, decay: str | None, peak: Any, warmup: Any, decay_steps: Any, count: Any) -> Any:
    return transforms.form_schedule(form, peak, warmup_steps=warmup, decay_steps=decay_steps, decay=decay)(count)


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
