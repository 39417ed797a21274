"""One model of a run by itself: the configuration that one would write to train it alone."""

from __future__ import annotations

import dataclasses

from arena_jax.config import RunConfig
from arena_jax.config.together import TogetherConfig


def lone_run(config: RunConfig, name: str, steps: int) -> RunConfig:
    """The run of one model alone, for so many steps: what its numbers are compared with, to the bit.

    Args:
        config: of the run that it belongs to.
        name: of the model.
        steps: of its own run.

    Example:
        >>> from arena_jax.config import presets
        >>> run = lone_run(presets.get("joint-synthetic"), "gpt2", 5)
        >>> [model.name for model in run.models], run.training.steps, run.training.epochs
        (['gpt2'], 5, None)
    """
    return dataclasses.replace(
        config,
        models=(config.model(name),),
        training=dataclasses.replace(config.training, steps=steps, epochs=None, output=None, mirror=None),
        together=TogetherConfig(ema=config.together.ema),
        optimizer=dataclasses.replace(config.optimizer, weights_follow="none"),
    )
