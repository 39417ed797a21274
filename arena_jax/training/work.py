"""What steps compute between two printed lines: tokens, and operations as a part of what the devices can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arena_jax import models
from arena_jax.training.objectives import head_positions


class Work:
    """Counts until the next line; a count belongs to one process, and all have as many rows.

    Args:
        networks: ``{name: model}``.
        peak: operations per second of all devices; None where nobody knows.
    """

    def __init__(self, networks: Mapping[str, models.Transformer], peak: float | None) -> None:
        self._shapes: dict[str, tuple[models.TransformerConfig, str]] = {}
        self.follow(networks)
        self._peak = peak
        self._tokens = self._flops = 0.0

    def follow(self, networks: Mapping[str, models.Transformer]) -> None:
        """Count from now on by the shapes that models have now."""
        self._shapes = {name: (model.config.replace(remat="none"), model.task) for name, model in networks.items()}

    def add(self, batches: Mapping[str, Mapping[str, Any]]) -> None:
        """Count a step.

        Args:
            batches: ``{model: {name: array (B, …)}}``, with ``attention_mask`` (B, L).
        """
        for name, batch in batches.items():
            rows, length = batch["attention_mask"].shape
            config, task = self._shapes[name]
            self._tokens += float(np.sum(batch["attention_mask"])) * jax.process_count()
            # Padding is computed as all else is. What remat computes again is no work of the model's.
            row_flops = models.training_flops(config, task, length, head_positions(task, length))
            self._flops += rows * row_flops * jax.process_count()

    def summary(self, seconds: float) -> dict[str, float]:
        """Summarise since the last summary, and begin anew.

        Args:
            seconds: of training.

        Returns:
            ``tokens_per_second``, of all models and without padding; where the peak is known, ``peak`` (operations per
            second) and ``mfu``, the part of it that matrix products of the models took, forward and backward.

        Example:
            >>> network = models.create("gpt2-tiny", task="causal-lm")
            >>> work = Work({"gpt2": network}, peak=1e9)
            >>> work.add({"gpt2": {"attention_mask": np.ones((4, 16), np.int32)}})
            >>> work.summary(seconds=2.0)["tokens_per_second"]
            32.0
        """
        tokens, flops = self._tokens / max(seconds, 1e-9), self._flops / max(seconds, 1e-9)
        self._tokens = self._flops = 0.0
        shares = {} if self._peak is None else {"mfu": flops / self._peak, "peak": self._peak}
        return {"tokens_per_second": tokens, **shares}
