"""What "error" means here, once for all checks.

The error of a tensor is max |ours − reference| / scale, where scale is the standard deviation of the reference tensor
(of one number: its magnitude), but at least a tenth of the root mean square over all tensors compared together. The
floor is for tensors that are zero in exact arithmetic and hold only rounding, such as the gradient of a key's bias,
which softmax cannot see. A wrong shape, a missing tensor or a NaN on one side alone is an infinite error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

FLOOR = 0.1


class Measurement(NamedTuple):
    """One comparison: where, and how far apart."""

    where: str
    error: float


def as_float64(value: Any) -> np.ndarray:
    """Any array of numpy, JAX or PyTorch (bfloat16 too) as float64."""
    if hasattr(value, "detach"):
        value = value.detach().double().numpy()
    return np.asarray(value).astype(np.float64)


def compare(ours: Mapping[str, Any], reference: Mapping[str, Any], prefix: str = "") -> list[Measurement]:
    """The relative error of every named tensor; names that only one side has are infinite errors."""
    found = []
    wanted = {name: as_float64(value) for name, value in reference.items()}
    squares = sum(float(np.nansum(value**2)) for value in wanted.values())
    overall = math.sqrt(squares / max(1, sum(value.size for value in wanted.values())))
    for name in [*wanted, *(name for name in ours if name not in wanted)]:
        if name not in ours or name not in wanted:
            found.append(Measurement(f"{prefix}{name} (missing on one side)", math.inf))
            continue
        found.append(Measurement(prefix + name, relative_error(as_float64(ours[name]), wanted[name], overall)))
    return found


def relative_error(ours: np.ndarray, reference: np.ndarray, overall: float = 0.0) -> float:
    """See the module's first lines."""
    if ours.shape != reference.shape:
        return math.inf
    if reference.size == 0 or np.array_equal(ours, reference, equal_nan=True):
        return 0.0
    difference = float(np.max(np.abs(ours - reference)))
    scale = float(np.std(reference)) if reference.size > 1 else float(np.abs(reference).max())
    scale = max(scale, FLOOR * overall)
    if not math.isfinite(difference) or scale == 0:
        return math.inf
    return difference / scale


def exactly(where: str, holds: bool) -> Measurement:
    """A statement that holds or does not: error 0 or infinite."""
    return Measurement(where, 0.0 if holds else math.inf)


def identical(ours: Any, reference: Any, where: str) -> Measurement:
    """Bit for bit the same numbers of the same type and shape."""
    a, b = np.asarray(ours), np.asarray(reference)
    return exactly(where, a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
