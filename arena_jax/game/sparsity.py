"""Single weights that go: magnitude, Wanda, SparseGPT. No speed comes of it: zeros are multiplied like the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax import models
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria.arguments import Array, real_number, seed_number
from arena_jax.game.layer_inputs import Moments, layer_inputs
from arena_jax.game.layer_least_squares import lowest, sparse_kernel

WEIGHT_CRITERIA = ("magnitude", "wanda", "sparsegpt", "random")
KERNELS = (
    *(("attention", module) for module in ("query", "key", "value", "output")),
    ("feed_forward", "up"),
    ("feed_forward", "down"),
)


def sparsify(
    model: models.Transformer,
    batches: Sequence[Mapping[str, Any]],
    share: float,
    *,
    criterion: str = "sparsegpt",
    seed: int = 0,
) -> models.Transformer:
    """Set a share of every kernel of the blocks to zero; embeddings, norms, biases and the task's head stay.

    Block after block, on what reaches a block once those before it are sparse.

    ==========  ============================================================================================
    criterion   which weights w of a kernel go
    ==========  ============================================================================================
    magnitude   the smallest |w|
    wanda       the smallest |w| · √E x² of each output, x its input (Sun et al. 2023, arXiv 2306.11695)
    sparsegpt   the smallest w² / U² of every 128 inputs; the inputs behind make up for them
    random      drawn
    ==========  ============================================================================================

    Args:
        model: before.
        batches: texts that inputs are averaged over.
        share: part of the weights, from 0 to 1.
        criterion: one of the above.
        seed: of random.

    Returns:
        The model, of the same shapes.

    Raises:
        ArenaError: an unknown criterion, a share outside [0, 1], or no batches.

    Example:
        >>> model = models.create("gpt2-tiny", task="causal-lm")
        >>> ids = {"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}
        >>> new = sparsify(model, [ids], 0.5, criterion="wanda")
        >>> float((new.blocks.feed_forward.up.kernel[...] == 0).mean())
        0.5
    """
    if criterion not in WEIGHT_CRITERIA:
        raise ArenaError(f"unknown criterion {criterion!r} for weights; {nearest(str(criterion), WEIGHT_CRITERIA)}")
    real_number(share, "share", "a part of the weights, from 0 to 1", lambda x: 0 <= x <= 1)
    random = np.random.default_rng(seed_number(seed))
    structure, params = models.split(model)
    for layer in range(model.config.num_layers):
        inputs = layer_inputs(models.merge(structure, params), batches, layer)
        blocks = {part: {**maps} for part, maps in params["blocks"].items()}
        for part, module in KERNELS:
            leaves = blocks[part][module]
            kernel = np.asarray(leaves["kernel"][layer], np.float64)
            new = _sparse(kernel, inputs.of(part, module), share, criterion, random)
            blocks[part][module] = {**leaves, "kernel": leaves["kernel"].at[layer].set(new)}
        params = {**params, "blocks": blocks}
    return models.merge(structure, params)


def _sparse(kernel: Array, inputs: Moments, share: float, criterion: str, random: np.random.Generator) -> Array:
    if criterion == "sparsegpt":
        return sparse_kernel(kernel, inputs.second, share)
    if criterion == "wanda":
        scores = np.asarray(np.abs(kernel) * inputs.root_mean_square[:, None])
        goes = np.stack([lowest(column, share) for column in scores.T], axis=1)
    else:
        size = np.abs(kernel) if criterion == "magnitude" else np.asarray(random.random(kernel.shape))
        goes = lowest(size, share)
    return np.where(goes, 0.0, kernel)
