"""Devices as a mesh over which each batch is spread, and over a part of which parameters may be dealt out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from arena_jax.config.errors import ArenaError
from arena_jax.data.batches import dealt
from arena_jax.models.shards import SHARD, sharding_of
from arena_jax.runtime.memory import device_bytes, format_bytes, tree_bytes


def make_mesh(count: int | None = None, *, shard: bool = False) -> Mesh:
    """A mesh of the first ``count`` devices, or of all; of several processes each has as many.

    Args:
        count: how many devices, over all processes; None for all.
        shard: deal parameters out over the devices of each process.

    Returns:
        A mesh with the axis ``"data"``; with ``shard`` one with the axes ``"data"`` (processes) and ``"shard"`` (the
        devices of each). Batches are spread over all devices either way.

    Raises:
        ArenaError: there are fewer devices, or none was asked for.

    Example:
        >>> dict(make_mesh(1).shape)
        {'data': 1}
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        most = f"1 to {len(devices)}" if len(devices) > 1 else "1"
        raise ArenaError(f"{count} devices asked for, {len(devices)} here ({devices[0].platform}); give {most}")
    count = len(devices) if count is None else count
    processes = jax.process_count()
    if count % processes:
        raise ArenaError(f"{count} devices cannot be shared by {processes} processes; give a multiple of {processes}")
    # Every process feeds devices of its own, in the order of the processes: so the rows of a batch keep their order.
    each = [
        sorted((d for d in devices if d.process_index == p), key=lambda d: d.id)[: count // processes]
        for p in range(processes)
    ]
    if sum(map(len, each)) < count:
        raise ArenaError(f"{count} devices asked for, but some process has fewer than {count // processes}; give fewer")
    order = np.array([device for devices_of_process in each for device in devices_of_process])
    return mesh_of(order, processes if shard else None)


def mesh_of(devices: np.ndarray, groups: int | None = None) -> Mesh:
    """A mesh of devices in order, each of so many groups of them next to one another to hold the parameters once.

    Args:
        devices: [devices].
        groups: divides them; None: every device holds the parameters.
    """
    # Auto and not the default Explicit: under Explicit a plain gather on a sharded batch raises.
    if groups is None:
        return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))
    return Mesh(devices.reshape(groups, -1), ("data", SHARD), axis_types=(AxisType.Auto,) * 2)


def rows_over(mesh: Mesh, axis: int = 1) -> NamedSharding:
    """An axis of examples, by default the second, spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, mesh.axis_names))


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Where parameters, gradients and moments lie on a mesh: a tree of shardings."""
    return jax.tree.map(lambda leaf: sharding_of(mesh, leaf.shape), tree)


def shard_facts(tree: Any, mesh: Mesh) -> list[tuple[str, str, str]]:
    """What a run's first record says of parameters that are dealt out: name, value, reason; else nothing.

    Args:
        tree: parameters and what the optimizer keeps of them.
        mesh: over which they lie.
    """
    if SHARD not in mesh.shape:
        return []
    if mesh.shape[SHARD] == 1:
        return [("parameters", "whole", "each machine's process has one device")]
    part, whole = format_bytes(device_bytes(tree)), format_bytes(tree_bytes(tree))
    over = f"dealt out over {mesh.shape[SHARD]} devices"
    return [("parameters", over, f"with the optimizer's states {part} of {whole} on each")]


def replicated(mesh: Mesh) -> NamedSharding:
    """One whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def distribute(tree: Any, mesh: Mesh) -> Any:
    """Copy arrays to the devices of the mesh, of every process; what process 0 has is what all get.

    Args:
        tree: arrays, the same shapes on every process.
        mesh: from :func:`make_mesh`; whether they are dealt out or whole on every device is its to say.

    Returns:
        Arrays of their own, that share no memory with the given ones.
    """
    if jax.process_count() == 1:
        return jax.tree.map(lambda x: jax.device_put(jnp.array(x, copy=True), sharding_of(mesh, x.shape)), tree)
    from jax.experimental import multihost_utils

    # Weights that different kinds of machines have drawn need not be the same to the bit.
    tree = multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))
    return jax.jit(lambda whole: jax.tree.map(jnp.copy, whole), out_shardings=shardings(tree, mesh))(tree)


def zeros_like(tree: Any, mesh: Mesh) -> Any:
    """Zeros of the same shapes and types, where such arrays lie on the mesh.

    Args:
        tree: arrays.
        mesh: from :func:`make_mesh`.

    Returns:
        Arrays of their own.

    Example:
        >>> zeros_like({"w": jnp.ones(2)}, make_mesh(1))["w"]
        Array([0., 0.], dtype=float32)
    """
    return jax.jit(lambda arrays: jax.tree.map(jnp.zeros_like, arrays), out_shardings=shardings(tree, mesh))(tree)


def local_rows(batch: Mapping[str, np.ndarray], accumulation: int = 1) -> dict[str, np.ndarray]:
    """The rows of a global batch that this process feeds: of each microbatch its part, as `data.Batches` deals them.

    Args:
        batch: arrays (B, …), the same on every process.
        accumulation: k microbatches, one after the other.

    Returns:
        Arrays (B / number of processes, …).

    Example:
        >>> local_rows({"labels": np.arange(4)})["labels"]
        array([0, 1, 2, 3])
    """
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return dict(batch)
    rows = dealt(len(next(iter(batch.values()))), accumulation, index, count)
    return {name: array[rows] for name, array in batch.items()}


def abstract_batch(example: Mapping[str, Any], mesh: Mesh, rows: int, accumulation: int = 1) -> dict[str, Any]:
    """Shapes of a batch as :func:`place_batch` would place it.

    Args:
        example: arrays (1, …): one example.
        mesh: from :func:`make_mesh`.
        rows: of each microbatch, over all devices.
        accumulation: k microbatches.

    Returns:
        ``jax.ShapeDtypeStruct`` (k, rows, …), the second axis spread over all devices.

    Raises:
        ArenaError: rows that cannot be dealt out evenly.

    Example:
        >>> abstract_batch({"labels": np.zeros(1, np.int64)}, make_mesh(1), 4)["labels"].shape
        (1, 4)
    """
    spread, devices = rows_over(mesh), mesh.size
    if rows == 0 or rows % devices:
        raise ArenaError(
            f"a microbatch of {rows} examples does not divide into equal parts on {devices} devices; give a batch of a "
            f"multiple of {accumulation * devices}"
        )
    return {
        name: jax.ShapeDtypeStruct(
            (accumulation, rows, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype), sharding=spread
        )
        for name, array in example.items()
    }


def place_batch(batch: Mapping[str, Any], mesh: Mesh, accumulation: int = 1) -> dict[str, jax.Array]:
    """Spread a batch over the devices, microbatch by microbatch.

    Args:
        batch: arrays (B, …), B the examples of this process.
        mesh: from :func:`make_mesh`.
        accumulation: k microbatches, one after the other.

    Returns:
        Arrays (k, B/k, …), the second axis spread over all devices.

    Raises:
        ArenaError: the batch does not divide into k microbatches with as many examples on every device.

    Example:
        >>> import numpy as np
        >>> place_batch({"labels": np.zeros(8, np.int32)}, make_mesh(1), accumulation=2)["labels"].shape
        (2, 4)
    """
    sharding = rows_over(mesh)
    local_devices = max(1, mesh.size // jax.process_count())
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
