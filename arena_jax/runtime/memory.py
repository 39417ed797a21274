"""The memory oracle: what a step will need, read off the compiler before a byte is allocated."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from arena_jax.config.errors import ArenaError
from arena_jax.config.units import BYTES, parse_memory
from arena_jax.runtime.compilation_cache import compiled
from arena_jax.runtime.program_bytes import program_bytes


class Estimate(NamedTuple):
    """What one compiled step needs on each device, in bytes.

    total = temporaries + arguments + outputs − aliased. XLA's ``peak_memory_in_bytes`` is not used: for a batch of 32
    it said 60 MB where the process grew by 956 MB.

    Attributes:
        arguments: what the step is given; resident before it starts.
        outputs: what it returns, donated buffers included.
        temporaries: what it needs in between.
        aliased: outputs written into donated arguments, which would otherwise count twice.
        total: all of it.
        executable: the compiled step, to be used and not thrown away.
        seconds: how long the compilation took.
        cached: whether it came from a cache on disk.
        code: the program itself with its constants, which is no part of the total: it lies on the device as long as
            the executable lives, whether it runs or not. The CPU's compiler tells none, though a live program takes
            host memory there, too: gradients of `arena-small` 13 to 37 MB, most of it the compiler's own records.
            Nor does it tell arrays that a step closes over: give them as arguments.
    """

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    total: int
    executable: jax.stages.Compiled
    seconds: float
    cached: bool = False
    code: int = 0

    @property
    def whole(self) -> int:
        """What the device must hold for the step to run: the total, and the program itself."""
        return self.total + self.code


def estimate(step: Callable[..., Any], *arguments: Any, **keywords: Any) -> Estimate:
    """Compile a step and read its memory from the result; nothing is allocated and nothing runs.

    Args:
        step: a function, or an already jitted one (so that donation and static arguments are its own).
        *arguments: what it will be called with; `jax.ShapeDtypeStruct` in place of arrays is enough.
        **keywords: what it will be called with by name.

    Returns:
        Bytes per device, and the executable.

    Raises:
        jax.errors.JaxRuntimeError: the compiler failed; a GPU's may because the step cannot fit, see `ran_out`.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jax.ShapeDtypeStruct((1000,), jnp.float32)
        >>> need = estimate(lambda x: jnp.sort(x) + 1, x)
        >>> need.arguments, need.outputs, need.total == need.temporaries + 8000
        (4000, 4000, True)
    """
    jitted = step if hasattr(step, "lower") else jax.jit(step)
    began = time.perf_counter()
    executable, _, cached = compiled(jitted.lower(*arguments, **keywords))
    seconds = time.perf_counter() - began
    needs = program_bytes(executable)
    if needs is None:
        raise ArenaError(
            "memory.estimate: this backend does not tell what a compiled step needs; set batch sizes by hand"
        )
    given, outputs, temporaries, aliased, code = needs
    return Estimate(given, outputs, temporaries, aliased, needs.total, executable, seconds, cached, code)


class Fresh:
    """A function that is jitted anew for every program.

    JAX keeps the programs of a jitted function as long as the function lives: what is evicted would stay in memory.

    Args:
        function: to be jitted.
        out_shardings: as `jax.jit` takes them.

    Example:
        >>> estimate(Fresh(lambda x: x + 1, None), np.ones(10, np.float32)).outputs
        40
    """

    def __init__(self, function: Callable[..., Any], out_shardings: Any) -> None:
        self._function, self._out = function, out_shardings

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, unjitted."""
        return self._function(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Like that of a jitted function."""
        return jax.jit(functools.partial(self._function), out_shardings=self._out).lower(*arguments)


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


def device_limit(device: jax.Device | None = None) -> int:
    """Say how much memory JAX may use on a device.

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
    need: Estimate, run: Callable[[], Any], devices: Sequence[jax.Device] | None = None
) -> tuple[Any, float | None]:
    """Run a step and measure how far the allocator's real peak lies above its estimate.

    The allocator remembers one peak for the life of the process, so this says something only about the largest step so
    far. The step's arguments must already be on the devices, and nothing else may be under way. No GPU has run this
    yet: what is tested are made-up peaks.

    Args:
        need: the estimate of the step.
        run: calls the step once with arguments that are already there; its result is waited for where a peak is kept.
        devices: the step runs on, of which the worst counts; the first one when not given.

    Returns:
        What ``run`` returned, and the part by which the real need exceeded the estimate, at least 0; None where the
        allocator keeps no peak (CPU) or an earlier peak hides this one.

    Example:
        >>> need = estimate(lambda x: x + 1, np.ones(2, np.float32))
        >>> calibrate(need, lambda: need.executable(np.ones(2, np.float32)), jax.devices("cpu"))
        (Array([2., 2.], dtype=float32), None)
    """
    devices = devices or jax.devices()[:1]
    before = [device.memory_stats() or {} for device in devices]
    result = run()
    if not all("peak_bytes_in_use" in stats for stats in before):
        return result, None
    jax.block_until_ready(result)
    after = [device.memory_stats() or {} for device in devices]
    grown = [
        there["peak_bytes_in_use"] - here["bytes_in_use"]
        for here, there in zip(before, after, strict=True)
        if there["peak_bytes_in_use"] > here["peak_bytes_in_use"]
    ]
    excess = max(0.0, (need.arguments + max(grown)) / need.total - 1) if grown else None
    if jax.process_count() > 1:
        # Every process must come to the same batch sizes, hence to the same margin.
        worst = float(np.max(multihost_utils.process_allgather(np.float32(-1 if excess is None else excess))))
        excess = worst if worst >= 0 else None
    return result, excess
