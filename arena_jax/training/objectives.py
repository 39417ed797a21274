"""What a model is trained for: sums of losses over the examples of a batch, padding left out.

An objective returns sums, never averages, so that a loss over microbatches, devices or evaluation batches of
different fill is the exact loss over their examples: ``loss = loss_sum / count``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import MULTI_LABEL, REGRESSION
from arena_jax.models.layers import random_words
from arena_jax.training.batch_sums import (
    Batch,
    Objective,
    Result,
    attention_of,
    count_of,
    example_rows,
    followed,
    model_inputs,
)
from arena_jax.training.multi_label import multi_label
from arena_jax.training.regression import regression
from arena_jax.training.token_losses import count_correct, masked_sum, negative_log_likelihood, widened
from arena_jax.training.vocabulary_loss import token_sums

HIDDEN = 0.15  # of the tokens, in masked language models (Devlin et al. 2019, section 3.1)


def next_token(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    """Predict token t+1 from tokens up to t; counted where both are real and of one text.

    Args:
        model: a ``causal-lm`` model.
        batch: ``input_ids`` and ``attention_mask`` (B, L); optionally ``segment_ids`` (B, L), where texts share rows,
            ``bytes`` (B,), ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on, and no accuracy (its pass over the vocabulary is not free).

    Returns:
        ``loss_sum``, ``count`` (tokens), ``bytes``, and in evaluation ``correct``.
    """
    hidden = model.encode(**model_inputs(batch), key=key if training else None)
    targets, weight = batch["input_ids"][:, 1:], followed(batch)
    tokens = token_sums(model, hidden[:, :-1], targets, weight, correct=not training)
    sums = {"loss_sum": tokens.loss, "count": count_of(weight), "bytes": _bytes(batch)}
    if tokens.correct is not None:
        sums["correct"] = tokens.correct
    return Result(sums, {"hidden": hidden[:, :-1], "targets": targets, "weight": weight} if training else {})


def _bytes(batch: Batch) -> jax.Array:
    sizes = batch.get("bytes")
    rows = example_rows(batch)
    return (
        jnp.sum(jnp.where(rows > 0, sizes, 0), dtype=jnp.float32) if sizes is not None else jnp.zeros((), jnp.float32)
    )


class MaskedBatch(NamedTuple):
    """A batch with hidden tokens; P = positions per row, the same for every row of one length.

    Attributes:
        input_ids: (B, L) with the chosen tokens replaced.
        positions: (B, P) where tokens were chosen.
        targets: (B, P) the tokens that stood there.
        weight: (B, P) 1 where a position was really chosen, 0 where it only fills the row.
    """

    input_ids: jax.Array
    positions: jax.Array
    targets: jax.Array
    weight: jax.Array


def hidden_tokens(length: int, rate: float = HIDDEN) -> int:
    """The places per row for hidden tokens: max(1, round(rate·L)).

    Example:
        >>> hidden_tokens(64)
        10
    """
    return max(1, int(rate * length + 0.5))


def mask_tokens(
    key: jax.Array,
    input_ids: jax.Array,
    maskable: jax.Array,
    *,
    mask_token_id: int,
    vocab_size: int,
    rate: float = HIDDEN,
) -> MaskedBatch:
    """Choose exactly ``rate`` of each row's real tokens, and hide them as BERT does (80/10/10).

    A row with n maskable tokens gets max(1, round(rate·n)) chosen ones, uniformly without replacement: of these 80 %
    become the mask token, 10 % a random token and 10 % stay. The number is exact, as in BERT's own data
    generator, instead of a coin toss per token: shapes are static, no chosen token is ever dropped, and the head need
    not be applied to the other 85 %.

    Args:
        key: a key; the same key masks the same tokens.
        input_ids: (B, L) int32.
        maskable: (B, L), nonzero where a token may be chosen (not padding, not special).
        mask_token_id: what a hidden token becomes.
        vocab_size: random tokens are drawn from [0, vocab_size).
        rate: share of the maskable tokens, in (0, 1].

    Returns:
        A :class:`MaskedBatch` with P = :func:`hidden_tokens`.

    Source:
        Devlin et al. 2019, section 3.1 (Task 1) and appendix A.1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> ids = jnp.arange(40, dtype=jnp.int32).reshape(2, 20)
        >>> masked = mask_tokens(jax.random.key(0), ids, jnp.ones_like(ids), mask_token_id=99, vocab_size=40)
        >>> print(masked.positions.shape, masked.weight.sum(axis=1))
        (2, 3) [3 3]
    """
    input_ids, maskable = jnp.asarray(input_ids), jnp.asarray(maskable)
    rows, length = input_ids.shape
    capacity = hidden_tokens(length, rate)
    # All words at once, as each draw is compiled for itself.
    choose, replace, draw = jnp.split(random_words(key, (rows, length + 2 * capacity)), [length, length + capacity], 1)
    order = jnp.where(maskable > 0, _uniform(choose), -1.0)
    _, positions = jax.lax.top_k(order, capacity)
    available = jnp.sum(maskable > 0, axis=1)
    count = jnp.maximum(1, jnp.floor(rate * available + 0.5).astype(jnp.int32))
    count = jnp.minimum(count, available)
    weight = (jnp.arange(capacity)[None, :] < count[:, None]).astype(jnp.int32)
    targets = jnp.take_along_axis(input_ids, positions, axis=1)
    fate = _uniform(replace)
    # A remainder favours small tokens by vocab_size / 2³², one part in 85,000 for GPT-2's vocabulary.
    random = (draw % jnp.uint32(vocab_size)).astype(input_ids.dtype)
    hidden = jnp.where(fate < 0.8, jnp.asarray(mask_token_id, input_ids.dtype), jnp.where(fate < 0.9, random, targets))
    hidden = jnp.where(weight > 0, hidden, targets)
    replaced = input_ids.at[jnp.arange(rows)[:, None], positions].set(hidden, unique_indices=True)
    return MaskedBatch(replaced, positions, targets, weight)


def _uniform(words: jax.Array) -> jax.Array:
    return (words >> 8).astype(jnp.float32) * jnp.float32(2**-24)  # [0, 1), in steps that float32 holds exactly


def masked_token(mask_token_id: int, *, vocab_size: int | None = None, rate: float = HIDDEN) -> Objective:
    """Predict hidden tokens from all others; only hidden tokens are scored.

    Args:
        mask_token_id: the tokenizer's mask token.
        vocab_size: random replacements are drawn below it; the model's vocabulary if not given.
        rate: share of the tokens that is hidden, in (0, 1].

    Returns:
        An objective for ``masked-lm`` models. Batches hold ``input_ids``, ``attention_mask`` and, to keep special
        tokens from being hidden, ``special_tokens_mask`` (B, L), and where texts share rows ``segment_ids``. Sums:
        ``loss_sum``, ``count`` (hidden tokens), ``bytes`` (the hidden tokens' share of the row's UTF-8 bytes), and in
        evaluation ``correct``.

    Raises:
        ArenaError: the rate is not in (0, 1].

    Source:
        Devlin et al. 2019, section 3.1; see :func:`mask_tokens`.
    """
    if not 0.0 < rate <= 1.0:
        raise ArenaError(f"the masking rate is {rate}; give a share above 0 and at most 1, such as 0.15")

    def objective(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
        mask_key, dropout_key = jax.random.split(key)
        real = attention_of(batch) * example_rows(batch)[:, None]
        special = batch.get("special_tokens_mask")
        maskable = real if special is None else real * (1 - special)
        size = vocab_size or model.config.vocab_size
        masked = mask_tokens(
            mask_key, batch["input_ids"], maskable, mask_token_id=mask_token_id, vocab_size=size, rate=rate
        )
        inputs = {**model_inputs(batch), "input_ids": masked.input_ids}
        hidden = model.encode(**inputs, key=dropout_key if training else None)
        # The vocabulary is the widest layer: apply it to the hidden tokens alone, 15 % of the work.
        hidden_tokens = jnp.take_along_axis(hidden, masked.positions[:, :, None], axis=1)
        tokens = token_sums(model, hidden_tokens, masked.targets, masked.weight, correct=not training)
        share = jnp.sum(masked.weight, axis=1) / jnp.maximum(1, jnp.sum(maskable > 0, axis=1))
        sums = {
            "loss_sum": tokens.loss,
            "count": count_of(masked.weight),
            "bytes": jnp.sum(batch["bytes"] * share, dtype=jnp.float32)
            if "bytes" in batch
            else jnp.zeros((), jnp.float32),
        }
        if tokens.correct is not None:
            sums["correct"] = tokens.correct
        outputs = {"hidden": hidden_tokens, "targets": masked.targets, "weight": masked.weight}
        return Result(sums, outputs if training else {})

    return objective


def classification(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    """Cross-entropy of one label per row.

    Args:
        model: a ``sequence-classification`` model.
        batch: ``input_ids``, ``attention_mask`` (B, L), ``labels`` (B,) int32; optionally ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on.

    Returns:
        ``loss_sum``, ``count`` (rows), ``correct``; in evaluation the output ``predictions`` (B,) int32.
    """
    logits = widened(model(**model_inputs(batch), key=key if training else None))
    weight = example_rows(batch)
    labels = jnp.where(weight > 0, batch["labels"], 0)
    sums = {
        "loss_sum": masked_sum(negative_log_likelihood(logits, labels), weight),
        "count": count_of(weight),
        "correct": count_correct(logits, labels, weight),
    }
    if training:
        return Result(sums, {"logits": logits, "weight": weight})
    return Result(sums, {"predictions": jnp.argmax(logits, axis=-1).astype(jnp.int32)})


def tagging(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    """Cross-entropy of one label per token; a label of −100 is not scored.

    Args:
        model: a ``token-classification`` model.
        batch: ``input_ids``, ``attention_mask``, ``labels`` (B, L); optionally ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on.

    Returns:
        ``loss_sum``, ``count`` (labelled tokens), ``correct``; in evaluation the output ``predictions`` (B, L) int32.
    """
    logits = widened(model(**model_inputs(batch), key=key if training else None))
    weight = (batch["labels"] != -100) * example_rows(batch)[:, None]
    labels = jnp.where(weight > 0, batch["labels"], 0)
    sums = {
        "loss_sum": masked_sum(negative_log_likelihood(logits, labels), weight),
        "count": count_of(weight),
        "correct": count_correct(logits, labels, weight),
    }
    if training:
        return Result(sums, {"logits": logits, "weight": weight})
    return Result(sums, {"predictions": jnp.argmax(logits, axis=-1).astype(jnp.int32)})


def span(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
    """Half the cross-entropy of an answer's first token plus half of its last.

    The softmax runs over the whole row, padding included, as in `transformers`' question-answering classes: parity
    with them decides. The model learns that no answer starts on padding; evaluation reads answers off the context only.

    Args:
        model: a ``question-answering`` model: logits (B, L, 2), start and end.
        batch: ``input_ids``, ``attention_mask`` (B, L), ``start_positions``, ``end_positions`` (B,); optionally
            ``valid`` (B,).
        key: the step's key (dropout).
        training: dropout on.

    Returns:
        ``loss_sum``, ``count`` (rows), ``correct`` (both ends right); in evaluation ``span_logits`` (B, L, 2).
    """
    logits = widened(model(**model_inputs(batch), key=key if training else None))
    weight = example_rows(batch)
    starts = jnp.where(weight > 0, batch["start_positions"], 0)
    ends = jnp.where(weight > 0, batch["end_positions"], 0)
    loss = negative_log_likelihood(logits[..., 0], starts) + negative_log_likelihood(logits[..., 1], ends)
    hit = (jnp.argmax(logits[..., 0], axis=-1) == starts) & (jnp.argmax(logits[..., 1], axis=-1) == ends)
    sums = {
        "loss_sum": masked_sum(loss / 2, weight),
        "count": count_of(weight),
        "correct": jnp.sum(hit & (weight > 0), dtype=jnp.float32),
    }
    return Result(sums, {} if training else {"span_logits": logits})


_BY_TASK: dict[str, Objective] = {
    "causal-lm": next_token,
    "sequence-classification": classification,
    "token-classification": tagging,
    "question-answering": span,
}


_BY_PROBLEM: dict[str, Objective] = {REGRESSION: regression, MULTI_LABEL: multi_label}


def objective_for(
    task: str,
    *,
    mask_token_id: int | None = None,
    vocab_size: int | None = None,
    problem_type: str | None = None,
) -> Objective:
    """The objective of a task.

    Args:
        task: one of the five tasks of :mod:`arena_jax.models`.
        mask_token_id: needed for ``masked-lm``.
        vocab_size: for ``masked-lm``: random replacements are drawn below it.
        problem_type: for ``sequence-classification``: "regression" or "multi_label_classification"; None: one class.

    Returns:
        ``objective(model, batch, key, training) -> Result``.

    Raises:
        ArenaError: the task is unknown, or ``masked-lm`` without a mask token.

    Example:
        >>> objective_for("causal-lm").__name__
        'next_token'
    """
    if task == "masked-lm":
        if mask_token_id is None:
            raise ArenaError("masked-lm needs the tokenizer's mask token: objective_for('masked-lm', mask_token_id=…)")
        return masked_token(mask_token_id, vocab_size=vocab_size)
    if task == "sequence-classification" and problem_type not in (None, "single_label_classification"):
        if problem_type not in _BY_PROBLEM:
            raise ArenaError(f"unknown problem_type '{problem_type}'; {nearest(str(problem_type), _BY_PROBLEM)}")
        return _BY_PROBLEM[problem_type]
    if task not in _BY_TASK:
        raise ArenaError(f"unknown task '{task}'; {nearest(task, [*_BY_TASK, 'masked-lm'])}")
    return _BY_TASK[task]


def head_positions(task: str, length: int) -> int:
    """How many tokens of a row a task's objective applies the head to.

    Args:
        task: one of the five tasks of :mod:`arena_jax.models`.
        length: L, tokens of the row, padding included.

    Example:
        >>> [head_positions(task, 64) for task in ("causal-lm", "masked-lm", "sequence-classification")]
        [63, 10, 1]
    """
    positions = {"causal-lm": length - 1, "masked-lm": hidden_tokens(length), "sequence-classification": 1}
    return positions.get(task, length)
