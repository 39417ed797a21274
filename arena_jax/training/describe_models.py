"""What a run's first record says of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_jax import models
from arena_jax.training.build import Parts


def describe_models(parts: Parts, starts: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """What the first record says of each model; ``starts`` says what those with one began with."""
    descriptions = {}
    for name, model in parts.models.items():
        _, params = models.split(model)
        count = models.count_parameters(params)
        shape = model.config
        size = f"{shape.num_layers} layers × {shape.hidden_size}, {shape.num_heads} heads"
        descriptions[name] = {
            "family": shape.family,
            "task": model.task,
            "size": f"{shape.family}, {size}",
            "parameters": count,
            "vocabulary": f"{shape.vocab_size:,} tokens",
            "left_out": list(parts.tokenizers[name].left_out),
            **({"start": starts[name]} if starts and name in starts else {}),
        }
    return descriptions
