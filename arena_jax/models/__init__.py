"""Flax NNX BERT, RoBERTa and GPT-2: one transformer, one configuration, Hugging Face folders in and out."""

from arena_jax.models.config import TASKS, TransformerConfig
from arena_jax.models.create import create
from arena_jax.models.presets import PRESETS, preset
from arena_jax.models.transformer import Transformer, merge, split

__all__ = ["TASKS", "PRESETS", "Transformer", "TransformerConfig", "create", "merge", "preset", "split"]
