"""A model seen through gates."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax import Array

from arena_jax.models.config import TransformerConfig
from arena_jax.models.gates import Gates
from arena_jax.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Gated:
    """A model seen through gates: it is called like the model, so that any objective takes it.

    Example:
        >>> import jax.numpy as jnp
        >>> from arena_jax import models
        >>> model = models.create("gpt2-tiny", task="causal-lm")
        >>> ids = jnp.ones((1, 3), jnp.int32)
        >>> bool((Gated(model, Gates(jnp.ones((2, 4)), jnp.ones((2, 4))))(ids) == model(ids)).all())
        True
    """

    model: Transformer
    gates: Gates | None

    @property
    def config(self) -> TransformerConfig:
        """Of the model."""
        return self.model.config

    @property
    def task(self) -> str:
        """Of the model."""
        return self.model.task

    def __call__(self, *inputs: Any, **options: Any) -> Array:
        """As the model's."""
        return self.model(*inputs, **options, gates=self.gates)

    def encode(self, *inputs: Any, **options: Any) -> Any:
        """As the model's."""
        return self.model.encode(*inputs, **options, gates=self.gates)

    def predict_tokens(self, hidden: Array) -> Array:
        """As the model's: the head has no gates."""
        return self.model.predict_tokens(hidden)

    def vocabulary_projection(self, hidden: Array) -> tuple[Array, Array, Array | None]:
        """As the model's: the head has no gates."""
        return self.model.vocabulary_projection(hidden)
