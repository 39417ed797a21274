"""What each model has cost so far: steps, examples, tokens, text, arithmetic and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Spending:
    """One model's account.

    Attributes:
        steps: optimizer steps.
        examples: rows it was trained on.
        tokens: tokens computed, padding included.
        padding: those of them that were padding.
        text_bytes: UTF-8 bytes of the text whose tokens it predicted, where the data tell.
        flops: operations of the matrix products of its gradients, see `arena_jax.models.training_flops`; updates,
            which are no products, and evaluations are not charged.
        seconds: device-seconds of its gradients, and of its part of the updates. One step of each round is timed and
            stands for the round's others; `arena_jax.arena.pace` takes the hiccups out.
    """

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    padding: int = 0
    text_bytes: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def pay(self, batch: Mapping[str, np.ndarray], flops: float) -> None:
        """Count one optimizer step.

        Args:
            batch: all its rows, as the data give them.
            flops: operations per row, at the batch's length.

        Example:
            >>> spent = Spending()
            >>> spent.pay({"input_ids": np.ones((2, 4)), "attention_mask": np.array([[1] * 4, [1, 1, 0, 0]])}, 1000.0)
            >>> spent.examples, spent.tokens, spent.padding, spent.flops
            (2, 8, 2, 2000.0)
        """
        mask = batch["attention_mask"]
        self.steps += 1
        self.examples += mask.shape[0]
        self.tokens += mask.size
        self.padding += int(mask.size - mask.sum())
        self.text_bytes += float(batch["bytes"].sum()) if "bytes" in batch else 0.0
        self.flops += flops * mask.shape[0]

    def told(self) -> dict[str, Any]:
        """The account as JSON holds it; ``Spending(**told)`` reads it back."""
        return dataclasses.asdict(self)
