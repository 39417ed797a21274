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
        flops: 6·N·tokens, N all parameters: an estimate that leaves out attention's L² term and counts embeddings.
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

    def pay(self, batch: Mapping[str, np.ndarray], parameters: int) -> None:
        """Count one optimizer step.

        Args:
            batch: all its rows, as the data give them.
            parameters: of the model.

        Example:
            >>> spent = Spending()
            >>> spent.pay({"input_ids": np.ones((2, 4)), "attention_mask": np.array([[1] * 4, [1, 1, 0, 0]])}, 1000)
            >>> spent.examples, spent.tokens, spent.padding, spent.flops
            (2, 8, 2, 48000.0)
        """
        mask = batch["attention_mask"]
        self.steps += 1
        self.examples += mask.shape[0]
        self.tokens += mask.size
        self.padding += int(mask.size - mask.sum())
        self.text_bytes += float(batch["bytes"].sum()) if "bytes" in batch else 0.0
        self.flops += 6.0 * parameters * mask.size

    def told(self) -> dict[str, Any]:
        """The account as JSON holds it; ``Spending(**told)`` reads it back."""
        return dataclasses.asdict(self)
