"""What models score that cost next to nothing: a bag of embeddings for classes, counts of words for tags.

A comparison of transformers says little where their target lies below these.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from arena_jax import data
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.training.build import build, load_split, problem_type
from arena_jax.training.entities import IGNORED, entity_sums, is_entity_scheme
from arena_jax.training.warm_start import bag_of_classes


def cheap_models(config: RunConfig) -> dict[str, dict[str, float]]:
    """Train and score the cheap models of a run's data.

    For sequence classification a bag of embeddings with each model's tokenizer and width, the one that ``start=corpus``
    hands down; for tags the most frequent tag of each word, and of each word after the one before it.

    Args:
        config: of the run; its models are built, and not trained.

    Returns:
        ``{cheap model: {metric: value}}`` on the validation split.

    Raises:
        ArenaError: a task without such models.
    """
    if config.task == "token-classification":
        source = dataclasses.replace(config.data, problem_type=problem_type(config))
        train = load_split(source, config.task, "train", source.train_limit)
        return word_taggers(train, load_split(source, config.task, "validation", source.validation_limit))
    if config.task != "sequence-classification" or problem_type(config) is not None:
        raise ArenaError(f"no cheap model is known for {problem_type(config) or config.task}")
    parts = build(config)
    return {f"{name}, as a bag": {"accuracy": bag_of_classes(name, config, parts)[1]} for name in parts.models}


def word_taggers(train: data.Dataset, scored: data.Dataset) -> dict[str, dict[str, float]]:
    """Score the most frequent tag of each word ("unigram"), and of each pair of words ("bigram").

    A pair that the training split does not hold has its word's tag, a word that it does not hold the most frequent tag.

    Args:
        train: that is counted.
        scored: what is scored.

    Returns:
        ``{"unigram tags" and "bigram tags": {"accuracy" and, of entities, "entity_f1"}}``.

    Example:
        >>> def rows(words, labels):
        ...     columns = {"words": [words.split()], "labels": [labels]}
        ...     return data.Dataset("few", "token-classification", "train", columns, ("O", "B-city"))
        >>> word_taggers(rows("in Bern in Bern he runs", [0, 1, 0, 1, 0, 0]), rows("Bern runs", [1, 0]))
        {'unigram tags': {'accuracy': 1.0, 'entity_f1': 1.0}, 'bigram tags': {'accuracy': 1.0, 'entity_f1': 1.0}}
    """
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for pair, tag in _pairs(train.columns["words"], train.columns["labels"]):
        for key in (pair, pair[1], None):
            counts[key][tag] += 1
    best = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}

    def likeliest(*keys: Hashable) -> int:
        return next(best[key] for key in keys if key in best)

    texts, labels = scored.columns["words"], scored.columns["labels"]
    by_word = [[likeliest(word, None) for word in words] for words in texts]
    by_pair = [[likeliest(pair, pair[1], None) for pair, _ in _pairs([words], [words])] for words in texts]
    return {
        name: _tag_scores(labels, rows, train.label_names)
        for name, rows in (("unigram tags", by_word), ("bigram tags", by_pair))
    }


def _pairs(texts: Sequence[Any], labels: Sequence[Any]) -> Iterator[tuple[tuple[str | None, str], Any]]:
    """Each word after the one before it, and its tag."""
    for words, tags in zip(texts, labels, strict=True):
        yield from zip(zip([None, *words], words, strict=False), tags, strict=True)


def _tag_scores(labels: Sequence[Any], predictions: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    length = max(map(len, labels), default=0)
    true, predicted = (
        np.array([[*row, *[IGNORED] * (length - len(row))] for row in rows]) for rows in (labels, predictions)
    )
    scored = true != IGNORED
    scores = {"accuracy": float((true == predicted)[scored].mean())}
    if is_entity_scheme(names):
        sums = entity_sums(true, predicted, names)
        both = sums["entities_true"] + sums["entities_predicted"]
        scores["entity_f1"] = 2 * sums["entities_correct"] / both if both else 0.0
    return scores
