"""The shapes that a run's models have: those of its configuration until they change, then as its checkpoints say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.resize import Resize
from arena_jax.models import TransformerConfig
from arena_jax.models.resize import resize, shape_fields
from arena_jax.training.build_optimizer import build_optimizer
from arena_jax.training.modules import take_apart
from arena_jax.training.step import Step

Shapes = Mapping[str, Mapping[str, Any]]


def shapes_of(networks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a checkpoint keeps of its models' shapes: ``{model: {field of its configuration: value}}``."""
    return {name: shape_fields(model.config) for name, model in networks.items()}


def take_shapes(step: Step, networks: dict[str, Any], shapes: Shapes) -> list[str]:
    """Give models the shapes of a checkpoint, before its arrays are read.

    Args:
        step: over the models; its programs of those that change are gone.
        networks: ``{name: model}``; one that changes is replaced by shapes without values.
        shapes: from `shapes_of`; of earlier versions nothing, and models stay as they are.

    Returns:
        The models that are of another shape now.
    """
    changed = []
    for name, fields in shapes.items():
        model = networks[name]
        config = model.config.replace(**fields)
        if config != model.config:
            networks[name] = models.abstract(config, model.task)
            step.replace(name, networks[name])
            changed.append(name)
    return changed


def check_resizes(config: RunConfig, networks: Mapping[str, Any], steps: int | None = None) -> None:
    """Carry out all changes of shape that a run asks for on shapes alone, before anything is trained.

    Args:
        config: of the run.
        networks: ``{name: model}``, as they begin.
        steps: of the run, where it is known.

    Raises:
        ArenaError: one cannot be carried out, or comes after the end; the message names model and step.
    """
    for model in config.models:
        if not model.resizes:
            continue
        network = networks[model.name]
        if steps is not None and model.resizes[-1].step >= steps:
            raise ArenaError(
                f"model '{model.name}': resize at {model.resizes[-1].step:,} comes after the run's {steps:,} steps: "
                "give an earlier step"
            )
        shapes: dict[int, TransformerConfig] = {}
        for change in model.resizes:
            try:
                shapes[change.step] = after(shapes.get(max(shapes, default=0), network.config), change)
            except ArenaError as error:
                raise ArenaError(f"model '{model.name}': resize at {change.step:,}: {error}") from None
        for step, shape in shapes.items():
            check_shape(config, {**networks, model.name: models.abstract(shape, network.task)}, model.name, step)


def check_shape(config: RunConfig, networks: Mapping[str, Any], name: str, step: int) -> None:
    """Refuse a shape that the run's optimizer cannot take, such as one rate per layer for another number of layers.

    Raises:
        ArenaError: with model and step.
    """
    params = {each: take_apart(each, network)[1] for each, network in networks.items()}
    try:
        optimizer = build_optimizer(config)
        state = jax.eval_shape(optimizer.init, params)
        extra: dict[str, Any] = {
            "learning_rates": dict.fromkeys(params, 1.0),
            "value": dict.fromkeys(params, 1.0),
        }
        # Gradients have the parameters' shapes.
        jax.eval_shape(lambda g, s, p: optimizer.update(g, s, p, **extra), params, state, params)
    except ArenaError as error:
        raise ArenaError(f"model '{name}': resize at {step:,}: {error}") from None


def after(config: TransformerConfig, change: Resize) -> TransformerConfig:
    """The configuration after a change."""
    for what, count in change.targets:
        config = resize(config, what, count).after
    return config
