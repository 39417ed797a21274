"""Flax NNX BERT, RoBERTa and GPT-2: one transformer, one configuration, Hugging Face folders in and out."""

from arena_jax.models.config import TASKS, TransformerConfig
from arena_jax.models.count_parameters import count_parameters
from arena_jax.models.create import create
from arena_jax.models.flops import forward_flops, row_flops, training_flops
from arena_jax.models.gated import Gated
from arena_jax.models.gates import Gates
from arena_jax.models.generate import generate
from arena_jax.models.hand_down import hand_down
from arena_jax.models.huggingface.config import config_from_hf, config_to_hf
from arena_jax.models.huggingface.load import facts, from_pretrained, has_head, read_config
from arena_jax.models.huggingface.save import save_pretrained
from arena_jax.models.initialize import abstract
from arena_jax.models.presets import HUB_SIZES, PRESETS, preset
from arena_jax.models.transformer import Transformer, merge, split

__all__ = [
    "TransformerConfig",
    "TASKS",
    "PRESETS",
    "HUB_SIZES",
    "preset",
    "Transformer",
    "create",
    "abstract",
    "split",
    "merge",
    "count_parameters",
    "hand_down",
    "Gates",
    "Gated",
    "facts",
    "from_pretrained",
    "has_head",
    "read_config",
    "save_pretrained",
    "config_from_hf",
    "config_to_hf",
    "generate",
    "forward_flops",
    "row_flops",
    "training_flops",
]
