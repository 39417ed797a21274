"""The loss of a language model's tokens, without the logits of all of them in memory at once."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arena_jax.models.shards import devices
from arena_jax.training.token_losses import count_correct, masked_sum, negative_log_likelihood, widened

# Float32 logits of one chunk. A chunk of GPT-2's vocabulary is then some 1,300 tokens: enough for a matrix product at
# full speed, and for the sum of the table's gradient, read and written once a chunk, to be small beside it.
CHUNK_BYTES = 256 * 2**20


class TokenSums(NamedTuple):
    """Sums over the tokens of a batch whose weight is above 0.

    Attributes:
        loss: of −log softmax(logits)[target], nats; float32 at least.
        correct: tokens whose largest logit is the target's, float32; None if it was not asked for.
    """

    loss: jax.Array
    correct: jax.Array | None


def token_sums(
    model: Any, hidden: jax.Array, targets: jax.Array, weight: jax.Array, *, correct: bool = False
) -> TokenSums:
    """Sums over the tokens that a language model predicts from hidden states.

    Args:
        model: a language model. Where its logits would take more than ``CHUNK_BYTES`` and it has
            ``vocabulary_projection``, they are computed a chunk at a time; else ``predict_tokens`` gives them all.
        hidden: (B, P, D), as ``model.encode`` returns it.
        targets: (B, P) integers in [0, V).
        weight: (B, P); a token counts, once, where it is above 0.
        correct: also count the tokens that are predicted.

    Returns:
        The sums; both ways agree up to rounding.
    """
    project = getattr(model, "vocabulary_projection", None)
    if project is not None:
        rows, positions = targets.shape
        chunk = chunk_positions(-(-rows // devices()), positions, model.config.vocab_size, CHUNK_BYTES)
        if chunk < positions:
            features, table, bias = project(hidden)
            return chunked_token_sums(features, table, bias, targets, weight, chunk=chunk, correct=correct)
    logits = model.predict_tokens(hidden)
    hits = count_correct(logits, targets, weight) if correct else None
    return TokenSums(masked_sum(negative_log_likelihood(logits, targets), weight), hits)


def chunk_positions(rows: int, positions: int, vocab_size: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Count the positions of every row whose logits are computed together.

    Args:
        rows: B, examples on a device.
        positions: P, scored positions of each.
        vocab_size: V.
        chunk_bytes: that B · positions · V float32 logits may take.

    Returns:
        At least 1, at most P. Chunks go along positions, so that rows stay where a mesh of devices has put them.

    Example:
        >>> chunk_positions(8, 128, 50257), chunk_positions(32, 1024, 50257)
        (128, 41)
    """
    return min(positions, max(1, chunk_bytes // (4 * rows * vocab_size)))


def chunked_token_sums(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    targets: jax.Array,
    weight: jax.Array,
    *,
    chunk: int,
    correct: bool = False,
) -> TokenSums:
    r"""Sums over tokens, of logits = hidden · tableᵀ + bias that exist for one chunk of positions at a time.

    .. math:: L = \sum_{b,p:\,w_{bp}>0} \log\sum_v e^{z_{bpv}} - z_{bp\,t_{bp}},
        \qquad \frac{\partial L}{\partial z_{bpv}} = [w_{bp} > 0]\,(\mathrm{softmax}(z_{bp})_v - [v = t_{bp}])

    L is a sum, so that its gradient is known up to one factor while the logits are there: the forward pass of
    ``jax.grad`` also computes the gradients of ``hidden``, ``table`` and ``bias``, and nothing is computed twice.

    Args:
        hidden: (B, P, D), in the type that logits are computed in.
        table: (V, D), cast to that type; its gradient is summed in float32 at least.
        bias: (V,), or None.
        targets: (B, P) integers in [0, V).
        weight: (B, P); a token counts, once, where it is above 0.
        chunk: positions whose logits exist together, as :func:`chunk_positions` says.
        correct: also count the tokens that are predicted.

    Returns:
        The sums, equal to those of all logits at once up to rounding.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> hidden, table = jnp.ones((2, 5, 3)), jnp.ones((4, 3))
        >>> targets, weight = jnp.zeros((2, 5), jnp.int32), jnp.ones((2, 5), jnp.int32)
        >>> print(f"{chunked_token_sums(hidden, table, None, targets, weight, chunk=2).loss:.3f}")  # 10 · log 4
        13.863
    """
    parts = [split_positions(array, chunk) for array in (hidden, targets, weight)]
    loss, hits = _sums(correct, parts[0], table, bias, *parts[1:])
    return TokenSums(loss, hits if correct else None)


def split_positions(array: jax.Array, chunk: int) -> jax.Array:
    """(B, P, …) → (chunks, B, chunk, …), filled with zeros: as weights, they do not count.

    Example:
        >>> split_positions(jnp.ones((2, 5)), 2).shape
        (3, 2, 2)
    """
    rows, positions = array.shape[:2]
    count = -(-positions // chunk)
    widths = [(0, 0), (0, count * chunk - positions), *[(0, 0)] * (array.ndim - 2)]
    padded = jnp.pad(array, widths).reshape(rows, count, chunk, *array.shape[2:])
    return jnp.moveaxis(padded, 1, 0)


def chunk_logits(features: jax.Array, table: jax.Array, bias: jax.Array | None) -> jax.Array:
    """features (B, P, D) · table (V, D)ᵀ + bias (V,): (B, P, V), computed in the features' type, float32 at least."""
    narrow = jax.lax.dot_general(features, table.astype(features.dtype), (((2,), (1,)), ((), ())))
    if bias is not None:
        narrow = narrow + bias.astype(features.dtype)[None, None, :]
    return widened(narrow)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(
    correct: bool, hidden: jax.Array, table: jax.Array, bias: jax.Array | None, targets: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Loss and hits, summed over chunks: hidden (chunks, B, chunk, D), targets and weight (chunks, B, chunk)."""

    def body(sums: Any, part: Any) -> tuple[Any, None]:
        x, target, counted = part
        chunk = _Chunk.of(x, table, bias, target, counted)
        hits = count_correct(chunk.logits, target, counted) if correct else jnp.zeros((), jnp.float32)
        return (sums[0] + chunk.loss, sums[1] + hits), None

    zero = jnp.zeros((), jnp.promote_types(hidden.dtype, jnp.float32))
    sums, _ = jax.lax.scan(body, (zero, jnp.zeros((), jnp.float32)), (hidden, targets, weight))
    return sums


def _forward(
    correct: bool, hidden: jax.Array, table: jax.Array, bias: jax.Array | None, targets: jax.Array, weight: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array | None]]:
    """The sums, and what their gradient is where that of the loss is 1."""
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    cast = table.astype(hidden.dtype)

    def body(carry: Any, part: Any) -> tuple[Any, jax.Array]:
        loss, hits, of_table, of_bias = carry
        x, target, counted = part
        chunk = _Chunk.of(x, table, bias, target, counted)
        hit = jnp.arange(table.shape[0], dtype=target.dtype)[None, None, :] == target[..., None]
        of_logits = jnp.where(counted[..., None] > 0, chunk.probabilities - hit, 0)
        narrow = of_logits.astype(x.dtype)
        of_x = jax.lax.dot_general(narrow, cast, (((2,), (0,)), ((), ())))
        of_table += jax.lax.dot_general(narrow, x, (((0, 1), (0, 1)), ((), ())), preferred_element_type=wide)
        of_bias = None if of_bias is None else of_bias + of_logits.sum((0, 1))
        hits += count_correct(chunk.logits, target, counted) if correct else 0
        return (loss + chunk.loss, hits, of_table, of_bias), of_x

    start = (
        jnp.zeros((), wide),
        jnp.zeros((), jnp.float32),
        jnp.zeros(table.shape, wide),
        None if bias is None else jnp.zeros(bias.shape, wide),
    )
    (loss, hits, of_table, of_bias), of_hidden = jax.lax.scan(body, start, (hidden, targets, weight))
    of_bias = None if bias is None or of_bias is None else of_bias.astype(bias.dtype)
    return (loss, hits), (of_hidden, of_table.astype(table.dtype), of_bias)


def _backward(correct: bool, gradients: Any, cotangents: Any) -> tuple[Any, ...]:
    """The chain rule: all three are scaled by the loss's own cotangent; counts have none."""
    factor = cotangents[0]
    scaled = jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients)
    return *scaled, None, None


_sums.defvjp(_forward, _backward)


class _Chunk(NamedTuple):
    """The logits (B, chunk, V) of a chunk, float32 at least, their softmax and the sum of its losses."""

    logits: jax.Array
    probabilities: jax.Array
    loss: jax.Array

    @classmethod
    def of(
        cls, x: jax.Array, table: jax.Array, bias: jax.Array | None, targets: jax.Array, weight: jax.Array
    ) -> _Chunk:
        logits = chunk_logits(x, table, bias)
        normaliser = jax.nn.logsumexp(logits, axis=-1)
        losses = normaliser - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return cls(logits, jnp.exp(logits - normaliser[..., None]), masked_sum(losses, weight))
