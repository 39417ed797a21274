"""Reading a tree of models: its leaves, their names, and the branch that belongs to each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arena_jax.config.errors import ArenaError

Name = Hashable
Path = tuple[Name, ...]


class Leaf(NamedTuple):
    """Where one array sits and what it looks like; hashable, so that plans can be cached on it."""

    model: Name
    path: Path  # names inside the model
    shape: tuple[int, ...]
    dtype: Any


def is_float(leaf: Any) -> bool:
    """Whether a leaf is something that an optimizer moves (integer leaves pass through untouched)."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _name(entry: Any) -> Name:
    """The bare name in one entry of a key path, whatever kind of container it comes from."""
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)


def read(tree: Any) -> tuple[list[Any], Any, tuple[Leaf, ...]]:
    """Flatten ``{model: tree}`` and name every leaf.

    A Variable of Flax NNX is a node with the single child ``value``; that last name says nothing and is dropped.

    Args:
        tree: a dictionary, ``nnx.State``, dataclass, … whose children are the models.

    Returns:
        The leaves, the tree's definition, and a ``Leaf`` for each leaf in the same order.

    Raises:
        ArenaError: the tree is a bare array, so that it holds no models.

    Example:
        >>> import jax.numpy as jnp
        >>> read({"bert": {"head": {"bias": jnp.zeros(3)}}})[2]
        (Leaf(model='bert', path=('head', 'bias'), shape=(3,), dtype=dtype('float32')),)
    """
    entries, treedef = jax.tree_util.tree_flatten_with_path(tree)
    keys = [path for path, _ in entries]
    if any(not path for path in keys):
        raise ArenaError("expected {model: parameters}, got a bare array; wrap it as {'model': array}")
    children = Counter(path[:-1] for path in keys)
    described = []
    for path, leaf in entries:
        wrapped = isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value"
        if wrapped and len(path) > 1 and children[path[:-1]] == 1:
            path = path[:-1]
        names = tuple(_name(entry) for entry in path)
        described.append(Leaf(names[0], names[1:], tuple(jnp.shape(leaf)), jnp.result_type(leaf)))
    return [leaf for _, leaf in entries], treedef, tuple(described)


def branches(tree: Any) -> tuple[dict[Name, Any], Any]:
    """Split ``{model: tree}`` one level deep.

    Args:
        tree: any container of models.

    Returns:
        ``{model: its tree}`` in the container's own order, and the definition that puts them together again
        (``jax.tree.unflatten(definition, branches.values())``).

    Raises:
        ArenaError: the tree is a bare array.

    Example:
        >>> branches({"b": [1, 2], "a": 3})[0]
        {'a': 3, 'b': [1, 2]}
    """
    entries, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    if any(not path for path, _ in entries):
        raise ArenaError("expected {model: parameters}, got a bare array; wrap it as {'model': array}")
    return {_name(path[0]): branch for path, branch in entries}, treedef


def models_of(tree: Any) -> tuple[Name, ...]:
    """The names of the models, in the tree's own order (dictionaries: sorted).

    Example:
        >>> models_of({"roberta": 1.0, "bert": 2.0})
        ('bert', 'roberta')
    """
    return tuple(branches(tree)[0])


def scale_leaves(tree: Any, factor: jax.Array) -> Any:
    """Multiply the floating leaves, each in its own dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> scale_leaves({"count": jnp.ones(1, jnp.int32), "up": jnp.ones(1, jnp.bfloat16)}, jnp.float32(0.5))
        {'count': Array([1], dtype=int32), 'up': Array([0.5], dtype=bfloat16)}
    """
    return jax.tree.map(lambda u: (u * factor).astype(u.dtype) if is_float(u) else u, tree)


def wide_dtype(tree: Any) -> Any:
    """The type for a scalar that goes with a model: float64 where a parameter is, else float32.

    Example:
        >>> import jax.numpy as jnp
        >>> wide_dtype({"up": jnp.ones(1, jnp.bfloat16)})
        <class 'jax.numpy.float32'>
    """
    dtype = jnp.result_type(jnp.float32, *(leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)))
    return jnp.float64 if dtype in (jnp.float64, jnp.complex128) else jnp.float32
