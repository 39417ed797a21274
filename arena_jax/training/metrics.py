"""Scores from sums over examples: batches of any size add up to the same number, and are divided once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from arena_jax.data.dataset import MULTI_LABEL, QUESTIONS, REGRESSION, TAGGING
from arena_jax.data.encoded import Encoded
from arena_jax.training.entities import entities, entity_sums, is_entity_scheme
from arena_jax.training.multi_label import f1_scores
from arena_jax.training.regression import correlations
from arena_jax.training.squad import Answers, answer_scores, normalize_answer

__all__ = [
    "Sums",
    "add",
    "total",
    "ratios",
    "finalize",
    "entities",
    "entity_sums",
    "Answers",
    "answer_scores",
    "normalize_answer",
]

Sums = dict[str, float]


def add(sums: Mapping[str, float], more: Mapping[str, Any]) -> Sums:
    """Add the sums of one batch to those so far.

    Args:
        sums: so far; empty at first.
        more: name to scalar: numbers, NumPy or JAX arrays of shape ().

    Returns:
        New sums in float64 on the host; a name that one side lacks counts as 0 there.

    Example:
        >>> add({"count": 2.0}, {"count": np.float32(3), "loss_sum": 1.5})
        {'count': 5.0, 'loss_sum': 1.5}
    """
    out = dict(sums)
    for name, value in more.items():
        out[name] = out.get(name, 0.0) + float(np.asarray(value, np.float64))
    return out


def total(batches: Iterable[Mapping[str, Any]]) -> Sums:
    """Add up the sums of many batches.

    Args:
        batches: the sums of each.

    Returns:
        Their total.

    Example:
        >>> total([{"count": 1}, {"count": 2}])
        {'count': 3.0}
    """
    out: Sums = {}
    for sums in batches:
        out = add(out, sums)
    return out


def ratios(sums: Mapping[str, float]) -> dict[str, float]:
    """Divide sums into scores. Which scores there are depends on which sums there are.

    "loss" = loss_sum / count, in nats. "accuracy" = correct / count. With "bytes" (of the text behind the tokens
    that were predicted): "perplexity" = exp(loss) and "bits_per_byte" = loss_sum / (bytes · ln 2); for a masked
    language model both are pseudo measures, since a hidden token is guessed from both sides: they compare runs,
    not models of text. With entity counts: "entity_precision", "entity_recall", "entity_f1" (micro averages, as
    seqeval). With questions: "exact_match" and "f1", in [0, 1] (the official script prints percent).

    Args:
        sums: from `add` or `total`.

    Returns:
        Scores. A score over nothing is NaN; an entity score over nothing is 0, as in seqeval.

    Example:
        >>> scores = ratios({"loss_sum": 4.0, "count": 2.0, "correct": 1.0})
        >>> scores
        {'loss': 2.0, 'accuracy': 0.5}
        >>> scores = ratios({"loss_sum": 2 * math.log(8.0), "count": 2.0, "bytes": 3.0})
        >>> {name: round(score, 6) for name, score in scores.items()}
        {'loss': 2.079442, 'perplexity': 8.0, 'bits_per_byte': 2.0}
    """
    scores: dict[str, float] = {}
    count = sums.get("count", 0.0)
    if "loss_sum" in sums:
        scores["loss"] = _ratio(sums["loss_sum"], count)
    if "correct" in sums:
        scores["accuracy"] = _ratio(sums["correct"], count)
    if "bytes" in sums and "loss" in scores:
        scores["perplexity"] = math.inf if scores["loss"] > 709.0 else math.exp(scores["loss"])
        scores["bits_per_byte"] = _ratio(sums["loss_sum"] / math.log(2.0), sums["bytes"])
    if "entities_true" in sums:
        correct, predicted, true = (sums[f"entities_{kind}"] for kind in ("correct", "predicted", "true"))
        scores["entity_precision"] = correct / predicted if predicted else 0.0
        scores["entity_recall"] = correct / true if true else 0.0
        scores["entity_f1"] = 2 * correct / (predicted + true) if predicted + true else 0.0
    if "questions" in sums:
        scores["exact_match"] = _ratio(sums["exact_sum"], sums["questions"])
        scores["f1"] = _ratio(sums["f1_sum"], sums["questions"])
    return scores


def finalize(
    rows: Encoded, sums: Mapping[str, float], outputs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()
) -> dict[str, float]:
    """Turn what an evaluation over all rows gave into scores.

    Args:
        rows: what was evaluated; every row once.
        sums: of the objective, added up over all batches.
        outputs: (batch, outputs) of each batch: "predictions" (B, L) int for tagging, "span_logits" (B, L, 2) for
            question answering, "predictions" (B,) for regression and (B, C) for several labels.

    Returns:
        The scores of `ratios`: with entity F1 if the tags mark entities, with exact match and F1 for questions; in
        regression Pearson's and Spearman's correlations; with several labels micro and macro F1.
    """
    all_sums = dict(sums)
    if rows.task == TAGGING and is_entity_scheme(rows.label_names):
        for batch, output in outputs:
            sums = entity_sums(batch["labels"], output["predictions"], rows.label_names, batch["valid"])
            all_sums = add(all_sums, sums)
    elif rows.task == QUESTIONS:
        answers = Answers(rows)
        for batch, output in outputs:
            logits = np.asarray(output["span_logits"], np.float32)
            answers.add(batch["feature_index"], logits[..., 0], logits[..., 1], batch["valid"])
        all_sums = add(all_sums, answers.sums())
    elif rows.source.problem_type == REGRESSION:
        return ratios(all_sums) | correlations(*_labels_and_predictions(outputs))
    elif rows.source.problem_type == MULTI_LABEL:
        return ratios(all_sums) | f1_scores(*_labels_and_predictions(outputs))
    return ratios(all_sums)


def _labels_and_predictions(
    outputs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> tuple[np.ndarray, np.ndarray]:
    """Both of every row, without those that only fill a batch."""
    labels, predictions = [], []
    for batch, output in outputs:
        real = np.asarray(batch["valid"], bool)
        labels.append(np.asarray(batch["labels"])[real])
        predictions.append(np.asarray(output["predictions"])[real])
    return np.concatenate(labels), np.concatenate(predictions)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
