"""The most matrix products that the devices can compute in a second: by the table of GPUs, or measured on a CPU."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from arena_jax.runtime.gpus import gpus

_WIDTH = 1024  # of the product that a CPU is measured by: its factors fit the caches of today, as a model's mostly do
_REPEATS = 5


def peak_flops(mesh: Mesh, dtype: str) -> float | None:
    """Operations per second of all devices, two for each multiplication and addition.

    Args:
        mesh: from `make_mesh`.
        dtype: of the factors, such as ``"float32"``.

    Returns:
        For GPUs what the table says of their kind, by the name that they report. For a CPU the best of a few 1024 ×
        1024 × 1024 products, measured once in a process (some 0.1 s); its devices share its cores. None where neither
        says: an unknown accelerator, or CPUs of several processes, which may share cores or not.

    Example:
        >>> from arena_jax.runtime import make_mesh
        >>> peak_flops(make_mesh(1), "float32") > 1e9
        True
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return _measured(dtype) if jax.process_count() == 1 else None
    kind = next((gpu for gpu in gpus().values() if gpu.title == device.device_kind), None)
    return kind.peak(dtype) * mesh.size if kind else None


@functools.cache
def _measured(dtype: str) -> float:
    factor = jnp.ones((_WIDTH, _WIDTH), dtype)
    product = jax.jit(jnp.dot)
    product(factor, factor).block_until_ready()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        product(factor, factor).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * _WIDTH**3 / min(seconds)
