"""Hugging Face folders in and out: their configurations, one table of rules per family, reading and writing."""

from arena_jax.models.huggingface.config import config_from_hf, config_to_hf
from arena_jax.models.huggingface.load import from_pretrained, read_config
from arena_jax.models.huggingface.save import save_pretrained

__all__ = ["config_from_hf", "config_to_hf", "from_pretrained", "read_config", "save_pretrained"]
