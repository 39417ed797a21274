"""How a model does in its domain and in others, with the floor beside each number."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from arena_jax import data, models
from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.game.subject import Subject
from arena_jax.training.squad import answer_scores


def language_scores(subject: Subject, rows: data.Encoded | None = None, *, batch_size: int = 16) -> dict[str, float]:
    """Loss, perplexity and bits per byte on rows, and those of the training tokens' frequencies alone.

    Args:
        subject: a language model with its data.
        rows: of any text, in the model's tokens; its validation rows if not given.
        batch_size: rows at a time.

    Returns:
        ``loss`` (nats per predicted token), ``perplexity``, ``bits_per_byte``, and ``floor_loss``,
        ``floor_perplexity`` and ``floor_bits_per_byte``: of the unigram model with one added to each count.

    Raises:
        ArenaError: another task than a language model's.
    """
    if subject.model.task not in LANGUAGE_MODELS:
        raise ArenaError(f"perplexity is a language model's; this one's task is {subject.model.task!r}")
    rows = subject.validation if rows is None else rows
    structure, params = models.split(subject.model)
    counts = np.bincount(subject.train.tokens["input_ids"].values, minlength=subject.model.config.vocab_size) + 1.0
    unigram = -np.log(counts / counts.sum())

    @jax.jit
    def run(params: Any, batch: Any, key: jax.Array) -> Any:
        sums = subject.objective(models.merge(structure, params), batch, key, False).sums
        return {name: sums[name] for name in ("loss_sum", "count", "bytes")}

    totals = {"loss_sum": 0.0, "count": 0.0, "bytes": 0.0}
    for index, batch in enumerate(data.evaluation_batches(rows, batch_size)):
        sums = run(params, batch, jax.random.fold_in(jax.random.key(0), index))
        totals = {name: total + float(sums[name]) for name, total in totals.items()}
    # Each row's first token is predicted from nothing, and counted by neither.
    column = rows.tokens["input_ids"]
    first = np.zeros(len(column.values), bool)
    first[column.offsets[:-1]] = True
    floor = float(unigram[column.values[~first]].mean())
    loss = totals["loss_sum"] / totals["count"]
    per_byte = totals["count"] / totals["bytes"] / math.log(2) if totals["bytes"] else math.nan
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700)),
        "bits_per_byte": loss * per_byte,
        "floor_loss": floor,
        "floor_perplexity": math.exp(floor),
        "floor_bits_per_byte": floor * per_byte,
    }


def answer_floors(questions: data.Dataset, *, words: int = 3, seed: int = 0) -> dict[str, tuple[float, float]]:
    """What an answer must beat: the first words of the context, and words from a random place.

    Args:
        questions: as ``data.load(..., task="question-answering")`` gives them.
        words: per answer; three is SQuAD's mean.
        seed: of the places.

    Returns:
        {floor: (exact match, F1)} in percent.

    Raises:
        ArenaError: another kind of data.
    """
    if questions.task != "question-answering":
        raise ArenaError(f"answers are asked of question-answering data, not of {questions.task}")
    random = np.random.default_rng(seed)
    rows: dict[str, list[tuple[float, float]]] = {"first words": [], "random words": []}
    for context, answers in zip(questions.columns["context"], questions.columns["answers"], strict=True):
        every = context.split()
        at = int(random.integers(max(1, len(every) - words + 1)))
        texts = [text for text, _ in answers]
        rows["first words"].append(answer_scores(" ".join(every[:words]), texts))
        rows["random words"].append(answer_scores(" ".join(every[at : at + words]), texts))
    return {
        name: (float(100 * np.mean(pairs, axis=0)[0]), float(100 * np.mean(pairs, axis=0)[1]))
        for name, pairs in rows.items()
    }
