"""The scores that runs and comparisons are judged by: which task has them, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple


class Score(NamedTuple):
    """A score of an evaluation.

    Attributes:
        tasks: that have it.
        sign: 1 where more is better, −1 where less is.
        low: the least it can be.
        high: the most.
        title: in words.
        percent: whether it is written in percent.
    """

    tasks: tuple[str, ...]
    sign: int
    low: float
    high: float
    title: str
    percent: bool


_CLASSES, _TEXT = "sequence-classification", "language-model"
_TAGS, _QUESTIONS = "token-classification", "question-answering"

SCORES: dict[str, Score] = {
    "loss": Score((_CLASSES, _TEXT, _TAGS, _QUESTIONS), -1, 0.0, math.inf, "validation loss (nats)", False),
    "accuracy": Score((_CLASSES, _TEXT, _TAGS), 1, 0.0, 1.0, "accuracy", True),
    "perplexity": Score((_TEXT,), -1, 1.0, math.inf, "perplexity", False),
    "bits_per_byte": Score((_TEXT,), -1, 0.0, math.inf, "bits per byte", False),
    "entity_precision": Score((_TAGS,), 1, 0.0, 1.0, "entity precision", True),
    "entity_recall": Score((_TAGS,), 1, 0.0, 1.0, "entity recall", True),
    "entity_f1": Score((_TAGS,), 1, 0.0, 1.0, "entity F1", True),
    "exact_match": Score((_QUESTIONS,), 1, 0.0, 1.0, "exact match", True),
    "f1": Score((_QUESTIONS,), 1, 0.0, 1.0, "F1", True),
    "pearson": Score((_CLASSES,), 1, -1.0, 1.0, "Pearson's correlation", False),
    "spearman": Score((_CLASSES,), 1, -1.0, 1.0, "Spearman's correlation", False),
    "micro_f1": Score((_CLASSES,), 1, 0.0, 1.0, "micro F1", True),
    "macro_f1": Score((_CLASSES,), 1, 0.0, 1.0, "macro F1", True),
}


def of_models(scores: Mapping[str, Mapping[str, float]], metric: str, over: str) -> float:
    """One number for the models of an evaluation.

    Args:
        scores: ``{model: {metric: value}}``.
        metric: of `SCORES`.
        over: "mean", "worst", "best", or a model's name; `arena_jax.config.objective` has what a competition is for.

    Returns:
        The number; NaN where a model's score is none, or where the metric is not there.

    Example:
        >>> of_models({"bert": {"loss": 1.0}, "gpt2": {"loss": 3.0}}, "loss", "worst")
        3.0
    """
    if over in scores:
        return float(scores[over].get(metric, math.nan))
    values = [float(of_model.get(metric, math.nan)) for of_model in scores.values()]
    if not values or any(map(math.isnan, values)):
        return math.nan
    if over == "mean":
        return sum(values) / len(values)
    return max(values) if (over == "best") == (SCORES[metric].sign > 0) else min(values)
