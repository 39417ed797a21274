"""The evaluations of a run: the last one, the best one, and how many have come since without a better score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES, of_models


class Evaluations:
    """What a run remembers of its evaluations.

    Args:
        metric: of `arena_jax.config.scores.SCORES`; its mean over the models is the score, where none is handed over.
        limit: evaluations in a row without a better score after which the run is over; None: it never is.
        state: from :meth:`state` of an interrupted run.

    Attributes:
        last: ``{model: {metric: value}}`` of the last evaluation; empty before the first.
        best_step: step of the best one; None before the first whose score is a number.
        without_gain: evaluations in a row, up to the last, without a better score.

    Example:
        >>> evaluations = Evaluations("accuracy", limit=2)
        >>> for step, accuracy in enumerate((0.5, 0.75, 0.75, math.nan), start=1):
        ...     _ = evaluations.add(step, {"bert": {"accuracy": accuracy}})
        >>> evaluations.best_step, evaluations.without_gain, evaluations.over
        (2, 2, True)
    """

    def __init__(self, metric: str, limit: int | None = None, state: Mapping[str, Any] | None = None) -> None:
        self._metric, self._limit = metric, limit
        before: Mapping[str, Any] = state or {}
        self.last: dict[str, dict[str, float]] = {name: dict(of) for name, of in before.get("last", {}).items()}
        self._score: float | None = before.get("score")
        self._best: float | None = before.get("best")
        self.best_step: int | None = before.get("best_step")
        self.without_gain: int = before.get("without_gain", 0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "last": self.last,
            "score": self._score,
            "best": self._best,
            "best_step": self.best_step,
            "without_gain": self.without_gain,
        }

    def add(self, step: int, scores: Mapping[str, Mapping[str, float]], score: float | None = None) -> float:
        """Take note of an evaluation.

        Args:
            step: steps (of a competition: rounds) taken.
            scores: ``{model: {metric: value}}``.
            score: what they are worth together, in the metric's unit; their mean if None.

        Returns:
            The score; NaN where that of a model is none.

        Raises:
            ArenaError: a model has no such metric.
        """
        for name, metrics in scores.items():
            if self._metric not in metrics:
                raise ArenaError(
                    f"training.score is {self._metric}, and {name} has none: it has {', '.join(metrics)}; give one of"
                    " these with --score"
                )
        self.last = {name: dict(metrics) for name, metrics in scores.items()}
        score = self._score = of_models(scores, self._metric, "mean") if score is None else score
        if math.isfinite(score) and (self._best is None or SCORES[self._metric].sign * (score - self._best) > 0):
            self._best, self.best_step, self.without_gain = score, step, 0
        else:
            self.without_gain += 1
        return score

    @property
    def cost(self) -> float | None:
        """The last score, turned so that less is better; None before the first evaluation."""
        if not self.last:
            return None
        score = of_models(self.last, self._metric, "mean") if self._score is None else self._score
        return -SCORES[self._metric].sign * score

    @property
    def over(self) -> bool:
        """Whether as many evaluations as may be have brought no better score."""
        return self._limit is not None and self.without_gain >= self._limit
