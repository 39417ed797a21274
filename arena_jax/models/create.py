"""New models with the initial weights that transformers would draw."""

from __future__ import annotations

from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig
from arena_jax.models.initialize import initialize
from arena_jax.models.presets import preset
from arena_jax.models.transformer import Transformer


def create(config: TransformerConfig | str | Any, task: str, seed: int = 0) -> Transformer:
    """A new model with random weights, the same for the same seed.

    Kernels and embeddings are normal with standard deviation ``initializer_range`` (GPT-2's residual outputs
    divided by sqrt(2 · blocks)), biases 0, norm scales 1, the padding row 0 where transformers zeroes it.

    Args:
        config: a configuration, the name of a preset, or a transformers configuration object.
        task: what the model predicts; one of ``config.TASKS``.
        seed: whole number.

    Returns:
        The model.

    Raises:
        ArenaError: unknown preset or task, or a task this family does not have.

    Example:
        >>> create("gpt2-tiny", task="causal-lm", seed=1).config.family
        'gpt2'
    """
    return initialize(as_config(config), task, seed)


def as_config(config: TransformerConfig | str | Any) -> TransformerConfig:
    """A configuration from itself, a preset's name, or a transformers configuration object."""
    if isinstance(config, TransformerConfig):
        return config
    if isinstance(config, str):
        return preset(config)
    if hasattr(config, "to_dict") and hasattr(config, "model_type"):
        from arena_jax.models.huggingface.config import config_from_hf

        return config_from_hf(config)
    raise ArenaError(f"a model configuration, preset name or transformers configuration is needed, not {config!r}")
