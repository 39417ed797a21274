"""The head of each task, with the semantics of the transformers class of that family."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.models.config import TransformerConfig
from arena_jax.models.initial import Initial
from arena_jax.models.layers import LayerNorm, Linear, activation, dropout
from arena_jax.models.model_types import MODEL_TYPES


class LanguageHead(nnx.Module):
    """Dense, activation and norm (not in GPT-2), then a logit per token of the vocabulary."""

    def __init__(self, config: TransformerConfig, initial: Initial) -> None:
        size, width, std = config.hidden_size, config.table_width, config.initializer_range
        plain = config.family == "gpt2"
        self.transform = None if plain else Linear(size, width, std, initial)
        self.norm = None if plain else LayerNorm(width, config.layer_norm_eps or 0.0, initial)
        self.bias = None if plain else nnx.Param(initial.constant((config.vocab_size,), 0))
        tied = config.tie_word_embeddings
        self.output = None if tied else Linear(width, config.vocab_size, std, initial, bias=False)
        self.activation = MODEL_TYPES[config.model_type].language_activation or config.activation

    def features(self, hidden: Array) -> Array:
        """What the vocabulary is multiplied with, (..., D), from hidden (..., D)."""
        if self.transform is None or self.norm is None:
            return hidden
        return self.norm(activation(self.activation)(self.transform(hidden)))

    def __call__(self, hidden: Array, table: Array) -> Array:
        """Logits (..., V) of hidden (..., D); table (V, D) is used when the head is tied."""
        x = self.features(hidden)
        if self.output is not None:
            logits = self.output(x)
        else:
            logits = jax.lax.dot_general(x, table.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())))
        if self.bias is None:
            return logits
        return logits + jnp.expand_dims(self.bias[...].astype(x.dtype), tuple(range(x.ndim - 1)))


class LabelHead(nnx.Module):
    """A logit per class, or start and end of a span; a sequence classifier without a pooler has a layer before it."""

    def __init__(self, config: TransformerConfig, task: str, initial: Initial) -> None:
        size, std = config.hidden_size, config.initializer_range
        sequence = task == "sequence-classification"
        first = MODEL_TYPES[config.model_type].first_token
        deeper = sequence and first is not None and not first.pooler
        self.dense = Linear(size, size, std, initial) if deeper else None
        outputs = 2 if task == "question-answering" else config.num_labels
        bias = not (sequence and config.family == "gpt2")
        self.output = Linear(size, outputs, std, initial, bias=bias)


def make_head(config: TransformerConfig, task: str, initial: Initial) -> LanguageHead | LabelHead | None:
    """The new head of a task; None where the tied token table is all of it."""
    if task not in LANGUAGE_MODELS:
        return LabelHead(config, task, initial)
    if config.family == "gpt2" and config.tie_word_embeddings:
        return None
    return LanguageHead(config, initial)


def make_pooler(config: TransformerConfig, task: str, initial: Initial) -> Linear | None:
    """BERT classifies a sequence from tanh of a linear map of its first token; nothing else has a pooler."""
    first = MODEL_TYPES[config.model_type].first_token
    if first is not None and first.pooler and task == "sequence-classification":
        size = config.hidden_size
        return Linear(size, size, config.initializer_range, initial)
    return None


def token_logits(head: LanguageHead | None, table: Array, hidden: Array) -> Array:
    """Logits (..., V) of hidden states (..., D), with the token table (V, D) where the head is tied to it."""
    if head is None:
        return jax.lax.dot_general(hidden, table.astype(hidden.dtype), (((hidden.ndim - 1,), (1,)), ((), ())))
    return head(hidden, table)


def vocabulary_projection(head: LanguageHead | None, table: Array, hidden: Array) -> tuple[Array, Array, Array | None]:
    """Features (..., D), a table (V, D) and a bias (V,) or None: the token logits are features · tableᵀ + bias."""
    if head is None:
        return hidden, table, None
    bias = None if head.bias is None else head.bias[...]
    return head.features(hidden), table if head.output is None else head.output.kernel[...].T, bias


def label_logits(
    config: TransformerConfig,
    task: str,
    head: LabelHead,
    pooler: Linear | None,
    hidden: Array,
    input_ids: Array,
    attention_mask: Array | None,
    key: Array | None,
) -> Array:
    """Logits of a task that is not a language model, from the hidden states (B, L, D); key None: no dropout."""
    if task == "question-answering":
        return head.output(dropout(hidden, config.span_dropout, key))
    rate = _classifier_dropout(config)
    if task == "token-classification":
        rate = config.hidden_dropout if config.model_type == "distilbert" else rate
        return head.output(dropout(hidden, rate, key))
    layer = MODEL_TYPES[config.model_type].first_token
    if layer is None:
        return head.output(_last_token(config, hidden, input_ids, attention_mask))
    first, second = (None, None) if key is None else jax.random.split(key)
    if pooler is not None:
        return head.output(dropout(jnp.tanh(pooler(hidden[:, 0])), rate, first))
    assert head.dense is not None
    x = activation(layer.activation)(head.dense(dropout(hidden[:, 0], rate, first if layer.dropout else None)))
    return head.output(dropout(x, rate, second))


def _classifier_dropout(config: TransformerConfig) -> float:
    if config.classifier_dropout is not None:
        return config.classifier_dropout
    return 0.1 if config.family == "gpt2" else config.hidden_dropout  # GPT2ForTokenClassification has 0.1 built in


def _last_token(config: TransformerConfig, hidden: Array, input_ids: Array, attention_mask: Array | None) -> Array:
    """The hidden state of the rightmost token that is not padding.

    Padding is what GPT2ForSequenceClassification takes for it, the configured token, and also what the attention mask
    hides: a row's answer must not depend on which token a tokenizer fills it up with.
    """
    if config.pad_token_id is None and attention_mask is None:
        if input_ids.shape[0] != 1:
            raise ArenaError(
                "gpt2 classifies at the last token that is not padding: set pad_token_id in the configuration, or hand "
                "over an attention mask, to classify more than one sequence at a time"
            )
        return hidden[:, -1]
    numbers = jnp.arange(input_ids.shape[1], dtype=jnp.int32)[None, :]
    real = jnp.ones_like(input_ids) if attention_mask is None else (attention_mask != 0).astype(jnp.int32)
    if config.pad_token_id is not None:
        real = real * (input_ids != config.pad_token_id)
    last = jnp.argmax(numbers * real, axis=-1)
    return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
