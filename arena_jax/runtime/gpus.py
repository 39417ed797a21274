"""GPUs by name: what the compiler must know of one that is not here, and how fast it can be at best."""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax.config.errors import ArenaError, nearest

FILE = Path(__file__).with_name("gpus.toml")
_NUMBERS = (
    "memory", "bandwidth", "cores", "clock", "matrix_products", "scalar_units", "threads", "l2", "matrix_clock"
)  # fmt: skip
# What every GPU of these generations has; the target descriptions state the same numbers for all.
_COMMON = """  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation"
  device_address_bits: 64
  ecc_enabled: true
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
"""


class Gpu(NamedTuple):
    """One kind of GPU; ``gpus.toml`` states units.

    Attributes:
        name: as `gpu` knows it.
        title: the maker's.
        memory: bytes.
        bandwidth: bytes per second.
        cores: multiprocessors.
        clock: GHz.
        matrix_products: fused multiply-adds of half precision, per multiprocessor and clock.
        scalar_units: float32 units per multiprocessor.
        capability: of CUDA, ``"8.0"``.
        shared: bytes of shared memory per multiprocessor, and per block on request.
        threads: per multiprocessor.
        l2: bytes.
        matrix_clock: GHz of matrix units; 0: the clock.
        half: types that matrix units know.
        accelerated: whether the architecture's own features are on.
    """

    name: str
    title: str
    memory: int
    bandwidth: int
    cores: int
    clock: float
    matrix_products: int
    scalar_units: int
    capability: str
    shared: tuple[int, int]
    threads: int
    l2: int
    matrix_clock: float = 0.0
    half: tuple[str, ...] = ("bfloat16", "float16")
    accelerated: bool = False

    def peak(self, dtype: str) -> float:
        """The most operations per second of matrix products, two per multiplication and addition.

        Args:
            dtype: of the factors. float32 is charged as TensorFloat-32, half the rate of half precision, which is what
                JAX computes by default on GPUs that have it.

        Example:
            >>> [round(gpu(name).peak("bfloat16") / 1e12) for name in ("a100-40gb", "h100", "b200")]
            [312, 989, 2225]
        """
        scalar = 2e9 * self.cores * self.scalar_units * self.clock
        matrix = 2e9 * self.cores * self.matrix_products * (self.matrix_clock or self.clock)
        if dtype in self.half:
            return matrix
        if dtype == "float32" and tuple(map(int, self.capability.split("."))) >= (8, 0):
            return matrix / 2
        return scalar

    def description(self, memory: int | None = None) -> str:
        """What XLA's compiler is told, as the text of a ``GpuTargetConfigProto``.

        Args:
            memory: bytes that it takes the GPU to have, if not all of them.
        """
        major, minor = self.capability.split(".")
        feature = "ACCELERATED_FEATURES" if self.accelerated else "NONE"
        return (
            "gpu_device_info {\n" + _COMMON + f"  shared_memory_per_core: {self.shared[0]}\n"
            f"  shared_memory_per_block_optin: {self.shared[1]}\n"
            f"  threads_per_core_limit: {self.threads}\n"
            f"  core_count: {self.cores}\n"
            f"  fpus_per_core: {self.scalar_units}\n"
            f"  memory_bandwidth: {self.bandwidth}\n"
            f"  l2_cache_size: {self.l2}\n"
            f"  clock_rate_ghz: {self.clock}\n"
            f"  device_memory_size: {memory or self.memory}\n"
            f"  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {feature} }}\n"
            f'  name: "{self.title}"\n'
            "}\n"
            'platform_name: "CUDA"\n'
            "dnn_version_info { major: 9 minor: 10 patch: 0 }\n"
            f'device_description_str: "{self.title}"\n'
        )


def gpu(name: str) -> Gpu:
    """A kind of GPU, by name or by a file of its facts.

    Args:
        name: such as ``"a100-40gb"``, or a path to a TOML file with one table like those of ``gpus.toml``.

    Raises:
        ArenaError: no such GPU or file, or a file with facts missing or too many.

    Example:
        >>> gpu("a100-40gb").title
        'NVIDIA A100-SXM4-40GB'
        >>> gpu("a100")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown GPU 'a100'; did you mean 'a100-40gb', 'a100-80gb' or 'a100-pcie-80gb'?
    """
    by_name = gpus()
    if name in by_name:
        return by_name[name]
    if name.endswith(".toml"):
        return _only(_read(Path(name)), name)
    close = [other for other in by_name if other.startswith(name)]
    if len(close) > 1:
        listed = ", ".join(f"'{other}'" for other in close[:-1])
        raise ArenaError(f"unknown GPU '{name}'; did you mean {listed} or '{close[-1]}'?")
    raise ArenaError(f"unknown GPU '{name}'; {nearest(name, by_name)}")


@functools.cache
def gpus() -> Mapping[str, Gpu]:
    """All that are known by name.

    Example:
        >>> "h200" in gpus()
        True
    """
    return _read(FILE)


def _only(table: Mapping[str, Gpu], path: str) -> Gpu:
    if len(table) != 1:
        raise ArenaError(f"'{path}' describes {len(table)} GPUs; give a file with one table")
    return next(iter(table.values()))


def _read(path: Path) -> dict[str, Gpu]:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot read the GPU's facts in '{path}' ({error}); {FILE} shows the form") from None
    return {name: _gpu(name, facts, path) for name, facts in tables.items()}


def _gpu(name: str, facts: Any, path: Path) -> Gpu:
    wrong = _wrong(facts)
    if wrong:
        raise ArenaError(f"'{path}': the GPU '{name}' {wrong}; {FILE} shows the form")
    read: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return Gpu(name=name, **read)


def _wrong(facts: Any) -> str | None:
    """What keeps a file's facts from being those of a GPU."""
    if not isinstance(facts, dict):
        return f"is {facts!r} and no table of facts"
    fields = [field for field in Gpu._fields if field != "name"]
    missing = [field for field in fields if field not in Gpu._field_defaults and field not in facts]
    if missing:
        return f"lacks {', '.join(missing)}"
    unknown = [field for field in facts if field not in fields]
    if unknown:
        return f"has no use for {', '.join(unknown)}"
    for field in _NUMBERS:
        value = facts.get(field, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"has {field} = {value!r}, and it must be a number above 0"
    shared, title = facts["shared"], facts["title"]
    if not (isinstance(shared, list) and len(shared) == 2 and all(type(size) is int and size > 0 for size in shared)):
        return f"has shared = {shared!r}, and it must be two numbers of bytes"
    if not isinstance(title, str) or '"' in title or "\\" in title or not title.isprintable():
        return f"has title = {title!r}, and it must be a line of text without quotes"
    if not re.fullmatch(r"[0-9]+\.[0-9]+", str(facts["capability"])):
        return f'has capability = {facts["capability"]!r}, and it must be like "8.0"'
    return None
