"""The losses of the five tasks in full precision.

``transformers`` computes them too, but casts a causal language model's logits to float32 first, which alone is 1e-8
away from the exact value. These are the same formulas; ``test_reference.py`` holds them against ``transformers``' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

IGNORED = -100


def loss(task: str, output: Any, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean loss over what is labelled.

    Args:
        task: one of the five.
        output: what the model returned.
        labels: ``labels``, or ``start_positions`` and ``end_positions``.
    """
    if task == "question-answering":
        start = cross_entropy(output.start_logits, labels["start_positions"])
        end = cross_entropy(output.end_logits, labels["end_positions"])
        return (start + end) / 2
    logits, wanted = output.logits, labels["labels"]
    if task == "sequence-classification":
        return cross_entropy(logits, wanted)
    if task == "causal-lm":
        logits, wanted = logits[:, :-1], wanted[:, 1:]
    return cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
