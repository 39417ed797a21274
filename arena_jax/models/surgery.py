"""Changes of a model's shape that keep its function: which old unit each new one comes from, and what follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.models import TransformerConfig

Array = np.ndarray[Any, Any]

PARAMS, FIRST, SECOND = "parameters", "first moments", "second moments"
_FIRST_NAMES = ("mu", "first", "trace", "momentum")
_SECOND_NAMES = ("nu", "second", "largest", "nu_max")
NEW = -1  # the source of a unit that comes from none
Change = Callable[[dict[str, Any], str], dict[str, Any]]


@dataclass(frozen=True)
class Surgery:
    """A change of shape: applied to parameters, models and optimizer states alike.

    Attributes:
        name: what is done.
        before: the configuration it starts from.
        after: the one it leads to.
        change: (tree of NumPy arrays, role) → tree; role is "parameters", "first moments" or "second moments".
    """

    name: str
    before: TransformerConfig
    after: TransformerConfig
    change: Change

    def flops(self, length: int) -> float:
        """Operations per token of a forward pass that are bought (above 0) or sold."""
        return models.forward_flops(self.after, length) - models.forward_flops(self.before, length)

    def then(self, following: Surgery) -> Surgery:
        """This change, and another after it."""

        def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
            return following.change(self.change(tree, role), role)

        return Surgery(f"{self.name}; {following.name}", self.before, following.after, change)

    def parameters(self, params: Any) -> Any:
        """The new parameters."""
        return _like(params, self.change(_arrays(params), PARAMS))

    def model(self, model: models.Transformer) -> models.Transformer:
        """The new model.

        Raises:
            ArenaError: a model of another configuration.
        """
        if model.config != self.before:
            raise ArenaError(f"'{self.name}' was made for another model: make it anew from this model's configuration")
        params = self.parameters(models.split(model)[1])
        structure, shapes = models.split(models.abstract(self.after, model.task))
        for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(shapes), strict=True):
            assert leaf.shape == expected.shape, (leaf.shape, expected.shape)
        return models.merge(structure, params)

    def optimizer_state(self, state: Any, params: Any, name: str | None = None) -> Any:
        """An optimizer's state after the change: every tree in it of the parameters' shapes is changed like them.

        A unit that was split takes its share of the moments with it; a new one starts with first moment 0 and the mean
        second moment of its siblings, so that its first steps are not larger than theirs.

        Args:
            state: of any Optax transformation.
            params: the parameters before the change, of one model.
            name: the model's name, where the state is over several.
        """
        structure: Any = jax.tree.structure(params)
        shapes = [np.shape(x) for x in jax.tree.leaves(params)]

        def fits(tree: Any) -> bool:
            if structure != jax.tree.structure(tree):
                return False
            return [np.shape(x) for x in jax.tree.leaves(tree)] == shapes

        def follow(path: Any, tree: Any) -> Any:
            names = [str(getattr(entry, "name", getattr(entry, "key", entry))) for entry in path]
            if not fits(tree) or (name is not None and name not in names):
                return tree
            role = SECOND if set(names) & set(_SECOND_NAMES) else FIRST if set(names) & set(_FIRST_NAMES) else PARAMS
            return _like(tree, self.change(_arrays(tree), role))

        return jax.tree_util.tree_map_with_path(follow, state, is_leaf=fits)


def rewire(
    config: TransformerConfig,
    *,
    name: str,
    heads: tuple[Array, Array] | None = None,
    neurons: tuple[Array, Array] | None = None,
    seed: int = 0,
) -> Surgery:
    """Build every block's heads and neurons anew from the old ones.

    Args:
        config: before.
        name: what it is, in words.
        heads: source (blocks, new heads): the old head of each new one, or ``NEW``; and share (blocks, new heads): what
            its rows of the output map are multiplied by. Shares of one old head that sum to 1 keep the function.
        neurons: the same for feed-forward neurons.
        seed: of what comes from none.

    Returns:
        The change; new units get fresh incoming weights.
    """
    after = config
    plans: list[tuple[tuple[str, ...], tuple[str, ...], Array, Array]] = []
    if heads is not None:
        source, share = heads
        width = config.head_size
        columns = source[:, :, None] * width + np.arange(width)
        columns = np.where(source[:, :, None] == NEW, NEW, columns).reshape(len(source), -1)
        plans.append((("query", "key", "value"), ("attention", "output"), columns, np.repeat(share, width, axis=1)))
        num_heads = source.shape[1]
        natural = config.hidden_size % num_heads == 0 and config.hidden_size // num_heads == width
        after = after.replace(num_heads=num_heads, head_width=None if natural else width)
    if neurons is not None:
        plans.append((("up",), ("feed_forward", "down"), *neurons))
        after = after.replace(intermediate_size=neurons[0].shape[1])

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        blocks = {**tree["blocks"]}
        for incoming, (part, outgoing), source, share in plans:
            maps = {**blocks[part]}
            for module in incoming:
                maps[module] = {
                    leaf: _incoming(value, source, share, role, random, config.initializer_range)
                    for leaf, value in maps[module].items()
                }
            kernel = _take(maps[outgoing]["kernel"], source, role, axis=1)
            if role == PARAMS:
                kernel = kernel * _wide(np.where(source == NEW, 0, share), kernel, 1)
            maps[outgoing] = {**maps[outgoing], "kernel": kernel.astype(maps[outgoing]["kernel"].dtype)}
            blocks[part] = maps
        return {**tree, "blocks": blocks}

    return Surgery(name, config, after, change)


def _incoming(value: Array, source: Array, share: Array, role: str, random: Any, std: float) -> Array:
    """Columns of the kernels and biases that lead into units; their gradients scale with the unit's outgoing share."""
    axis = value.ndim - 1
    values = _take(value, source, role, axis)
    if role == PARAMS:
        fresh = random.normal(0, std, values.shape) if axis == 2 else np.zeros(values.shape)
        values = np.where(_wide(source == NEW, values, axis), fresh, values)
    else:
        scale = np.where(source == NEW, 1, share if role == FIRST else share**2)
        values = values * _wide(scale, values, axis)
    return values.astype(value.dtype)


def _take(value: Array, source: Array, role: str, axis: int) -> Array:
    """Gather units along an axis, by block; a new one is 0, or the mean of its siblings among second moments."""
    index = _wide(np.maximum(source, 0), np.empty((0,) * value.ndim), axis)
    values = np.take_along_axis(value, index, axis=axis)
    filling = value.mean(axis=axis, keepdims=True) if role == SECOND else np.zeros((), value.dtype)
    return np.where(_wide(source == NEW, values, axis), filling, values)


def _wide(by_unit: Array, like: Array, axis: int) -> Array:
    """(blocks, units) with its second axis at ``axis``."""
    shape = [1] * like.ndim
    shape[0], shape[axis] = by_unit.shape
    return by_unit.reshape(shape)


def identity(count: int, layers: int) -> tuple[Array, Array]:
    """Source and share that change nothing."""
    return np.tile(np.arange(count), (layers, 1)), np.ones((layers, count))


def _arrays(tree: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = jax.tree.map(np.asarray, tree)
    return arrays


def _like(old: Any, new: Any) -> Any:
    """Give the new arrays the old leaves' types, as JAX arrays."""
    return jax.tree.map(lambda o, n: jax.numpy.asarray(n, np.asarray(o).dtype), old, new)
