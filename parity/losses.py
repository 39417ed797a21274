"""The same loss on both sides: our objective's, and the labels that make PyTorch compute it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import training
from parity import inputs
from parity.case import Case

MASK_TOKEN = 5  # any token of the small vocabularies that is not padding
KEY = 3


def objective(task: str) -> Any:
    """Our objective for a task."""
    return training.objective_for(task, mask_token_id=MASK_TOKEN if task == "masked-lm" else None)


def our_loss(case: Case, model: Any, batch: Mapping[str, Any]) -> jax.Array:
    """The objective's mean loss, dropout off."""
    sums = objective(case.task)(model, batch, jax.random.key(KEY), False).sums
    return sums["loss_sum"] / sums["count"]


def with_labels(case: Case, batch: inputs.Arrays, seed: int = 4) -> tuple[inputs.Arrays, inputs.Arrays]:
    """A batch for our objective and the same for PyTorch.

    A masked-language-model objective hides tokens itself. Which ones it hides is drawn with its key; PyTorch gets the
    same hidden tokens as input and the tokens that stood there as labels. (Layer 7 checks the drawing.)
    """
    if case.task == "masked-lm":
        return batch, masked(case, batch, jax.random.key(KEY))
    extra = inputs.labels(case.task, case.sizes, batch, case.classes, np.random.default_rng(seed))
    if case.task == "causal-lm":
        return batch, {**batch, **extra}
    ours = {name: value.astype(np.int32) for name, value in extra.items()}
    return {**batch, **ours}, {**batch, **extra}


@functools.partial(jax.jit, static_argnums=(3,))
def hidden_tokens(key: jax.Array, ids: jax.Array, maskable: jax.Array, vocabulary: int) -> Any:
    """What the library hides with this key."""
    return training.mask_tokens(key, ids, maskable, mask_token_id=MASK_TOKEN, vocab_size=vocabulary)


def masked(case: Case, batch: inputs.Arrays, key: jax.Array) -> inputs.Arrays:
    """The inputs and labels that ``masked_token`` makes of a batch with this key."""
    mask_key, _ = jax.random.split(key)
    ids = jnp.asarray(batch["input_ids"])
    maskable = jnp.asarray(batch.get("attention_mask", np.ones_like(batch["input_ids"])))
    drawn = jax.tree.map(np.asarray, hidden_tokens(mask_key, ids, maskable, case.sizes.vocabulary))
    labels = np.full(ids.shape, -100)
    for row, (positions, targets, weights) in enumerate(zip(drawn.positions, drawn.targets, drawn.weight, strict=True)):
        for position, target, weight in zip(positions, targets, weights, strict=True):
            if weight:
                labels[row, position] = target
    return {**batch, "input_ids": drawn.input_ids, "labels": labels}
