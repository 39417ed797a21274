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
FEW = 4  # terms that may be added in one pass
BUNDLE = 8  # arrays that are stacked to be added; their copy is the only extra memory


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
    return [Group(key, shape, tuple(places)) for (key, shape), places in members.items()]


@functools.lru_cache(maxsize=128)
def plan(leaves: tuple[Leaf, ...], correspondence: Correspondence, alone: bool = False) -> tuple[Pool, ...]:
    """Decide which leaves are summed with which; groups of one, and a tree of one model, share nothing.

    Args:
        leaves: all leaves of all models.
        correspondence: ``(path, shape) -> key or None``; must be pure, since the plan is cached.
        alone: make pools of groups of one and of one model as well.

    Returns:
        The pools. Every leaf is in one at most.
    """
    if len({leaf.model for leaf in leaves}) < 2 and not alone:
        return ()
    spelled = parameters_of(leaves)
    shared = [g for g in groups(leaves, correspondence) if g.key is not None and len(g.members) > (0 if alone else 1)]
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

    for row_numbers in numbers:
        together = [number for number in row_numbers if number != ALONE]
        for number in together[1:]:
            a, b = sorted((find(together[0]), find(number)))
            root[b] = a
    sets: dict[int, list[int]] = {}
    for number in range(len(shared)):
        sets.setdefault(find(number), []).append(number)

    pools = []
    for together in sets.values():
        row = {number: position for position, number in enumerate(together)}
        inside = [i for i, row_numbers in enumerate(numbers) if any(number in row for number in row_numbers)]
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
                model_leaves = tuple(i for i in plain if leaves[i].model == model)
                parts.append(Part(model_leaves, model, False, tuple(row[numbers[i][0]] for i in model_leaves)))
        parts.sort(key=lambda part: part.leaves)  # the order of the sum: that of the tree
        pools.append(Pool(len(together), tuple(parts)))
    return tuple(pools)


def _take(values: jax.Array, rows: np.ndarray) -> jax.Array:
    """Pick rows by static indices; a gather is deterministic where a scatter-add need not be."""
    steps = np.diff(rows)
    return values.at[rows].get(
        mode="promise_in_bounds",
        unique_indices=bool(np.all(steps > 0)),
        indices_are_sorted=bool(np.all(steps >= 0)),
    )


def _column(values: Any, like: jax.Array) -> jax.Array:
    """Shape a vector over the leading axis so that it broadcasts against ``like``."""
    return jnp.reshape(values, (-1,) + (1,) * (like.ndim - 1))


def _sum_layers(stack: jax.Array, dtype: Any) -> jax.Array:
    """Sum over the leading axis.

    As a contraction, because XLA's reduction over a leading axis is 15 to 60 times slower on a CPU (2.4 against
    0.16 ms for 4 layers of 256 by 1024), and because it is computed once, not again in everything that uses it.
    """
    ones = jnp.ones(stack.shape[0], stack.dtype)
    dimensions = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(
        ones, stack, dimensions, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype
    )


def _sum(terms: Sequence[jax.Array]) -> jax.Array:
    """Add arrays: a few in one fused pass, many in bundles.

    XLA fuses a sum into each of its consumers. Here the terms are the consumers, so that n of them would cost n² reads.
    """
    while len(terms) > FEW:
        bundles = [terms[start : start + BUNDLE] for start in range(0, len(terms), BUNDLE)]
        terms = [_sum_layers(jnp.stack(bundle), bundle[0].dtype) for bundle in bundles]
    return functools.reduce(jnp.add, terms)


def _into_rows(values: Sequence[jax.Array], part: Part, size: int, dtype: Any) -> jax.Array:
    """Sum what a part holds into the rows of its pool: (size, *shape), or (*shape) where there is but one row."""
    if size == 1 and not part.stacked:
        return functools.reduce(jnp.add, [value.astype(dtype) for value in values])
    if size == 1:
        if ALONE in part.rows:
            shared = np.flatnonzero(np.array(part.rows) != ALONE)
            values = [_take(value, shared) for value in values]
        return functools.reduce(jnp.add, [_sum_layers(value, dtype) for value in values])
    stack = functools.reduce(jnp.add, [value.astype(dtype) for value in values])
    if part.rows == tuple(range(size)):
        return stack
    layers = [[layer for layer, row in enumerate(part.rows) if row == target] for target in range(size)]
    terms = []
    for position in range(max(len(positions) for positions in layers)):
        present = np.array([position < len(positions) for positions in layers])
        term = _take(stack, np.array([positions[position] if position < len(positions) else 0 for positions in layers]))
        terms.append(term if present.all() else jnp.where(_column(present, term), term, 0))
    return _sum(terms)


