"""An ensemble told in lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.runs.columns import columns

_WORDS = {
    "accuracy": "accuracy %",
    "loss": "nats",
    "calibration_error": "calibration error %",
    "entity_f1": "entity F1 %",
}
_PERCENT = ("accuracy", "calibration_error", "entity_f1")


def ensemble_lines(result: Mapping[str, Any]) -> list[str]:
    """A table of the models and their ensemble, and what each model adds to it.

    Args:
        result: the fields of `arena_jax.training.ensemble.Ensemble`.

    Returns:
        Lines of text.

    Example:
        >>> scores = {"loss": (0.5, 0.4, 0.6)}
        >>> result = {"split": "test", "fitted_on": "validation", "items": 9, "rows": 9, "temperature": None,
        ...           "weights": {"a": 0.5, "b": 0.5}, "scores": {"a": scores, "b": scores, "ensemble": scores},
        ...           "adds": {"a": {"loss": (0.1, -0.1, 0.3)}, "b": {"loss": (0.0, -0.1, 0.1)}}}
        >>> print(*ensemble_lines(result)[:3], sep="\\n")
          model     weight                  nats                  adds, nats
          ────────  ──────  ────────────────────  ──────────────────────────
          a           0.50  0.500 [0.400, 0.600]  +0.1000 [-0.1000, +0.3000]
    """
    metrics = list(result["scores"]["ensemble"])
    added = list(next(iter(result["adds"].values())))
    heading = ["model", "weight", *(_WORDS[metric] for metric in metrics), *(f"adds, {_unit(m)}" for m in added)]
    rows = [heading]
    for name, scores in result["scores"].items():
        weight = f"{result['weights'][name]:.2f}" if name in result["weights"] else ""
        adds = [_difference(result["adds"][name][m], m) if name in result["adds"] else "" for m in added]
        rows.append([name, weight, *(_score(scores[metric], metric) for metric in metrics), *adds])
    left_out = [f"left out, diverged: {', '.join(result['left_out'])}"] if result.get("left_out") else []
    temperature = "" if result["temperature"] is None else f", temperature {result['temperature']:.3g}"
    return [
        *columns(rows, right=range(1, len(heading)), rule=True),
        "",
        *left_out,
        f"{result['items']:,} predictions in {result['rows']:,} texts of {result['split']}; weights{temperature} fitted"
        f" on {result['fitted_on']}; 95 % intervals by resampling texts; adds: against one without the model",
    ]


def _unit(metric: str) -> str:
    return "points" if metric in _PERCENT else "nats"


def _score(score: Sequence[float], metric: str) -> str:
    value, low, high = (100 * x if metric in _PERCENT else x for x in score)
    digits = 1 if metric in _PERCENT else 3
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(score: Sequence[float], metric: str) -> str:
    value, low, high = (100 * x if metric in _PERCENT else x for x in score)
    digits = 2 if metric in _PERCENT else 4
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
