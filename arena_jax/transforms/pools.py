"""Sums over groups of corresponding parameters, without ever taking a stacked leaf apart.

The grouping is decided once per tree in Python (``plan``); the sums are a handful of reductions that XLA fuses.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.transforms.by_model import Scalar
from arena_jax.transforms.correspondence import Correspondence, parameters_of
from arena_jax.transforms.trees import Leaf, Name

ALONE = -1  # the row of a parameter that shares with nobody


class Part(NamedTuple):
    """One model's contribution to a pool: a stacked leaf, a plain leaf, or plain leaves to be stacked."""

    leaves: tuple[int, ...]
    model: Name
    stacked: bool
    rows: tuple[int, ...]  # for each layer (or leaf) the row of the pool it belongs to, or ALONE


class Pool(NamedTuple):
    """Groups that are summed together because some stacked leaf runs through all of them."""

    size: int  # number of groups = rows
    parts: tuple[Part, ...]


class Group(NamedTuple):
    """Parameters that belong together."""

    key: Any
    shape: tuple[int, ...]
    members: tuple[tuple[int, int], ...]  # (leaf, layer)


def groups(leaves: tuple[Leaf, ...], correspondence: Correspondence) -> list[Group]:
    """Group all parameters of all models by (key, shape), in the order in which they are met.

    Args:
        leaves: all leaves of all models.
        correspondence: ``(path, shape) -> key or None``.

    Returns:
        The groups; those with key None hold what is never shared.
    """
    members: dict[tuple, list[tuple[int, int]]] = {}
    for index, (_, paths, shape) in enumerate(parameters_of(leaves)):
        floating = jnp.issubdtype(leaves[index].dtype, jnp.inexact)
        for layer, path in enumerate(paths):
            key = correspondence(path, shape) if floating else None
            members.setdefault((key, shape), []).append((index, layer))
    return [Group(key, shape, tuple(found)) for (key, shape), found in members.items()]


@functools.lru_cache(maxsize=128)
def plan(leaves: tuple[Leaf, ...], correspondence: Correspondence) -> tuple[Pool, ...]:
    """Decide which leaves are summed with which; groups of one, and a tree of one model, share nothing.

    Args:
        leaves: all leaves of all models.
        correspondence: ``(path, shape) -> key or None``; must be pure, since the plan is cached.

    Returns:
        The pools. Every leaf is in one at most.
    """
    if len({leaf.model for leaf in leaves}) < 2:
        return ()
    spelled = parameters_of(leaves)
    shared = [g for g in groups(leaves, correspondence) if g.key is not None and len(g.members) > 1]
    row_of = {member: number for number, group in enumerate(shared) for member in group.members}
    numbers = [
        [row_of.get((index, layer), ALONE) for layer in range(len(paths))]
        for index, (_, paths, _) in enumerate(spelled)
    ]

    # Groups that one leaf runs through are joined (union-find); each joint set is one pool.
    root = list(range(len(shared)))

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for found in numbers:
        together = [number for number in found if number != ALONE]
        for number in together[1:]:
            a, b = sorted((find(together[0]), find(number)))
            root[b] = a
    sets: dict[int, list[int]] = {}
    for number in range(len(shared)):
        sets.setdefault(find(number), []).append(number)

    pools = []
    for together in sets.values():
        row = {number: position for position, number in enumerate(together)}
        inside = [i for i, found in enumerate(numbers) if any(number in row for number in found)]
        parts = [
            Part((i,), leaves[i].model, True, tuple(row.get(n, ALONE) for n in numbers[i]))
            for i in inside
            if spelled[i][0]
        ]
        plain = [i for i in inside if not spelled[i][0]]
        if len(together) == 1:
            parts += [Part((i,), leaves[i].model, False, (0,)) for i in plain]
        else:  # a list of blocks that meets a stack: its leaves are stacked, one part per model
            for model in dict.fromkeys(leaves[i].model for i in plain):
                own = tuple(i for i in plain if leaves[i].model == model)
                parts.append(Part(own, model, False, tuple(row[numbers[i][0]] for i in own)))
        parts.sort(key=lambda part: part.leaves)  # the order of the sum: that of the tree
        pools.append(Pool(len(together), tuple(parts)))
    return tuple(pools)


def _take(values: jax.Array, rows: np.ndarray) -> jax.Array:
    """Pick rows by static indices; a gather is deterministic where a scatter-add need not be."""
    ascending = bool(np.all(np.diff(rows) > 0))
    return values.at[rows].get(
        mode="promise_in_bounds",
        unique_indices=ascending,
        indices_are_sorted=bool(np.all(np.diff(rows) >= 0)),
    )


