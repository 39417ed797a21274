"""Growth that keeps the function: heads and neurons without output, split ones, and blocks that do nothing yet.

In exact arithmetic the logits stay the same. In float32 they move by rounding, as wider sums are added up in another
order: at most 8.3e-7 was measured on tiny models (logits up to 2.6), and 2e-6 is what the tests allow. A block in GPT-2
moves none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.models import TransformerConfig
from arena_jax.models.surgery import NEW, PARAMS, SECOND, Array, Surgery, identity, rewire

_SMALL_EPSILON = 1e-9  # with embeddings of variance 1e-3, as they are drawn, ½ ε / v is 5e-7: a few roundings


def add_heads(config: TransformerConfig, count: int = 1, *, seed: int = 0) -> Surgery:
    """Give every block new heads whose rows of the output map are 0: the logits stay the same but for rounding.

    Their first gradient reaches the output map alone, which is enough: it differs between heads.

    Args:
        config: of the model.
        count: heads per block.
        seed: of their query, key and value.

    Returns:
        The change. ``transformers`` cannot express the result unless the head widths still fill the hidden size.

    Raises:
        ArenaError: a count below 1.

    Example:
        >>> from arena_jax import models
        >>> grown = add_heads(models.preset("gpt2-tiny"))
        >>> grown.after.num_heads, grown.after.head_width, grown.flops(64)
        (5, 8, 8192.0)
    """
    _at_least_one(count, "heads")
    source, share = identity(config.num_heads, config.num_layers)
    new = np.full((config.num_layers, count), NEW)
    return rewire(
        config,
        name=f"add {count} heads per block without output",
        heads=(np.concatenate([source, new], axis=1), np.concatenate([share, 0.0 * new], axis=1)),
        seed=seed,
    )


def split_heads(config: TransformerConfig, heads: Sequence[int], *, seed: int = 0) -> Surgery:
    """Split one head of every block in two that together do what it did.

    The two share its output map unevenly, by a random share around one half: equal halves would have equal gradients
    and stay equal for ever.

    Args:
        config: of the model.
        heads: for each block, which of its heads.
        seed: of the shares.

    Returns:
        The change: one head more per block.

    Raises:
        ArenaError: not one existing head per block.
    """
    layers = config.num_layers
    listed = isinstance(heads, Sequence | np.ndarray) and len(heads) == layers
    if not listed or not all(isinstance(h, int | np.integer) and 0 <= h < config.num_heads for h in heads):
        raise ArenaError(f"heads is {heads!r}; name one of {config.num_heads} heads for each of {layers} blocks")
    source, share = identity(config.num_heads, layers)
    parts = uneven_halves(layers, seed)
    rows = np.arange(layers)
    share[rows, list(heads)] = parts
    return rewire(
        config,
        name="split a head in each block",
        heads=(np.concatenate([source, np.asarray(heads)[:, None]], 1), np.concatenate([share, 1 - parts[:, None]], 1)),
    )


def widen(config: TransformerConfig, count: int, *, donors: Any = None, seed: int = 0) -> Surgery:
    """Give every block's feed-forward part more neurons.

    Args:
        config: of the model.
        count: neurons per block.
        donors: (blocks, count) neurons that are split in two, each at most once per block (Net2Wider); None: new ones
            without output, which keep the logits but for rounding.
        seed: of new neurons' incoming weights, or of the shares of split ones.

    Returns:
        The change; ``transformers`` can express it.

    Raises:
        ArenaError: a count below 1, or donors that do not fit.

    Example:
        >>> from arena_jax import models
        >>> widen(models.preset("gpt2-tiny"), 16).after.intermediate_size
        80

    Source: Chen, Goodfellow and Shlens 2016 (Net2Net).
    """
    _at_least_one(count, "neurons")
    layers, old = config.num_layers, config.intermediate_size
    source, share = identity(old, layers)
    if donors is None:
        added, parts = np.full((layers, count), NEW), np.zeros((layers, count))
    else:
        added = np.asarray(donors)
        fits = added.shape == (layers, count) and added.min() >= 0 and added.max() < old
        if not fits or any(len(set(row)) < count for row in added.tolist()):
            raise ArenaError(f"donors has shape {added.shape}; name {count} different neurons of {old} for each block")
        parts_kept = np.stack([uneven_halves(count, seed + layer) for layer in range(layers)])
        np.put_along_axis(share, added, parts_kept, axis=1)
        parts = 1 - parts_kept
    how = "without output" if donors is None else "split from others"
    return rewire(
        config,
        name=f"widen the feed-forward parts by {count} neurons {how}",
        neurons=(np.concatenate([source, added], axis=1), np.concatenate([share, parts], axis=1)),
        seed=seed,
    )


def insert_block(config: TransformerConfig, at: int, *, seed: int = 0) -> Surgery:
    """Insert a block whose two output maps are 0.

    In GPT-2 it adds nothing: the logits stay the same to the bit. In BERT and RoBERTa norms follow each sum, so the
    norm before the new block is moved behind it, and in between are plain norms of what is normal already. These change
    hidden states by ½ ε (1/v − 1) of their size, v the variance before the first of the norms: within rounding where v
    is about 1, as behind a block. Before the first block v is that of the embeddings, often below 0.03 and another for
    every token, which no scale or bias of usual size can undo: only an ε like BERT's 1e-12 allows a block there.

    Args:
        config: of the model.
        at: the new block's number, 0 to the number of blocks.
        seed: of its other weights.

    Returns:
        The change; ``transformers`` can express it.

    Raises:
        ArenaError: no such place, a model whose scale of attention depends on the block's number, or the first place in
            BERT or RoBERTa with an ε above 1e-9.

    Example:
        >>> from arena_jax import models
        >>> insert_block(models.preset("bert-tiny"), 1).after.num_layers
        3
    """
    layers = config.num_layers
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= layers:
        raise ArenaError(f"a block cannot be inserted at {at!r}; give a place from 0 to {layers}")
    if config.scale_attn_by_inverse_layer_idx and at < layers:
        raise ArenaError(
            f"scale_attn_by_inverse_layer_idx divides by the block's number: insert at {layers}, behind the last"
        )
    if config.family != "gpt2" and at == 0 and (config.layer_norm_eps or 0.0) > _SMALL_EPSILON:
        raise ArenaError(
            f"a block before the first would change the logits: {config.family}'s norms have ε = "
            f"{config.layer_norm_eps:g}, and embeddings are small; insert at 1, behind the first block"
        )

    if config.table_width != config.hidden_size and at == 0:
        raise ArenaError(
            "a block before the first would change the logits: the embeddings are mapped to another width behind "
            "their norm; insert at 1, behind the first block"
        )

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        random = np.random.default_rng(seed)

        def stacked(path: tuple[str, ...], value: Array) -> Array:
            row = np.zeros(value.shape[1:])
            if role == SECOND:
                row = value.mean(axis=0)
            elif role == PARAMS and path[-1] == "scale":
                row = np.ones(value.shape[1:])
            elif role == PARAMS and path[-1] == "kernel" and path[-2] not in ("output", "down"):
                row = random.normal(0, config.initializer_range, value.shape[1:])
            return np.insert(value, at, row.astype(value.dtype), axis=0)

        blocks = _map(stacked, tree["blocks"])
        if config.family == "gpt2":
            return {**tree, "blocks": blocks}
        # The norm that was before moves behind the new block; where it stood a plain one normalises.
        norm = blocks["feed_forward_norm"] = {name: value.copy() for name, value in blocks["feed_forward_norm"].items()}
        embeddings = tree["embeddings"]
        plain = {"scale": float(role == PARAMS), "bias": 0.0}
        if at == 0:
            for name, value in plain.items():
                norm[name][0] = embeddings["norm"][name]
                if role == PARAMS:
                    embeddings = {**embeddings, "norm": {**embeddings["norm"]}}
                    embeddings["norm"][name] = np.full_like(tree["embeddings"]["norm"][name], value)
        else:
            for name, value in plain.items():
                norm[name][at] = norm[name][at - 1]
                if role == PARAMS:
                    norm[name][at - 1] = value
        return {**tree, "blocks": blocks, "embeddings": embeddings}

    return Surgery(f"insert a block that does nothing at {at}", config, config.replace(num_layers=layers + 1), change)


def stack_blocks(config: TransformerConfig, layers: int) -> Surgery:
    """Put copies of the blocks on top of them, from the first on: plain depth stacking, which changes the function.

    Args:
        config: of the model.
        layers: blocks afterwards, more than there are; twice as many is the stacking of the paper.

    Returns:
        The change; ``transformers`` can express it. Copies take the moments of their block with them.

    Raises:
        ArenaError: no more blocks than before, or a model whose scale of attention depends on the block's number.

    Example:
        >>> from arena_jax import models
        >>> stack_blocks(models.preset("bert-tiny"), 4).after.num_layers
        4

    Source: Gong et al. 2019 (Efficient training of BERT by progressively stacking).
    """
    before = config.num_layers
    if isinstance(layers, bool) or not isinstance(layers, int) or layers <= before:
        raise ArenaError(f"{layers!r} blocks cannot be stacked from {before}: give more than there are")
    if config.scale_attn_by_inverse_layer_idx:
        raise ArenaError("scale_attn_by_inverse_layer_idx divides by the block's number: a copy would be another block")
    source = np.arange(layers) % before

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        return {**tree, "blocks": _map(lambda path, value: value[source], tree["blocks"])}

    return Surgery(f"stack {before} blocks to {layers}", config, config.replace(num_layers=layers), change)


def _map(change: Any, tree: Any, path: tuple[str, ...] = ()) -> Any:
    if isinstance(tree, dict):
        return {name: _map(change, value, (*path, name)) for name, value in tree.items()}
    return change(path, tree)


def uneven_halves(count: int, seed: int) -> Array:
    """Shares around one half, never one half itself."""
    random = np.random.default_rng(seed)
    return 0.5 + random.choice([-1, 1], count) * random.uniform(0.05, 0.2, count)


def _at_least_one(count: int, units: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ArenaError(f"{count!r} {units} cannot be added; give a whole number of at least 1")
