"""Ways of learning together that were measured, by one word: `arena-jax train PRESET --recipe WORD`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from arena_jax.config.baselines import independent
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.model import CORPUS
from arena_jax.config.run import RunConfig
from arena_jax.config.together import PART, TogetherConfig


def relay(config: RunConfig) -> RunConfig:
    """What was measured on WikiText-2: GPT-2 learns first, from the corpus' table, the others start from its tables.

    A model that has a checkpoint leads, else the first of GPT-2's family, else the first, for half of the steps.
    Nothing else is shared. At equal steps of each model it is better than the corpus' table alone; at half the steps of
    models that train alone it is not shown to be as good (benchmarks/results/relay_wikitext2.md). Starts that are given
    stay.

    Example:
        >>> from arena_jax.config import presets
        >>> run = relay(presets.get("joint-wikitext2"))
        >>> run.together.relay, run.model("gpt2").start, run.model("bert").start, run.optimizer.share_alpha
        ('gpt2', 'corpus', None, 0.0)
    """
    alone = independent(config)
    order = sorted(alone.models, key=lambda model: (model.checkpoint is None, model.family != "gpt2"))
    leader = order[0]
    models = tuple(
        dataclasses.replace(model, start=CORPUS)
        if model.name == leader.name and model.checkpoint is None and model.start is None
        else model
        for model in alone.models
    )
    together = TogetherConfig(relay=leader.name, relay_part=PART, ema=config.together.ema)
    return dataclasses.replace(alone, models=models, together=together)


RECIPES: dict[str, Callable[[RunConfig], RunConfig]] = {"relay": relay}


def recipe(config: RunConfig, word: str) -> RunConfig:
    """A run's configuration, changed as a recipe says.

    Args:
        config: of the run.
        word: "relay".

    Raises:
        ArenaError: an unknown word, or a competition.
    """
    if word not in RECIPES:
        raise ArenaError(f"unknown recipe '{word}'; {nearest(word, RECIPES)}")
    if config.arena is not None:
        raise ArenaError(
            "a recipe is of joint training: it trains a leader alone, and a competition's all train; leave it out"
        )
    return RECIPES[word](config)
