"""The smallest classifier of texts: the mean of its tokens' embeddings, and a linear map."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax import data
from arena_jax.config.errors import ArenaError

STEPS, BATCH, RATE = 1000, 64, 1e-2


class BagOfEmbeddings(NamedTuple):
    """A classifier that has learnt.

    Attributes:
        table: (V, D) float32, a row per token; 0 for a token that the texts do not hold.
        kernel: (D, classes) float32.
        bias: (classes,) float32.
    """

    table: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, rows: data.Encoded, special_ids: Collection[int] = ()) -> np.ndarray:
        """(rows, classes) float32, for each text of a data set."""
        ids, weights = _padded(rows, special_ids)
        return np.einsum("rl,rld->rd", weights, self.table[ids]) @ self.kernel + self.bias


def bag_of_embeddings(
    rows: data.Encoded, vocab_size: int, width: int, *, special_ids: Collection[int] = (), seed: int = 0
) -> BagOfEmbeddings:
    r"""Train it: :math:`\mathrm{softmax}(\frac{1}{|x|}\sum_{t \in x} E_t W + b)`, 1000 steps of Adam on 64 texts.

    It has no order of words and no context. What it scores is the floor that a transformer has to beat, and its table
    is a start that costs next to nothing.

    Args:
        rows: of a sequence classification, one class each.
        vocab_size: V.
        width: D.
        special_ids: tokens that stand for no text; they are left out.
        seed: of the first values and of the order of the texts.

    Returns:
        The classifier.

    Raises:
        ArenaError: the rows are of another task.

    Example:
        >>> from arena_jax.data import encode, synthetic_sentiment, train_tokenizer
        >>> texts = synthetic_sentiment()
        >>> tokenizer = train_tokenizer(texts, "bert")
        >>> rows = encode(texts, tokenizer)
        >>> bag = bag_of_embeddings(rows, tokenizer.vocab_size, 16, special_ids=tokenizer.special_ids)
        >>> bool((bag.logits(rows, tokenizer.special_ids).argmax(1) == rows.columns["labels"]).mean() > 0.9)
        True
    """
    if rows.task != "sequence-classification" or not rows.label_names or rows.columns["labels"].ndim != 1:
        raise ArenaError(f"a bag of embeddings classifies texts of one class each; these rows are for {rows.task}")
    random = np.random.default_rng(seed)
    ids, weights = _padded(rows, special_ids)
    labels = np.asarray(rows.columns["labels"], np.int32)
    classes = len(rows.label_names)
    params = {
        "table": random.normal(0, 0.1, (vocab_size, width)).astype(np.float32),
        "kernel": random.normal(0, width**-0.5, (width, classes)).astype(np.float32),
        "bias": np.zeros(classes, np.float32),
    }
    draws = random.integers(0, len(labels), (STEPS, BATCH))
    learnt = jax.tree.map(np.asarray, _train(params, jnp.asarray(ids), jnp.asarray(weights), labels, draws))
    absent = np.ones(vocab_size, bool)
    absent[ids[weights > 0]] = False
    return BagOfEmbeddings(np.where(absent[:, None], np.float32(0), learnt["table"]), learnt["kernel"], learnt["bias"])


@jax.jit
def _train(params: Any, ids: jax.Array, weights: jax.Array, labels: jax.Array, draws: jax.Array) -> Any:
    optimizer = optax.adam(RATE)

    def loss(p: Any, number: jax.Array) -> jax.Array:
        mean = jnp.einsum("bl,bld->bd", weights[number], p["table"][ids[number]])
        logits = mean @ p["kernel"] + p["bias"][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[number]).mean()

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        p, state = carry
        updates, state = optimizer.update(jax.grad(loss)(p, number), state)
        return (optax.apply_updates(p, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), draws)[0][0]


def _padded(rows: data.Encoded, special_ids: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (rows, L) int32 and their weights, float32: 1 / n for the n tokens of a text, 0 for the others."""
    tokens = rows.tokens["input_ids"]
    ids = tokens.padded(np.arange(len(tokens)), int(tokens.lengths.max()), 0)
    real = np.arange(ids.shape[1])[None] < tokens.lengths[:, None]
    real &= ~np.isin(ids, sorted(special_ids))
    return ids, (real / np.maximum(1, real.sum(1, keepdims=True))).astype(np.float32)
