"""Parameters in shards: which axis is dealt out, and each layer whole only for as long as it computes.

A mesh whose second axis is ``"shard"`` holds every parameter once per group of devices, dealt out over the group; its
first axis counts the groups, so that what a device holds does not depend on how many groups there are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SHARD = "shard"  # the axis of a mesh along which parameters are dealt out
# The devices over which a program's examples are dealt out while it is traced; None: one.
_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def shard_axis(shape: Sequence[int], shards: int) -> int | None:
    """Which axis of an array is dealt out: the last that divides; None for a vector, or where none does.

    Stacked layers so lie as one layer does, and equal shapes of different models lie alike: what they share is added
    shard by shard. Vectors stay whole, as they take next to nothing.

    Example:
        >>> shard_axis((12, 768, 768), 8), shard_axis((50257, 770), 8), shard_axis((1024, 770), 8), shard_axis((8,), 8)
        (2, None, 0, None)
    """
    axes = range(len(shape) - 1, -1, -1) if len(shape) > 1 else ()
    return next((axis for axis in axes if shape[axis] % shards == 0), None)


def sharding_of(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """Where an array of parameters, gradients or moments lies; whole on every device of a mesh without shards."""
    axis = shard_axis(shape, mesh.shape[SHARD]) if SHARD in mesh.shape else None
    return NamedSharding(mesh, _spec(axis))


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, SHARD)


@contextmanager
def traced_over(mesh: Mesh) -> Iterator[None]:
    """What is traced in this context computes with examples, and with parameters where it has shards, over a mesh."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def devices() -> int:
    """Over how many devices the examples of what is traced are dealt out."""
    mesh = _mesh.get()
    return 1 if mesh is None else mesh.size


def parameter_mesh() -> Mesh | None:
    """The mesh over which parameters are dealt out; None: they are whole. A static argument of what is traced."""
    mesh = _mesh.get()
    return mesh if mesh is not None and SHARD in mesh.shape else None


def whole(mesh: Mesh | None, tree: Any, stacked: int = 0) -> Any:
    """Parameters gathered from their shards, to compute with; their gradients are dealt out again.

    Args:
        mesh: over which they lie; None: they are whole.
        tree: arrays.
        stacked: the length of the axis that these are one layer of; 0: they are all there is.
    """
    if mesh is None:
        return tree
    shards = mesh.shape[SHARD]

    def gathered(leaf: Array) -> Array:
        if not stacked:
            return _whole(mesh, shard_axis(leaf.shape, shards), leaf)
        axis = shard_axis((stacked, *leaf.shape), shards)
        return _whole(mesh, axis - 1 if axis else None, leaf)

    return jax.tree.map(gathered, tree)


def looked_up(table: Array) -> Array:
    """A table to look rows up in: each device adds the gradients of its own examples before any sum over devices.

    Left to itself, the compiler sends all examples' gradients to the shards of the table instead.
    """
    mesh = parameter_mesh()
    return table if mesh is None else _looked_up(mesh, table)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _looked_up(mesh: Mesh, table: Array) -> Array:
    return table


_looked_up.defvjp(
    lambda mesh, table: (table, None),
    lambda mesh, _, gradient: (jax.lax.with_sharding_constraint(gradient, NamedSharding(mesh, PartitionSpec())),),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _whole(mesh: Mesh, axis: int | None, leaf: Array) -> Array:
    """A shard's array whole on every device; the gradient's sum over devices is dealt out as the shard was."""
    return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, PartitionSpec()))


def _forward(mesh: Mesh, axis: int | None, leaf: Array) -> tuple[Array, None]:
    return _whole(mesh, axis, leaf), None


def _backward(mesh: Mesh, axis: int | None, _: None, gradient: Array) -> tuple[Array]:
    return (jax.lax.with_sharding_constraint(gradient, NamedSharding(mesh, _spec(axis))),)


_whole.defvjp(_forward, _backward)
