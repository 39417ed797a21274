"""What each model has cost so far: steps, examples, tokens, text, arithmetic and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Account:
    """One model's account.

    Attributes:
        steps: optimizer steps.
        examples: rows it was trained on.
        tokens: tokens computed, padding included.
        padding: those of them that were padding.
        text_bytes: UTF-8 bytes of the text whose tokens it predicted, where the data say.
        flops: operations of the matrix products of its gradients, see `arena_jax.models.training_flops`, and of its
            evaluations, a race's scores and pruning's included; updates, which are no products, are not charged.
        seconds: device-seconds of its gradients, of its part of the updates, and of its evaluations. One step of each
            round is timed and stands for the round's others; `arena_jax.arena.step_times` takes the hiccups out.
        evaluation_flops: of the flops, those of the run's evaluations, of which neither races nor pruning are part.
        evaluation_seconds: of the seconds, those of the same.
    """

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    padding: int = 0
    text_bytes: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    evaluation_flops: float = 0.0
    evaluation_seconds: float = 0.0

    def count_step(self, batch: Mapping[str, np.ndarray], flops: float) -> None:
        """Count one optimizer step.

        Args:
            batch: all its rows, arrays (B, …).
            flops: operations per row, at the batch's length.

        Example:
            >>> account = Account()
            >>> account.count_step({"attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])}, 1000.0)
            >>> account.examples, account.tokens, account.padding, account.flops
            (2, 8, 2, 2000.0)
        """
        mask = batch["attention_mask"]
        self.steps += 1
        self.examples += mask.shape[0]
        self.tokens += mask.size
        self.padding += int(mask.size - mask.sum())
        self.text_bytes += float(batch["bytes"].sum()) if "bytes" in batch else 0.0
        self.flops += flops * mask.shape[0]

    def count_evaluation(self, flops: float, seconds: float) -> None:
        """Charge one evaluation.

        Args:
            flops: its operations.
            seconds: its device-seconds.
        """
        self.count_other(flops, seconds)
        self.evaluation_flops += flops
        self.evaluation_seconds += seconds

    def count_other(self, flops: float, seconds: float) -> None:
        """Charge what is neither a step nor an evaluation: a race's scores, and what pruning looks at.

        Args:
            flops: its operations.
            seconds: its device-seconds.
        """
        self.flops += flops
        self.seconds += seconds

    def to_json(self) -> dict[str, Any]:
        """The account as JSON holds it; ``Account(**fields)`` reads it back."""
        return dataclasses.asdict(self)
