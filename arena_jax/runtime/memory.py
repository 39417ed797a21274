"""Amounts of memory: of arrays and devices, as people write them, and what a program really took."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from arena_jax.config.units import BYTES, parse_memory
from arena_jax.runtime.program import Program


def tree_bytes(*trees: Any) -> int:
    """Count the bytes of all arrays in some trees, without looking at their values.

    Args:
        *trees: pytrees of arrays or `jax.ShapeDtypeStruct`; other leaves count nothing.

    Returns:
        Bytes, of whole arrays: a sharded one is counted over all devices.

    Example:
        >>> tree_bytes({"w": np.zeros((2, 3), np.float32)}, jax.ShapeDtypeStruct((4,), np.int8))
        28
    """
    leaves = [leaf for leaf in jax.tree.leaves(trees) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]
    return sum(int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize for leaf in leaves)


def device_bytes(*trees: Any) -> int:
    """Count the bytes that all arrays in some trees take on one device.

    Args:
        *trees: as in :func:`tree_bytes`; arrays without a sharding count whole.

    Example:
        >>> device_bytes({"w": np.zeros((2, 3), np.float32)})
        24
    """

    def part(leaf: Any) -> Any:
        sharding = getattr(leaf, "sharding", None)
        return leaf if sharding is None else jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype)

    return tree_bytes(jax.tree.map(part, trees))


def device_limit(device: jax.Device | None = None) -> int:
    """The memory that JAX may use on a device.

    Args:
        device: the first one when not given.

    Returns:
        Bytes: the allocator's own limit where it has one (GPU, TPU), else the machine's memory.

    Example:
        >>> device_limit() > 10**8
        True
    """
    device = device or jax.devices()[0]
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parse_bytes(text: str | int | float, device: jax.Device | None = None) -> int:
    """Read an amount of memory as people write it.

    Args:
        text: ``"40GB"`` (10⁹), ``"512MiB"`` (2²⁰), ``"90%"`` or a fraction above 0 and up to 1 of the device's limit
            (``0.9``, ``"0.9"``), or a number of bytes (an integer is always bytes; a fraction above 1 is none).
        device: whose limit a fraction refers to; the first one when not given.

    Returns:
        Bytes.

    Raises:
        ArenaError: it is not an amount of memory, or not a positive one.

    Example:
        >>> parse_bytes("40GB"), parse_bytes("512 MiB"), parse_bytes(1e6)
        (40000000000, 536870912, 1000000)
        >>> parse_bytes("50%") == parse_bytes(0.5) == device_limit() // 2
        True
    """
    read = parse_memory(text)
    return int(read.amount * device_limit(device) if read.of == "fraction" else read.amount)


def format_bytes(count: float) -> str:
    """Write bytes for people, in decimal units.

    Args:
        count: bytes.

    Returns:
        Three digits and a unit.

    Example:
        >>> format_bytes(40e9), format_bytes(1234567), format_bytes(12)
        ('40 GB', '1.23 MB', '12 B')
    """
    for unit in ("TB", "GB", "MB", "kB"):
        if abs(count) >= (size := BYTES[unit.upper()]):
            return f"{count / size:.3g} {unit}" if abs(count) < 999.5 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"


def calibrate(
    program: Program, run: Callable[[], Any], devices: Sequence[jax.Device] | None = None
) -> tuple[Any, float | None]:
    """Run a program and measure how far the allocator's real peak lies above what the compiler reported.

    The allocator remembers one peak for the life of the process, so this says something only about the largest program
    so far. The program's arguments must already be on the devices, and nothing else may be under way. No GPU has run
    this yet: what is tested are made-up peaks.

    Args:
        program: its bytes are what the peak is compared with.
        run: calls it once with arguments that are already there; its result is waited for where a peak is kept.
        devices: it runs on, of which the worst counts; the first one when not given.

    Returns:
        What ``run`` returned, and the part by which the real need exceeded the compiler's, at least 0; None where the
        allocator keeps no peak (CPU) or an earlier peak hides this one.

    Example:
        >>> from arena_jax.runtime.program import compile_program
        >>> program = compile_program(lambda x: x + 1, np.ones(2, np.float32))
        >>> calibrate(program, lambda: program.executable(np.ones(2, np.float32)), jax.devices("cpu"))
        (Array([2., 2.], dtype=float32), None)
    """
    devices = devices or jax.devices()[:1]
    before = [device.memory_stats() or {} for device in devices]
    result = run()
    if not all("peak_bytes_in_use" in stats for stats in before):
        return result, None
    jax.block_until_ready(result)
    after = [device.memory_stats() or {} for device in devices]
    growth = [
        stats["peak_bytes_in_use"] - earlier["bytes_in_use"]
        for earlier, stats in zip(before, after, strict=True)
        if stats["peak_bytes_in_use"] > earlier["peak_bytes_in_use"]
    ]
    need = program.bytes
    excess = max(0.0, (need.arguments + max(growth)) / need.total - 1) if growth else None
    return result, excess
