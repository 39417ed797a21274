"""Devices as a mesh with one axis, ``"data"``, over which each batch is spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from arena_jax.errors import ArenaError


def make_mesh(count: int | None = None) -> Mesh:
    """A mesh of the first ``count`` devices, or of all of every process.

    Args:
        count: how many devices; None for all.

    Returns:
        A mesh with the axis ``"data"``.

    Raises:
        ArenaError: there are fewer devices, or none was asked for.

    Example:
        >>> make_mesh(1).shape["data"]
        1
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise ArenaError(
            f"{count} devices asked for, {len(devices)} here ({devices[0].platform}); give 1 to {len(devices)}"
        )
    chosen = np.array(devices if count is None else devices[:count])
    # Auto and not the default Explicit: under Explicit a plain gather on a sharded batch raises.
    return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """One whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place_batch(batch: Mapping[str, Any], mesh: Mesh, accumulation: int = 1) -> dict[str, jax.Array]:
    """Spread a batch over the devices, microbatch by microbatch.

    Args:
        batch: arrays (B, …), B the examples of this process.
        mesh: from :func:`make_mesh`.
        accumulation: k microbatches, one after the other.

    Returns:
        Arrays (k, B/k, …), the second axis spread over ``"data"``.

    Raises:
        ArenaError: the batch does not divide into k microbatches with as many examples on every device.

    Example:
        >>> import numpy as np
        >>> place_batch({"labels": np.zeros(8, np.int32)}, make_mesh(1), accumulation=2)["labels"].shape
        (2, 4)
    """
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    local_devices = max(1, mesh.shape["data"] // jax.process_count())
    placed = {}
    for name, array in batch.items():
        rows = array.shape[0]
        if rows == 0 or rows % (accumulation * local_devices):
            raise ArenaError(
                f"a batch of {rows} examples does not divide into {accumulation} microbatches on {local_devices} "
                f"devices; give a multiple of {accumulation * local_devices}"
            )
        shaped = array.reshape(accumulation, rows // accumulation, *array.shape[1:])
        if jax.process_count() == 1:
            placed[name] = jax.device_put(shaped, sharding)
        else:
            placed[name] = jax.make_array_from_process_local_data(sharding, np.asarray(shaped))
    return placed
