"""`--dtype auto`: bfloat16 where a device multiplies matrices of it faster, float32 elsewhere."""

from __future__ import annotations

from typing import Any

import jax


def computation_dtype(dtype: str, device: Any = None) -> str:
    """The type of numbers that is computed in.

    Args:
        dtype: ``"float32"``, ``"bfloat16"`` or ``"auto"``.
        device: that computes; the first of this process if not given.

    Returns:
        ``"float32"`` or ``"bfloat16"``.

    Example:
        >>> computation_dtype("bfloat16"), computation_dtype("auto", jax.devices("cpu")[0])
        ('bfloat16', 'float32')
    """
    if dtype != "auto":
        return dtype
    device = jax.local_devices()[0] if device is None else device
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: Any) -> bool:
    """Whether its matrix units know bfloat16: TPUs, and NVIDIA's GPUs from CUDA's compute capability 8.0 on."""
    if device.platform == "tpu":
        return True
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return device.platform in ("gpu", "cuda") and major.isdigit() and int(major) >= 8