def _column(values: Any, like: jax.Array) -> jax.Array:
    """Shape a vector over the leading axis so that it broadcasts against ``like``."""
    return jnp.reshape(values, (-1,) + (1,) * (like.ndim - 1))


def _into_rows(values: jax.Array, rows: tuple[int, ...], size: int) -> jax.Array:
    """Sum the layers of a stack into the rows of a pool."""
    if rows == tuple(range(size)):
        return values
    if size == 1:
        if ALONE in rows:
            values = _take(values, np.flatnonzero(np.array(rows) != ALONE))
        return jnp.sum(values, axis=0, keepdims=True)
    layers = [[layer for layer, row in enumerate(rows) if row == target] for target in range(size)]
    depth = max(len(found) for found in layers)
    total = None
    for position in range(depth):
        present = np.array([position < len(found) for found in layers])
        index = np.array([found[position] if position < len(found) else 0 for found in layers])
        term = _take(values, index)
        if not present.all():
            term = jnp.where(_column(present, term), term, 0)
        total = term if total is None else total + term
    assert total is not None
    return total


def _out_of_rows(pool: jax.Array, rows: tuple[int, ...]) -> jax.Array:
    """Give each layer of a stack the row of the pool it belongs to (any row where it is alone)."""
    if rows == tuple(range(pool.shape[0])) or pool.shape[0] == 1:
        return pool
    return _take(pool, np.maximum(rows, 0))


class Pooled(NamedTuple):
    """What a leaf's group holds, broadcastable against the leaf, and for which of its layers that is so."""

    value: jax.Array
    belongs: np.ndarray | None  # per layer; None: everywhere


def pooled(
    values: Sequence[Any],
    leaves: tuple[Leaf, ...],
    pools: tuple[Pool, ...],
    weights: Mapping[Name, Scalar],
    active: Mapping[Name, Any] | None,
    *,
    mean: bool,
) -> dict[int, Pooled]:
    """Compute ``Σ w p`` (or ``Σ w p / Σ w``) of every group.

    Sums are kept in float32 at least. Models that are not active are left out by selection, so that NaN in them stays
    where it is. A mean whose weights sum to 0 is each parameter's own value.

    Args:
        values: the arrays, in the order of ``leaves``.
        leaves: their description.
        pools: from ``plan``.
        weights: one per model.
        active: which models take part, or None for all.
        mean: divide by the sum of the weights in the group.

    Returns:
        For each leaf that shares, by its index, its group's value.
    """
    results: dict[int, Pooled] = {}
    for pool in pools:
        members = [index for part in pool.parts for index in part.leaves]
        dtype = jnp.result_type(jnp.float32, *(leaves[index].dtype for index in members))
        stacks: list[jax.Array] = []
        value: Any = None
        total: Any = 0.0
        for part in pool.parts:
            weight = jnp.asarray(weights[part.model], dtype)
            arrays = [jnp.asarray(values[index]).astype(dtype) for index in part.leaves]
            stack = arrays[0] if part.stacked else jnp.stack(arrays)
            stacks.append(stack)
            term = weight * _into_rows(stack, part.rows, pool.size)
            count = np.array([part.rows.count(row) for row in range(pool.size)])
            share = weight * jnp.asarray(count, dtype)
            if active is not None:
                term = jnp.where(active[part.model], term, 0)
                share = jnp.where(active[part.model], share, 0)
            value = term if value is None else value + term
            total = total + share
        if mean:
            value = value / _column(jnp.where(total > 0, total, 1), value)
        for part, stack in zip(pool.parts, stacks, strict=True):
            spread = _out_of_rows(value, part.rows)
            if mean:
                weighed = _column(_out_of_rows(total, part.rows), stack)
                spread = jnp.where(weighed > 0, spread, stack)
            if part.stacked:
                alone = ALONE in part.rows
                belongs = np.array([row != ALONE for row in part.rows]) if alone else None
                results[part.leaves[0]] = Pooled(spread, belongs)
            else:
                for position, index in enumerate(part.leaves):
                    results[index] = Pooled(spread[position], None)
    return results


def select(pool: Pooled, mixed: jax.Array, own: jax.Array) -> jax.Array:
    """The mixed value for the layers that share, their own for the others, in their own dtype."""
    mixed = mixed.astype(own.dtype)
    if pool.belongs is None:
        return mixed
    return jnp.where(_column(pool.belongs, own), mixed, own)
