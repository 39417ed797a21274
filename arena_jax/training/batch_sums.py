"""What every objective is written with: its type, and the parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Batch = Mapping[str, jax.Array]


class Result(NamedTuple):
    """What an objective says of one batch.

    Attributes:
        sums: scalars summed over the examples, in float32 at least; always ``loss_sum`` (nats) and ``count`` (what the
            loss is averaged over), and by task ``correct`` and ``bytes``.
        outputs: predictions per example, for metrics that are computed on the host. While training: ``logits``, or of
            language models the ``hidden`` states at the tokens they predict and those ``targets``, and the ``weight``
            of each; students are taught by them, and where nobody asks for them they cost nothing.
    """

    sums: dict[str, jax.Array]
    outputs: dict[str, jax.Array]


Objective = Callable[[Any, Batch, jax.Array, bool], Result]


def example_rows(batch: Batch) -> jax.Array:
    """1 for each row that is an example, 0 for a row that only fills the batch: (B,) int32."""
    valid = batch.get("valid")
    return jnp.ones(batch["input_ids"].shape[0], jnp.int32) if valid is None else valid.astype(jnp.int32)


def model_inputs(batch: Batch) -> dict[str, jax.Array]:
    """The part of a batch that the model reads."""
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "segment_ids")
    return {name: batch[name] for name in names if name in batch}


def attention_of(batch: Batch) -> jax.Array:
    """1 for each token that is real, 0 for padding: (B, L)."""
    mask = batch.get("attention_mask")
    return jnp.ones_like(batch["input_ids"]) if mask is None else mask


def followed(batch: Batch) -> jax.Array:
    """1 for each token that is real and whose next one is, in the same text: (B, L − 1)."""
    real = attention_of(batch) * example_rows(batch)[:, None]
    both = real[:, 1:] * real[:, :-1]
    segments = batch.get("segment_ids")
    return both if segments is None else both * (segments[:, 1:] == segments[:, :-1])


def count_of(weight: jax.Array) -> jax.Array:
    """How many weights are above 0, in float32."""
    return jnp.sum(weight > 0, dtype=jnp.float32)
