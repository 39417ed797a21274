"""What flows through the gates of an unchanged model: means of heads and neurons, and how evenly heads look around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.models.attention import Attention
from arena_jax.models.transformer import attention_pattern
from arena_jax.training.batch_sums import attention_of, example_rows, model_inputs

Array = np.ndarray[Any, Any]


class Observed(NamedTuple):
    """Averages over the real tokens of a calibration set.

    Attributes:
        head_means: (blocks, heads · head size) float32, before the output map.
        neuron_means: (blocks, F) float32, after the activation.
        entropy: (blocks, heads) of the attention, 0 = looks at one key, 1 = at all alike; NaN where no query sees two.
        tokens: how many were averaged.
    """

    head_means: Array
    neuron_means: Array
    entropy: Array
    tokens: int

    @property
    def means(self) -> tuple[Array, Array]:
        """What closed parts give in place of what they compute."""
        return self.head_means, self.neuron_means


def observe(model: models.Transformer, batches: Sequence[Mapping[str, Any]]) -> Observed:
    """Run a model over batches and average what its gates would see.

    Args:
        model: any model of this package.
        batches: token batches of one shape; rows whose ``valid`` is False are left out.

    Returns:
        The averages, summed in float64 over batches.

    Raises:
        ArenaError: no batches.

    Example:
        >>> from arena_jax import models
        >>> seen = observe(models.create("gpt2-tiny", task="causal-lm"), [{"input_ids": np.ones((2, 5), np.int32)}])
        >>> seen.head_means.shape, seen.neuron_means.shape, seen.entropy.shape, seen.tokens
        ((2, 32), (2, 64), (2, 4), 10)
    """
    structure, params = models.split(model)

    @jax.jit
    def sums(params: Any, batch: Any) -> tuple[jax.Array, ...]:
        return _sums(models.merge(structure, params), batch)

    totals: list[Array] | None = None
    for batch in batches:
        batch_sums = [np.asarray(x, np.float64) for x in sums(params, jax.tree.map(jnp.asarray, dict(batch)))]
        totals = batch_sums if totals is None else [a + b for a, b in zip(totals, batch_sums, strict=True)]
    if totals is None:
        raise ArenaError("there is nothing to observe: give at least one batch")
    heads, neurons, entropy, tokens, queries = totals
    with np.errstate(invalid="ignore"):
        even = np.where(queries > 0, entropy / queries, np.nan)
    return Observed(np.asarray(heads / tokens, np.float32), np.asarray(neurons / tokens, np.float32), even, int(tokens))


def _sums(model: models.Transformer, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
    config = model.config
    inputs: dict[str, Any] = model_inputs(batch)
    ids = inputs.pop("input_ids")
    _, stages = model.encode(ids, **inputs, return_blocks=True)
    mask = attention_pattern(config, stages.shape[2], inputs.get("attention_mask"), inputs.get("segment_ids"))
    real = ((attention_of(batch) != 0) * example_rows(batch)[:, None]).astype(jnp.float32)
    graph, stack = nnx.split(model.blocks)
    length = stages.shape[2]
    pattern = jnp.ones((1, 1, length, length), bool) if mask is None else mask
    visible = jnp.broadcast_to(pattern.sum(-1), (stages.shape[1], 1, length))
    counted = real[:, None, :] * (visible > 1)

    def layer_sums(layer: tuple[Any, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        params, x, number = layer
        block = nnx.merge(graph, params)
        attention_input = block.attention_input(x)
        mixed = block.attention.mix(attention_input, mask, number, None)
        neurons = block.feed_forward.neurons(block.feed_forward_input(block.attend(x, mixed)))
        weights = _attention(block.attention, attention_input, mask, number)
        entropy = -(weights * jnp.log(jnp.where(weights > 0, weights, 1))).sum(-1)
        entropy = entropy / jnp.log(jnp.maximum(visible, 2).astype(jnp.float32))
        per_head = jnp.where(counted > 0, entropy, 0).sum((0, 2))
        return _over_tokens(mixed, real), _over_tokens(neurons, real), per_head

    numbers = jnp.arange(config.num_layers, dtype=jnp.int32)
    heads, neurons, entropy = jax.lax.map(layer_sums, (nnx.to_pure_dict(stack), stages[:-1], numbers))
    return heads, neurons, entropy, real.sum(), counted.sum()


def _over_tokens(values: jax.Array, real: jax.Array) -> jax.Array:
    return jnp.where(real[..., None] > 0, values.astype(jnp.float32), 0).sum((0, 1))


def _attention(attention: Attention, x: jax.Array, mask: jax.Array | None, layer: jax.Array) -> jax.Array:
    """The probabilities (B, heads, L, L), which the model itself never forms."""
    config = attention.config
    shape = (*x.shape[:-1], config.num_heads, config.head_size)
    query, keys = (part(x).reshape(shape).astype(jnp.float32) for part in (attention.query, attention.key))
    scores = jnp.einsum("blhd,bmhd->bhlm", query, keys) * attention.scale(layer, jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)
