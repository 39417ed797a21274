"""From one shape to another: the change that makes a model as large as it is to be, larger or smaller."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig
from arena_jax.models.growth import add_heads, insert_block, stack_blocks, widen
from arena_jax.models.pruning import remove_blocks, remove_parts
from arena_jax.models.surgery import Array, Surgery

MOST_GROUPS = 64  # of a block's neurons, that are valued each by itself
_FIELDS = {
    "layers": "num_layers",
    "stack": "num_layers",
    "heads": "num_heads",
    "neurons": "intermediate_size",
}
# What a change of shape changes of a configuration.
SHAPE_FIELDS = ("num_layers", "num_heads", "head_width", "intermediate_size", "activation")


class Worth(NamedTuple):
    """How much the loss rises without each part of a model, and what its parts give on average.

    Attributes:
        heads: (blocks, heads), nats.
        groups: (blocks, groups) of neurons, contiguous and of one size, nats.
        blocks: (blocks,), nats.
        means: of heads' outputs (blocks, heads · head size) and of neurons (blocks, neurons).
    """

    heads: Array
    groups: Array
    blocks: Array
    means: tuple[Any, Any] | None = None


def size_of(config: TransformerConfig, what: str) -> int:
    """How many blocks a model has, or heads or neurons in each of them."""
    size: int = getattr(config, _FIELDS[what])
    return size


def is_pruning(config: TransformerConfig, what: str, count: int) -> bool:
    """Whether a model has fewer afterwards: it takes its parts' worth to say which go. Stacking takes none away."""
    return what != "stack" and count < size_of(config, what)


def group_sizes(neurons: int) -> list[int]:
    """How many neurons a group may have, the fewest first: groups are of one size, and at most `MOST_GROUPS`.

    Example:
        >>> group_sizes(128)
        [2, 4, 8, 16, 32, 64, 128]
    """
    return [size for size in range(1, neurons + 1) if neurons % size == 0 and neurons // size <= MOST_GROUPS]


def groups_of(config: TransformerConfig, neurons: int) -> int:
    """Groups of one size, as many as are valued, of which whole ones can go until so many neurons are left.

    Raises:
        ArenaError: there are no such groups.

    Example:
        >>> from arena_jax import models
        >>> groups_of(models.preset("gpt2-tiny"), 48), groups_of(models.preset("gpt2"), 2304)
        (64, 64)
    """
    before = config.intermediate_size
    sizes = group_sizes(before)
    fitting = [size for size in sizes if neurons % size == 0]
    if not fitting or fitting[0] == before:
        raise ArenaError(
            f"{neurons:,} of {before:,} neurons cannot stay: they go in at most {MOST_GROUPS} groups of one size; give "
            f"a multiple of {sizes[0]:,}"
        )
    return before // fitting[0]


def resize(config: TransformerConfig, what: str, count: int, worth: Worth | None = None, *, seed: int = 0) -> Surgery:
    """The change that leads to a number of blocks, heads or neurons.

    More heads and neurons are without output at first, and more blocks stand behind the last and do nothing yet: the
    function is kept, as :mod:`arena_jax.models.growth` says. Fewer are those without which the loss rises most, in each
    block as many; what a head or a neuron that goes gives on average stays in the biases.

    Args:
        config: of the model.
        what: "layers", "heads" (per block), "neurons" (per block), or "stack": blocks, as copies of those there are.
        count: how many afterwards.
        worth: of its parts, where there are fewer afterwards; in `groups_of` groups.
        seed: of new units' other weights.

    Returns:
        The change.

    Raises:
        ArenaError: it has as many already, or what makes it so does not exist for this model.

    Example:
        >>> from arena_jax import models
        >>> change = resize(models.preset("gpt2-tiny"), "layers", 4)
        >>> change.name, change.after.num_layers
        ('insert a block that does nothing at 2; insert a block that does nothing at 3', 4)
    """
    before = size_of(config, what)
    if count == before:
        raise ArenaError(f"there are {before} {'layers' if what == 'stack' else what} already: nothing would change")
    if what == "stack":
        return stack_blocks(config, count)
    if count > before and what == "heads":
        return add_heads(config, count - before, seed=seed)
    if count > before and what == "neurons":
        return widen(config, count - before, seed=seed)
    if count > before:
        change = insert_block(config, before, seed=seed)
        for at in range(before + 1, count):
            change = change.then(insert_block(change.after, at, seed=seed + at))
        return change
    worth = blank_worth(config, what, count) if worth is None else worth
    if what == "layers":
        return remove_blocks(config, [int(i) for i in np.argsort(worth.blocks, kind="stable")[: before - count]])
    heads, groups = np.ones(worth.heads.shape, bool), np.ones(worth.groups.shape, bool)
    if what == "heads":
        heads = _largest(worth.heads, count)
    else:
        groups = _largest(worth.groups, count * worth.groups.shape[1] // before)
    name = f"remove {before - count} of {before} {what} per block"
    return remove_parts(config, heads, groups, worth.means, name=name, compact=True)


def blank_worth(config: TransformerConfig, what: str, count: int) -> Worth:
    """Nothing is known of any part: for shapes alone."""
    groups = groups_of(config, count) if what == "neurons" else 1
    layers = config.num_layers
    return Worth(np.zeros((layers, config.num_heads)), np.zeros((layers, groups)), np.zeros(layers))


def shape_fields(config: TransformerConfig) -> dict[str, Any]:
    """What a change of shape changes of a configuration, as JSON holds it."""
    return {name: getattr(config, name) for name in SHAPE_FIELDS}


def _largest(values: Array, count: int) -> Array:
    """The places of each row's largest values, (blocks, parts) bool; of equal ones the first."""
    places = np.argsort(-values, axis=1, kind="stable")[:, :count]
    largest = np.zeros(values.shape, bool)
    np.put_along_axis(largest, places, True, axis=1)
    return largest
