"""The domains of a run's data: each domain's texts, and their rows for each model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from arena_jax import data
from arena_jax.config import DataConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.data.domains import join_rows, join_texts

Splits = Mapping[str, data.Dataset]
DomainRows = dict[str, dict[str, data.Encoded]]  # {domain: {split: rows}}


def domain_sources(config: RunConfig, source: DataConfig) -> dict[str, DataConfig]:
    """Where each domain's texts are; none where the run has a single one.

    The first is the run's own data, called as the last part of its name.

    Args:
        config: of the run.
        source: its data section.

    Raises:
        ArenaError: a name twice, or a source that is read as it is trained on.

    Example:
        >>> from arena_jax.config import presets
        >>> run = presets.get("arena-small")
        >>> run = dataclasses.replace(run, arena=dataclasses.replace(run.arena, domains=(("law", "texts/law.txt"),)))
        >>> {name: source.name for name, source in domain_sources(run, run.data).items()}
        {'python-docs': 'python-docs', 'law': 'texts/law.txt'}
    """
    if config.arena is None or not config.arena.domains:
        return {}
    first = PurePath(source.name).name or source.name
    pairs = [(first, source.name), *config.arena.domains]
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ArenaError(f"two domains have one name: {', '.join(names)}, of which the first is --data's own; rename")
    for name, where in pairs:
        if data.is_stream(where):
            raise ArenaError(f"domain '{name}' is read as it is trained on: domains are files, folders or data sets")
    further = {name: dataclasses.replace(source, name=where, subset=None, columns=()) for name, where in pairs[1:]}
    return {first: source, **further}


def all_texts(domains: Mapping[str, Splits]) -> dict[str, data.Dataset]:
    """The splits of all domains together, ``{split: texts}``."""
    splits = next(iter(domains.values()))
    return {split: join_texts({name: of_domain[split] for name, of_domain in domains.items()}) for split in splits}


def encode_domains(
    encode: Callable[[data.Dataset], data.Encoded], domains: Mapping[str, Splits]
) -> tuple[dict[str, data.Encoded], DomainRows]:
    """The rows of all domains together, ``{split: rows}``, and of each, ``{domain: {split: rows}}``, for one model."""
    whole: dict[str, Any] = {}
    each: DomainRows = {name: {} for name in domains}
    for split in next(iter(domains.values())):
        rows = {name: encode(of_domain[split]) for name, of_domain in domains.items()}
        whole[split], padded = join_rows(rows)
        for name, of_domain in padded.items():
            each[name][split] = of_domain
    return whole, each
