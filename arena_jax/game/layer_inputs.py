"""What the products of a block read: moments of their inputs over calibration texts, and how much a block changes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.models.transformer import attention_pattern
from arena_jax.training.batch_sums import attention_of, example_rows, model_inputs


class Moments(NamedTuple):
    """Of the input x (c,) of one product, over the real tokens.

    Attributes:
        mean: (c,) float64, E x.
        second: (c, c) float64, E x xᵀ.
    """

    mean: Array
    second: Array

    @property
    def covariance(self) -> Array:
        """(c, c) E (x − E x)(x − E x)ᵀ."""
        return self.second - np.outer(self.mean, self.mean)

    @property
    def root_mean_square(self) -> Array:
        """(c,) √E x²: the norm of each channel over the tokens, divided by √tokens."""
        return np.sqrt(np.diag(self.second))


class LayerInputs(NamedTuple):
    """Of one block.

    Attributes:
        attention: what query, key and value read, (D,).
        heads: what the attention's output map reads, (heads · head size,).
        feed_forward: what the neurons read, (D,).
        neurons: what the feed-forward part's output map reads, (F,).
        influence: 1 − E cos(x, y) of the states x that enter the block and y that leave it.
        tokens: how many were averaged.
    """

    attention: Moments
    heads: Moments
    feed_forward: Moments
    neurons: Moments
    influence: float
    tokens: int

    def of(self, part: str, module: str) -> Moments:
        """Those of a product, by its name in the parameters: ("attention", "query"), …, ("feed_forward", "down")."""
        if part == "attention":
            return self.heads if module == "output" else self.attention
        return self.neurons if module == "down" else self.feed_forward


def layer_inputs(model: models.Transformer, batches: Sequence[Mapping[str, Any]], layer: int) -> LayerInputs:
    """Run a model over batches and average what one block's products read.

    One block at a time: all second moments of a large model together take more memory than the model.

    Args:
        model: any model of this package.
        batches: token batches of one shape; padding, and rows whose ``valid`` is False, are left out.
        layer: the block, from 0.

    Returns:
        The averages: sums of each batch in the computation's type (float32 at least), of all batches in float64.

    Raises:
        ArenaError: no batches.

    Example:
        >>> model = models.create("gpt2-tiny", task="causal-lm")
        >>> inputs = layer_inputs(model, [{"input_ids": np.ones((2, 5), np.int32)}], layer=1)
        >>> inputs.heads.second.shape, inputs.neurons.mean.shape, inputs.tokens
        ((32, 32), (64,), 10)
    """
    if not batches:
        raise ArenaError("there is nothing to look at: give at least one batch")
    structure, params = models.split(model)
    total: Any = None
    for batch in batches:
        numeric = {name: jnp.asarray(value) for name, value in batch.items() if np.asarray(value).dtype != object}
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), _sums(structure, params, jnp.int32(layer), numeric))
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    moments, influence, tokens = total
    attention, heads, feed_forward, neurons = (Moments(m / tokens, s / tokens) for m, s in moments)
    return LayerInputs(attention, heads, feed_forward, neurons, float(influence / tokens), int(tokens))


@functools.partial(jax.jit, static_argnums=0)
def _sums(structure: Any, params: Any, layer: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
    model = models.merge(structure, params)
    inputs: dict[str, Any] = model_inputs(batch)
    ids = inputs.pop("input_ids")
    _, stages = model.encode(ids, **inputs, return_blocks=True)
    mask = attention_pattern(model.config, ids.shape[1], inputs.get("attention_mask"), inputs.get("segment_ids"))
    graph, stack = nnx.split(model.blocks)
    block = nnx.merge(graph, jax.tree.map(lambda x: x[layer], nnx.to_pure_dict(stack)))
    x, y = stages[layer], stages[layer + 1]
    reads = block.attention_input(x)
    mixed = block.attention.mix(reads, mask, layer, None)
    then = block.feed_forward_input(block.attend(x, mixed))
    neurons = block.feed_forward.neurons(then)
    real = ((attention_of(batch) != 0) * example_rows(batch)[:, None]).reshape(-1)

    def wide(values: jax.Array) -> jax.Array:
        rows = values.reshape(-1, values.shape[-1])
        rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
        return jnp.where(real[:, None] > 0, rows, 0)

    rows = [wide(values) for values in (reads, mixed, then, neurons)]
    first, second = wide(x), wide(y)
    norms = jnp.linalg.norm(first, axis=1) * jnp.linalg.norm(second, axis=1)
    cosine = (first * second).sum(1) / jnp.where(real > 0, norms, 1)
    influence = jnp.where(real > 0, 1 - cosine, 0).sum()
    return tuple((r.sum(0), r.T @ r) for r in rows), influence, real.sum()
