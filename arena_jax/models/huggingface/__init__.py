"""Hugging Face folders in and out: their configurations, one table of rules per family, reading and writing."""

from arena_jax.models.huggingface.config import config_from_hf, config_to_hf
from arena_jax.models.huggingface.load import facts, from_pretrained, has_head, read_config
from arena_jax.models.huggingface.save import save_pretrained

__all__ = ["config_from_hf", "config_to_hf", "facts", "from_pretrained", "has_head", "read_config", "save_pretrained"]
