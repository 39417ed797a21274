"""Floating-point operations of a model's matrix products, counted from its shape.

Two operations per multiplication and addition. Norms, softmax, activations and lookups are left out: they grow with the
width of what flows, not with its square. Attention is charged the whole L × L square, causal or not, because that is
what is computed; NVIDIA's fused attention (``attention="cudnn"``) skips half a causal square and is charged the same.
"""

from __future__ import annotations

from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.models.config import TransformerConfig

BACKWARD = 2  # a product's backward pass is two products of its size: one for each of its factors


def forward_flops(config: TransformerConfig, length: int, *, head: bool = True) -> float:
    """Count the operations per token of a forward pass.

    Σ over blocks of 8·D·W + 4·T·W + 4·D·F with W = heads · head size, plus a language model's head.
    ELECTRA's map from its narrower tables is counted too.

    Args:
        config: of the model.
        length: T, tokens that a token attends to.
        head: count the vocabulary's map too, as if it were computed for every token.

    Returns:
        Operations per token.

    Example:
        >>> from arena_jax import models
        >>> forward_flops(models.preset("gpt2"), 1024) / 2 / 124_439_808 > 1  # more than the parameters: attention
        True
    """
    block = _kernels(config) + _attention(config, length)
    table = 0 if config.table_width == config.hidden_size else 2 * config.table_width * config.hidden_size
    return float(table + config.num_layers * block + (_head(config, "causal-lm") if head else 0))


def row_flops(config: TransformerConfig, task: str, length: int, positions: int) -> float:
    """Count the operations of a forward pass through one row of a task.

    Args:
        config: of the model.
        task: one of `arena_jax.models.TASKS`; says which head.
        length: L, tokens of the row, padding included.
        positions: how many of them the head is applied to; `arena_jax.training.objectives.head_positions` knows.

    Returns:
        Operations per row.

    Example:
        >>> from arena_jax import models
        >>> bert = models.preset("bert-base")
        >>> round(row_flops(bert, "masked-lm", 128, 19) / row_flops(bert, "masked-lm", 128, 128), 2)  # 15 % hidden
        0.82
    """
    return length * forward_flops(config, length, head=False) + positions * _head(config, task)


def training_flops(config: TransformerConfig, task: str, length: int, positions: int) -> float:
    """Count the operations of one row's gradient: forward, backward, and what the backward pass computes again.

    By ``remat`` "dots", products with kernels are kept for the backward pass and those of attention computed again; by
    "block" both are, but for a last product whose result the backward pass does not read: GPT-2's, as no norm follows
    it; by "none" nothing is. Attention in chunks computes its scores once more, but keeps its results by "dots".

    Args:
        config: of the model.
        task: see :func:`row_flops`; the same holds for the next two.
        length: see there.
        positions: see there.

    Returns:
        Operations per row; rows and microbatches add up.

    Example:
        >>> from arena_jax import models
        >>> gpt2 = models.preset("gpt2")
        >>> again = training_flops(gpt2.replace(remat="block"), "causal-lm", 128, 127)
        >>> round(again / training_flops(gpt2, "causal-lm", 128, 127), 2)  # what "block" costs
        1.15
    """
    again = _attention(config, length)
    if config.remat == "none" or (config.remat == "dots" and config.attention == "chunked"):
        again = 0
    if config.remat == "block":
        again += _kernels(config) - (2 * config.hidden_size * config.intermediate_size) * (config.family == "gpt2")
    if config.attention == "chunked":
        again += _attention(config, length) // 2
    once = row_flops(config, task, length, positions)
    return float((1 + BACKWARD) * once + length * config.num_layers * again)


def _kernels(config: TransformerConfig) -> int:
    """Per token and block: Q, K, V and the output map, then the feed-forward part."""
    width = config.num_heads * config.head_size
    return 8 * config.hidden_size * width + 4 * config.hidden_size * config.intermediate_size


def _attention(config: TransformerConfig, length: int) -> int:
    """Per token and block: the scores, and the sums that they weigh."""
    return 4 * length * config.num_heads * config.head_size


def _head(config: TransformerConfig, task: str) -> int:
    """Per position that the head is applied to."""
    d, gpt2 = config.hidden_size, config.family == "gpt2"
    if task in LANGUAGE_MODELS and not gpt2:
        return 2 * config.table_width * (config.vocab_size + d)
    outputs = config.vocab_size if task in LANGUAGE_MODELS else 2 if task == "question-answering" else config.num_labels
    # BERT and RoBERTa have one map more before the vocabulary, and before (or as the pooler) a row's classes.
    deeper = not gpt2 and task == "sequence-classification"
    return 2 * d * (outputs + d * deeper)