class Pooled(NamedTuple):
    """What a leaf's group holds, broadcastable against the leaf."""

    value: jax.Array
    belongs: Any  # where that is so: a mask that broadcasts against the leaf; None for everywhere


def pooled(
    values: Sequence[Sequence[Any]],
    leaves: tuple[Leaf, ...],
    pools: tuple[Pool, ...],
    weights: Mapping[Name, Scalar],
    active: Mapping[Name, Any] | None,
    *,
    mean: bool,
) -> dict[int, Pooled]:
    """Compute ``Σ w p`` (or ``Σ w p / Σ w``) of every group.

    Sums are kept in float32 at least. Models that are not active are left out by selection, so that NaN in them stays
    where it is. A group whose weights sum to 0 has no mean: nothing belongs to it.

    Args:
        values: for each leaf the arrays whose sum is p.
        leaves: their description.
        pools: from ``plan``.
        weights: one per model.
        active: which models take part, or None for all.
        mean: divide by the sum of the weights in the group.

    Returns:
        For each leaf that shares, by its index, its group's value.
    """

    sums = []
    for pool in pools:
        members = [leaves[index].dtype for part in pool.parts for index in part.leaves]
        dtype = jnp.result_type(jnp.float32, *members)
        terms = []
        for part in pool.parts:
            columns: Sequence[Any] = values[part.leaves[0]]
            if not part.stacked and pool.size > 1:
                columns = [jnp.stack(column) for column in zip(*(values[i] for i in part.leaves), strict=True)]
            term = _into_rows(columns, part, pool.size, dtype) * jnp.asarray(weights[part.model], dtype)
            if active is not None:
                term = jnp.where(active[part.model], term, 0)
            terms.append(term)
        sums.append(_sum(terms))

    results: dict[int, Pooled] = {}
    for pool, value in zip(pools, sums, strict=True):
        weighed = None  # per row, whether there is a mean
        if mean:
            total = _total_weight(pool, weights, active)
            weighed = total > 0
            divisor = jnp.where(weighed, total, 1).astype(value.dtype)
            value = value / (_column(divisor, value) if pool.size > 1 else divisor[0])
            if isinstance(weighed, np.ndarray) and weighed.all():
                weighed = None
        for part in pool.parts:
            rows = np.array(part.rows)
            if part.stacked:
                results[part.leaves[0]] = _spread(value, weighed, rows, pool.size)
            else:
                for row, index in zip(rows, part.leaves, strict=True):
                    leaf_value = value if pool.size == 1 else value[int(row)]
                    results[index] = Pooled(leaf_value, None if weighed is None else weighed[int(row)])
    return results


def _total_weight(pool: Pool, weights: Mapping[Name, Scalar], active: Mapping[Name, Any] | None) -> Any:
    """The sum of the weights of the members of each row; NumPy where everything is constant."""
    total: Any = np.zeros(pool.size)
    for part in pool.parts:
        weight = weights[part.model]
        if active is not None:
            weight = jnp.where(active[part.model], weight, 0)
        total = total + np.array([part.rows.count(row) for row in range(pool.size)]) * weight
    return total


def _spread(value: jax.Array, weighed: Any, rows: np.ndarray, size: int) -> Pooled:
    """Give each layer of a stack the row of the pool that it belongs to."""
    alone = rows == ALONE
    belongs: Any = ~alone if alone.any() else None
    if weighed is not None:
        row_weights = weighed[np.maximum(rows, 0)]
        belongs = row_weights if belongs is None else row_weights & belongs
    if size == 1:
        value = value[None]
    elif not np.array_equal(rows, np.arange(size)):
        value = _take(value, np.maximum(rows, 0))  # any row where it is alone
    return Pooled(value, None if belongs is None else _column(belongs, value))


def select(pool: Pooled, mixed: jax.Array, leaf: jax.Array) -> jax.Array:
    """The mixed value where the leaf belongs to its group, its own elsewhere, in its own dtype."""
    mixed = mixed.astype(leaf.dtype)
    return mixed if pool.belongs is None else jnp.where(pool.belongs, mixed, leaf)
