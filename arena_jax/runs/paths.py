"""The files that a run reads, named so that it can be resumed from any directory and after its folder was moved."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence

from arena_jax.config import ModelConfig, RunConfig
from arena_jax.config.model import CORPUS
from arena_jax.data.hub import DATA_SETS
from arena_jax.data.sources import BUILT_IN


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """A configuration in which whatever names a file or folder here names it absolutely; ids of the Hub stay.

    Args:
        config: of a new run, as it was given in the current directory.

    Example:
        >>> from arena_jax.config import presets
        >>> run = presets.get("joint-synthetic")
        >>> with_absolute_paths(run) == run
        True
    """
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, name=_absolute_source(config.data.name)))
    if config.arena is not None:
        domains = tuple((name, _absolute_source(source)) for name, source in config.arena.domains)
        config = dataclasses.replace(config, arena=dataclasses.replace(config.arena, domains=domains))
    names = [model.name for model in config.models]
    return dataclasses.replace(config, models=tuple(_absolute_model(model, names) for model in config.models))


def _absolute_source(name: str) -> str:
    is_here = name not in BUILT_IN and name not in DATA_SETS and (os.path.exists(name) or glob.glob(name))
    return os.path.abspath(name) if is_here else name


def _absolute_model(model: ModelConfig, names: Sequence[str]) -> ModelConfig:
    paths = {
        field: os.path.abspath(value)
        for field in ("checkpoint", "tokenizer", "start")
        if (value := getattr(model, field)) is not None
        and os.path.isdir(value)
        and not (field == "start" and value in (CORPUS, *names))
    }
    return dataclasses.replace(model, **paths)
