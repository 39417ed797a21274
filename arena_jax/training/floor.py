"""The floor of a task: what one scores who has read the labels of the training split, and nothing of a text."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import numpy as np

from arena_jax import data
from arena_jax.config.errors import ArenaError
from arena_jax.runs.folder import load_run
from arena_jax.training.build import load_split, problem_type
from arena_jax.training.squad import answer_scores

_DRAWS = 20  # spans of each question


def floor(train: data.Dataset, scored: data.Dataset, seed: int = 0) -> dict[str, float]:
    """Score without reading.

    Of sequence classification the most frequent class of the training split; of tagging the most frequent tag, which
    finds no entity where it is "O"; of questions a part of the context drawn at random, with as many words as an answer
    of the training split, the mean of several draws.

    Args:
        train: the training split.
        scored: what is scored.
        seed: of the draws.

    Returns:
        "accuracy" of classes; "accuracy" and, where the most frequent tag is "O", "entity_f1" of tags; "exact_match"
        and "f1" of questions.

    Raises:
        ArenaError: a task without such a floor.

    Example:
        >>> columns = {"text": ["a", "b", "c"], "label": [1, 1, 0]}
        >>> few = data.Dataset("few", "sequence-classification", "train", columns, ("no", "yes"))
        >>> floor(few, few.take(2))
        {'accuracy': 1.0}
    """
    if train.task == "question-answering":
        return _random_answers(train, scored, seed)
    if train.task == "sequence-classification" and train.problem_type is None:
        common = Counter(train.columns["label"]).most_common(1)[0][0]
        return {"accuracy": float(np.mean([label == common for label in scored.columns["label"]]))}
    if train.task == "token-classification":
        common = Counter(tag for row in train.columns["labels"] for tag in row).most_common(1)[0][0]
        right = [tag == common for row in scored.columns["labels"] for tag in row]
        no_entity = {"entity_f1": 0.0} if train.label_names[common] == "O" else {}
        return {"accuracy": float(np.mean(right)), **no_entity}
    raise ArenaError(f"no floor is known for {train.problem_type or train.task}")


def floor_of_run(run: Path, split: str = "validation") -> dict[str, float]:
    """:func:`floor` of a run's own data.

    Args:
        run: its folder.
        split: what is scored.
    """
    config = load_run(run)
    source = dataclasses.replace(config.data, problem_type=problem_type(config))
    train = load_split(source, config.task, "train", source.train_limit)
    return floor(train, load_split(source, config.task, split, source.validation_limit))


def _random_answers(train: data.Dataset, scored: data.Dataset, seed: int) -> dict[str, float]:
    lengths = [len(text.split()) for answers in train.columns["answers"] for text, _ in answers[:1]]
    draw = random.Random(seed)
    scores = []
    for context, answers in zip(scored.columns["context"], scored.columns["answers"], strict=True):
        words, texts = context.split(), [text for text, _ in answers]
        for _ in range(_DRAWS):
            length = min(max(1, draw.choice(lengths)), len(words))
            first = draw.randrange(len(words) - length + 1)
            scores.append(answer_scores(" ".join(words[first : first + length]), texts))
    exact, f1 = np.mean(scores, axis=0)
    return {"exact_match": float(exact), "f1": float(f1)}
