"""A pool of devices of several kinds: read from a file, or the devices that are here."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.units import parse_memory
from arena_jax.runtime.gpus import gpu
from arena_jax.runtime.memory import device_limit

_FIELDS = ("count", "gpu", "memory", "link")


class Kind(NamedTuple):
    """Devices that are alike.

    Attributes:
        title: as JAX names the kind.
        number: how many.
        memory: bytes of each that programs may take.
        link: bytes per second that a device exchanges with others of its kind; infinite: exchange costs nothing.
    """

    title: str
    number: int
    memory: int
    link: float = float("inf")


def read_pool(path: Path) -> tuple[Kind, ...]:
    """Read a TOML file with a table for each kind of device.

    A table is named as its GPU (``[a100-40gb]``), or says ``gpu = "NAME"`` or a file of its facts, as ``arena-jax
    plan --device`` takes it; ``count`` is how many. ``memory`` (bytes, text such as ``"38GB"``, or a part of the card:
    ``"80%"``, ``0.8``) is 90 % of the card if not given, ``link`` is in bytes per second.

    Args:
        path: of the file.

    Returns:
        The kinds, in the file's order.

    Raises:
        ArenaError: no such file, an unknown GPU or word, or a number that is none.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArenaError(
            f"cannot read the pool '{path}' ({error}); a table a kind: [a100-40gb] and count = 8"
        ) from None
    if not tables:
        raise ArenaError(f"the pool '{path}' is empty; write a table a kind: [a100-40gb] and count = 8")
    return tuple(_kind(name, table, path) for name, table in tables.items())


def pool_here() -> tuple[Kind, ...]:
    """The devices of this machine, by kind.

    Virtual devices of a CPU share its memory, so each has its part.

    Example:
        >>> sum(kind.number for kind in pool_here()) == len(jax.devices())
        True
    """
    counts = Counter(device.device_kind for device in jax.devices())
    kinds = []
    for title, count in counts.items():
        device = next(device for device in jax.devices() if device.device_kind == title)
        limit = device_limit(device)
        kinds.append(Kind(title, count, limit // count if device.platform == "cpu" else limit))
    return tuple(kinds)


def _kind(name: str, table: Any, path: Path) -> Kind:
    where = f"the pool '{path}', [{name}]"
    if not isinstance(table, dict) or "count" not in table:
        raise ArenaError(f"{where}: give count = how many devices")
    for field in table:
        if field not in _FIELDS:
            raise ArenaError(f"{where} has no use for '{field}'; {nearest(field, _FIELDS)}")
    count, link = table["count"], table.get("link", float("inf"))
    if type(count) is not int or count < 1:
        raise ArenaError(f"{where}: count is {count!r}; give a whole number from 1 up")
    if isinstance(link, bool) or not isinstance(link, int | float) or not link > 0:
        raise ArenaError(f"{where}: link is {link!r}; give bytes per second above 0")
    facts = gpu(table.get("gpu", name))
    # Of the card that is described; `parse_bytes` would take a part of this machine's memory.
    read = parse_memory(table.get("memory", "90%"))
    memory = int(read.amount * (facts.memory if read.of == "fraction" else 1))
    if not 0 < memory <= facts.memory:
        raise ArenaError(f"{where}: memory is {table['memory']!r}; a {facts.title} has {facts.memory / 1e9:.1f} GB")
    return Kind(facts.title, count, memory, float(link))
