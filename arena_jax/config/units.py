"""Amounts as people write them: of memory, and of what a run may spend. Read here, without importing JAX."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from arena_jax.config.errors import ArenaError

BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"S": 1.0, "MIN": 60.0, "H": 3600.0}
_FLOPS = {"GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15}


class Memory(NamedTuple):
    """An amount of memory.

    Attributes:
        of: ``"bytes"``, or ``"fraction"`` of a device's limit.
        amount: of these.
    """

    of: str
    amount: float


class Spend(NamedTuple):
    """What a run may spend on training all its models together.

    Attributes:
        of: ``"seconds"`` (device-seconds, measured) or ``"flops"`` (operations, counted).
        amount: of these.
    """

    of: str
    amount: float


def parse_memory(text: str | int | float) -> Memory:
    """Read an amount of memory, before there is a device to take a fraction of; `arena_jax.runtime.parse_bytes` does.

    Args:
        text: ``"40GB"``, ``"512MiB"``, ``"90%"``, ``"0.9"``, or a number: of bytes, or a fraction above 0 and up to 1.

    Returns:
        Bytes or a fraction.

    Raises:
        ArenaError: it is not an amount of memory, or not a positive one.

    Example:
        >>> parse_memory("40GB"), parse_memory("90%")
        (Memory(of='bytes', amount=40000000000.0), Memory(of='fraction', amount=0.9))
        >>> parse_memory("lots")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: memory budget 'lots' is not an amount; write 40GB, 512MiB, 90% or 0.9
    """
    amount_and_unit = _split(str(text))
    if amount_and_unit is None or (amount_and_unit[1] != "%" and amount_and_unit[1] not in BYTES):
        raise ArenaError(f"memory budget {text!r} is not an amount; write 40GB, 512MiB, 90% or 0.9")
    amount, unit = amount_and_unit
    if unit == "%" or (unit == "" and "." in str(text) and 0 < amount <= 1):
        fraction = amount / 100 if unit == "%" else amount
        if not 0 < fraction <= 1:
            raise ArenaError(f"memory budget {text!r} is not between 0 and 100% of the device")
        return Memory("fraction", fraction)
    if unit in ("", "B") and 1 < amount < 2**63 and not amount.is_integer():
        raise ArenaError(f"memory budget {text!r} is no whole number of bytes; write a unit (1.5GB) or a part (0.9)")
    if amount * BYTES[unit] >= 2**63:
        raise ArenaError(f"memory budget {text!r} is more than any device has")
    if amount * BYTES[unit] < 1:
        raise ArenaError(f"memory budget {text!r} is nothing; it must be positive")
    return Memory("bytes", amount * BYTES[unit])


def parse_spend(text: str) -> Spend:
    """Read what a run may spend.

    Args:
        text: ``"150s"``, ``"10min"``, ``"1.5h"`` of device time, or ``"20TFLOP"``, ``"300GFLOP"``, ``"1PFLOP"``.

    Returns:
        The amount.

    Raises:
        ArenaError: for anything else, or nothing.

    Example:
        >>> parse_spend("2.5min"), parse_spend("20 TFLOP")
        (Spend(of='seconds', amount=150.0), Spend(of='flops', amount=20000000000000.0))
    """
    amount_and_unit = _split(text)
    for of, units in (("seconds", _SECONDS), ("flops", _FLOPS)):
        if amount_and_unit and amount_and_unit[1] in units and 0 < amount_and_unit[0] < math.inf:
            return Spend(of, amount_and_unit[0] * units[amount_and_unit[1]])
    raise ArenaError(f"--spend is {text!r}: it must be device time (150s, 10min, 1.5h) or operations (20TFLOP)")


def parse_duration(text: str) -> float:
    """Read a length of time.

    Args:
        text: ``"90s"``, ``"10min"`` or ``"1.5h"``.

    Returns:
        Seconds, more than 0.

    Raises:
        ArenaError: for anything else.

    Example:
        >>> parse_duration("1.5h")
        5400.0
    """
    amount_and_unit = _split(text)
    if amount_and_unit and amount_and_unit[1] in _SECONDS and 0 < amount_and_unit[0] < math.inf:
        return amount_and_unit[0] * _SECONDS[amount_and_unit[1]]
    raise ArenaError(f"'{text}' is no length of time: write 90s, 10min or 1.5h")


def _split(text: str) -> tuple[float, str] | None:
    """The number and the unit in capitals, or None where there are no such two parts."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:E\+?[0-9]+)?)\s*(%|[A-Z]*)", text.strip().upper())
    return (float(match.group(1)), match.group(2)) if match else None
