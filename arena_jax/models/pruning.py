"""Heads, groups of neurons and blocks removed: mean outputs stay in the biases, or split neighbours fill the places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig
from arena_jax.models.growth import uneven_halves
from arena_jax.models.surgery import PARAMS, Array, Surgery, rewire


def remove_parts(
    config: TransformerConfig,
    heads: Array,
    groups: Array,
    means: tuple[Any, Any] | None = None,
    *,
    name: str,
    compact: bool = False,
    all_heads: bool = False,
    scores: tuple[Array, Array] | None = None,
    seed: int = 0,
) -> Surgery:
    """Remove heads and groups of feed-forward neurons.

    Args:
        config: of the model.
        heads: bool (blocks, heads), True = stays.
        groups: bool (blocks, groups), the same for contiguous groups of neurons of one size.
        means: μ of the heads' outputs (blocks, heads · head size) and of the neurons (blocks, neurons): a removed
            part's goes through the output map into its bias. None: removed parts leave nothing.
        name: of the change, in words.
        compact: make the arrays smaller: all blocks as wide as the widest, where what is left over is zeroed. False
            keeps every shape and zeroes the output rows: what ``transformers`` can always express.
        all_heads: with ``compact``, keep the places of all heads, zeroed where they go, and make smaller what
            neurons take alone: ``transformers`` can express that, where fewer heads it cannot.
        scores: of heads (blocks, heads) and of groups (blocks, groups): the places of removed parts are filled by
            splitting the parts of the block with the highest scores; the function is that of the pruned model. None:
            places stay empty.
        seed: of the shares of split parts.

    Returns:
        The change.

    Raises:
        ArenaError: a block would be left without a head or a group.

    Example:
        >>> from arena_jax import models
        >>> heads, groups = np.array([[True, False, True, True]] * 2), np.ones((2, 4), bool)
        >>> cut = remove_parts(models.preset("gpt2-tiny"), heads, groups, name="a head per block", compact=True)
        >>> cut.after.num_heads, cut.after.intermediate_size
        (3, 64)
    """
    plans = []
    for i, (parts, part) in enumerate(((heads, "head"), (groups, "group of neurons"))):
        if not parts.any(axis=1).all():
            raise ArenaError(f"block {int(np.argmin(parts.any(axis=1)))} would be left without a {part}; keep one")
        smaller = compact and not (all_heads and part == "head")
        plans.append(_plan(parts, None if scores is None else scores[i], smaller, seed))
    layers, size = config.num_layers, config.intermediate_size // groups.shape[1]
    source, share = plans[1]
    neurons = (source[:, :, None] * size + np.arange(size)).reshape(layers, -1), np.repeat(share, size, axis=1)
    inner = rewire(config, name=name, heads=plans[0], neurons=neurons)

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        if role == PARAMS and means is not None:
            tree = _with_means(tree, config, (heads, groups), means)
        return inner.change(tree, role)

    return Surgery(name, config, inner.after, change)


def remove_blocks(config: TransformerConfig, removed: Sequence[int]) -> Surgery:
    """Remove whole blocks: what leaves the block before enters the one behind.

    Args:
        config: of the model.
        removed: numbers of blocks, from 0.

    Returns:
        The change; ``transformers`` can express it.

    Raises:
        ArenaError: a block that does not exist, all of them, or a model whose scale of attention depends on the block's
            number, unless the last ones go.

    Example:
        >>> from arena_jax import models
        >>> remove_blocks(models.preset("gpt2-tiny"), [0]).after.num_layers
        1
    """
    layers, blocks = config.num_layers, sorted(set(removed))
    if any(isinstance(i, bool) or not isinstance(i, int | np.integer) or not 0 <= i < layers for i in blocks):
        raise ArenaError(f"there are {layers} blocks, numbered from 0; {list(removed)} names another")
    if len(blocks) == layers:
        raise ArenaError("all blocks would be removed; keep one")
    if config.scale_attn_by_inverse_layer_idx and blocks and blocks[0] < layers - len(blocks):
        raise ArenaError(
            "scale_attn_by_inverse_layer_idx divides by the block's number: only the last blocks can be removed"
        )

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        return {**tree, "blocks": jax.tree.map(lambda x: np.delete(x, blocks, axis=0), tree["blocks"])}

    name = f"remove {len(blocks)} of {layers} blocks"
    return Surgery(name, config, config.replace(num_layers=layers - len(blocks)), change)


def _plan(parts: Array, scores: Array | None, compact: bool, seed: int) -> tuple[Array, Array]:
    """Source and share of each place, per block."""
    layers, count = parts.shape
    if compact:
        # Those that stay first, in their order; then as many of the others as the widest block needs.
        order = np.argsort(~parts, axis=1, kind="stable")[:, : int(parts.sum(axis=1).max())]
        return order, np.take_along_axis(parts, order, axis=1).astype(float)
    source, share = np.tile(np.arange(count), (layers, 1)), parts.astype(float)
    if scores is not None:
        for layer in range(layers):
            free = np.flatnonzero(~parts[layer])
            ranking = sorted(np.flatnonzero(parts[layer]), key=lambda i: -scores[layer, i])
            parents = np.resize(ranking, len(free))
            for parent in set(parents.tolist()):
                children = free[parents == parent]
                source[layer, children] = parent
                share[layer, [parent, *children]] = _uneven_shares(1 + len(children), seed + layer)
    return source, share


def _uneven_shares(count: int, seed: int) -> Array:
    """Shares that sum to 1 and are all different, so that split parts do not stay equal."""
    offset = (uneven_halves(1, seed)[0] - 0.5) / count
    return 1 / count + offset * np.linspace(-1, 1, count)


def _with_means(
    tree: dict[str, Any], config: TransformerConfig, parts: tuple[Array, Array], means: tuple[Any, Any]
) -> dict[str, Any]:
    """Add the mean output of removed parts to the output biases."""
    blocks = {**tree["blocks"]}
    sizes = (config.head_size, config.intermediate_size // parts[1].shape[1])
    for (part, module), mean, stays, size in zip(
        (("attention", "output"), ("feed_forward", "down")), means, parts, sizes, strict=True
    ):
        output = blocks[part][module]
        removed = np.asarray(mean, np.float64) * ~np.repeat(stays, size, axis=1)
        constant = np.einsum("ln,lnd->ld", removed, np.asarray(output["kernel"], np.float64))
        bias = (np.asarray(output["bias"], np.float64) + constant).astype(output["bias"].dtype)
        blocks[part] = {**blocks[part], module: {**output, "bias": bias}}
    return {**tree, "blocks": blocks}
