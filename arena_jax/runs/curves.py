"""A run's metrics over its steps, out of its records: what figures and pages draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.config.scores import SCORES
from arena_jax.runs.log_lines import score_of, words

# Okabe and Ito's colours, told apart with any colour vision; the pale yellow is left out: it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LABELS = {
    "loss": "loss (nats)",
    "perplexity": "perplexity (log scale)",
    "bits_per_byte": "bits per byte of text",
    "share": "share of the memory",
    "batch_size": "batch size (examples)",
    "examples_per_second": "examples per second",
}

Record = Mapping[str, Any]


def cycle(count: int) -> list[str]:
    """A colour for each of so many models."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def in_percent(metric: str) -> bool:
    """Whether a metric is drawn in percent."""
    return metric == "share" or (metric in SCORES and SCORES[metric].percent)


def label(metric: str) -> str:
    """A metric with its unit.

    Example:
        >>> label("accuracy"), label("loss")
        ('accuracy (%)', 'loss (nats)')
    """
    return _LABELS.get(metric, words(metric)) + (" (%)" if in_percent(metric) else "")


def model_names(records: Sequence[Record]) -> list[str]:
    """The models in the order of the run, which is the order of their colours in every figure."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record.get("models") or ()))
    return list(names)


def series(records: Sequence[Record], name: str, metric: str, kind: str) -> tuple[list[int], list[float]]:
    """One model's metric over the steps.

    Args:
        records: of a run.
        name: of the model.
        metric: its name in the records; the perplexity of a training record is exp(loss).
        kind: "train" or "evaluation".

    Returns:
        Steps and values, shares in percent; NaN where the value is not finite, so that the line has a gap there.

    Example:
        >>> records = [{"kind": "train", "step": 4, "models": {"bert": {"accuracy": 0.5}}}]
        >>> series(records, "bert", "accuracy", "train")
        ([4], [50.0])
    """
    steps, values = [], []
    for record in records:
        metrics = record.get("models", {}).get(name, {})
        value = metrics.get(metric)
        if metric == "perplexity" and value is None and "loss" in metrics:
            value = math.exp(min(metrics["loss"], 700.0))
        if record["kind"] == kind and isinstance(value, int | float):
            steps.append(record["step"])
            values.append((100.0 if in_percent(metric) else 1.0) * value if math.isfinite(value) else math.nan)
    return steps, values


def metrics_in(records: Sequence[Record]) -> list[str]:
    """What there is to draw of records of training and evaluations: the loss, then the scores, the learning rate last.

    Example:
        >>> metrics_in([{"kind": "evaluation", "step": 1, "models": {"bert": {"accuracy": 0.5, "loss": 0.7}}}])
        ['loss', 'accuracy']
    """
    reported: set[str] = set()
    scores: dict[str, None] = {}
    for record in records:
        for metrics in record["models"].values() if record["kind"] in ("train", "evaluation") else ():
            reported |= set(metrics)
            if record["kind"] == "evaluation":
                scores[score_of(metrics)] = None
    metrics_in_order = ["loss", *scores, *[m for m in ("accuracy", "perplexity", "bits_per_byte") if m in reported]]
    return list(dict.fromkeys(m for m in [*metrics_in_order, "learning_rate"] if m in reported))
