"""What happened between two printed lines: sums over steps, and the seconds that were training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

# What a step that was skipped must not spoil.
_OF_THE_STEP = ("loss_sum", "count", "correct", "gradient_norm", "divergence_sum", "divergence_count")


class MetricWindow:
    """Sums of steps' metrics until the next line.

    The metrics of a step are read when the next step has been started, so that reading never makes the device wait.
    Seconds spent compiling or evaluating are not counted as training.

    Args:
        state: from :meth:`state` of an interrupted run, so that a resumed one prints the same line.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, dict[str, float]] = {name: dict(s) for name, s in (state or {}).get("sums", {}).items()}
        self._steps = int((state or {}).get("steps", 0))
        self._waiting: Any = None
        self._rows: dict[str, int] = {}
        self._seconds = 0.0
        self._since: float = time.perf_counter()
        self._histograms: dict[str, Any] = {}
        self._skipped: list[dict[str, bool]] = []

    def skipped(self) -> list[dict[str, bool]]:
        """Per step read since this was last asked: ``{model that took part: whether it was skipped}``."""
        skipped, self._skipped = self._skipped, []
        return skipped

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of an unfinished window; call :meth:`flush` before."""
        return {"sums": {name: dict(sums) for name, sums in self._sums.items()}, "steps": self._steps}

    def add(self, metrics: Any, *, rows: int | Mapping[str, int], compiled: Sequence[Any] = ()) -> None:
        """Take a step's metrics, which may still be being computed.

        Args:
            metrics: ``{model: {metric: scalar}}`` of the models that took part.
            rows: examples of each of them, or ``{model: examples}``.
            compiled: what was compiled meanwhile; its seconds are not training.
        """
        self._read()
        self._waiting = metrics
        for name in metrics:
            self._rows[name] = self._rows.get(name, 0) + (rows[name] if isinstance(rows, Mapping) else rows)
        self._seconds -= sum(program.seconds for program in compiled)

    def flush(self) -> None:
        """Wait for the last step's metrics."""
        self._read()

    def pause(self) -> None:
        """Stop the clock; the device is made to finish first."""
        self._read()
        self._seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()

    def summary(self) -> dict[str, Any]:
        """Summarise what happened since the last summary, and begin anew.

        Returns:
            ``models``: ``{name: {"loss", "learning_rate", "gradient_norm", "examples_per_second", …}}``, means over its
            steps, the loss weighted by what each step's was averaged over; ``skipped`` counts the steps a model sat out
            because its loss or gradient was not finite. ``seconds`` of training. ``steps``. ``histograms``:
            ``{name: {"gradients" and "weights": {part: histogram}}}`` of the last step that has some.
        """
        self._read()
        self._seconds += time.perf_counter() - self._since
        models = {}
        for name, sums in self._sums.items():
            count = max(sums["count"], 1.0)
            steps = max(sums["steps"], 1.0)
            models[name] = {
                "loss": sums["loss_sum"] / count,
                **({"accuracy": sums["correct"] / count} if "correct" in sums else {}),
                **_divergence(sums),
                "learning_rate": sums["learning_rate"] / steps,
                "gradient_norm": sums["gradient_norm"] / steps,
                "examples_per_second": self._rows.get(name, 0) / max(self._seconds, 1e-9),
                "skipped": int(sums["skipped"]),
            }
        result = {"models": models, "seconds": self._seconds, "steps": self._steps}
        if self._histograms:
            result["histograms"], self._histograms = self._histograms, {}
        self._sums, self._steps, self._rows, self._seconds = {}, 0, {}, 0.0
        self._since = time.perf_counter()
        return result

    def _read(self) -> None:
        if self._waiting is None:
            return
        read = jax.device_get(self._waiting)
        self._skipped.append({name: bool(values["skipped"]) for name, values in read.items()})
        for name, values in read.items():
            histograms = values.pop("histograms", {})
            if any(part["counts"].any() for part in histograms.get("weights", {}).values()):
                self._histograms[name] = jax.tree.map(lambda leaf: leaf.tolist(), histograms)
            sums = self._sums.setdefault(name, {})
            # A step that a model sat out counts as skipped and spoils no mean.
            skipped = bool(values["skipped"])
            sums["steps"] = sums.get("steps", 0.0) + 1
            for key, value in values.items():
                counted = 0.0 if skipped and key in _OF_THE_STEP else float(value)
                sums[key] = sums.get(key, 0.0) + counted
        self._steps += 1
        self._waiting = None


def _divergence(sums: Mapping[str, float]) -> dict[str, float]:
    """How far a student was from its teachers, over the steps in which it had some."""
    if "divergence_sum" not in sums:
        return {}
    return {"divergence": sums["divergence_sum"] / max(sums["divergence_count"], 1.0)}
