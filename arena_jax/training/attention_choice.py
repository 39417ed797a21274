"""Who computes attention: what `--attention auto` chooses for a model, and what a run says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.models import TransformerConfig
from arena_jax.models.chunked_attention import QUERIES

_SIXTEEN_BITS = ("bfloat16", "float16")
# Tokens of a row from which chunks take less memory on a CPU, and no more time (benchmarks/results/blocks.md).
_CHUNKS_PAY = 1024


def cudnn_obstacle(shape: TransformerConfig, config: RunConfig, device: Any) -> str | None:
    """What keeps cuDNN from computing a model's attention in a run; None: nothing.

    Args:
        shape: of the model.
        config: of the run.
        device: that computes, or is compiled for.

    Returns:
        A reason for people.

    Source: what `jax.nn.dot_product_attention` refuses (jax 0.10.2 to 0.12.0).

    Example:
        >>> from arena_jax.config import presets
        >>> cudnn_obstacle(models.preset("gpt2"), presets.joint_synthetic(), jax.devices("cpu")[0])
        'it needs an NVIDIA GPU'
    """
    capability = str(getattr(device, "compute_capability", "")).partition(".")[0]
    if device.platform not in ("gpu", "cuda") or not capability.isdigit():
        return "it needs an NVIDIA GPU"
    if int(capability) < 8:
        return f"it needs compute capability 8.0, and this GPU has {device.compute_capability}"
    if shape.compute_dtype not in _SIXTEEN_BITS:
        return f"it computes in 16 bits, and this run in {shape.compute_dtype}"
    widest = 256 if int(capability) >= 9 else 128
    if shape.head_size % 8 or shape.head_size > widest:
        return f"heads must be a multiple of 8 wide and at most {widest}, and these are {shape.head_size}"
    if shape.attention_dropout > 0:
        return f"it drops no attention weights, and attention_dropout is {shape.attention_dropout:g}"
    if config.data.documents == "packed" and config.data.max_length % 2:
        return f"with texts that share rows it needs an even length, and this is {config.data.max_length}"
    return None


def choose_attention(shape: TransformerConfig, config: RunConfig, device: Any) -> str:
    """Who computes a model's attention in a run: as the run says, and for "auto" cuDNN where it can, else XLA.

    On a CPU "auto" is in chunks where that saves memory at equal speed.

    Args:
        shape: of the model, as the run computes it.
        config: of the run.
        device: see :func:`cudnn_obstacle`.

    Returns:
        ``"xla"``, ``"chunked"`` or ``"cudnn"``.
    """
    attention = config.training.attention
    if attention != "auto":
        return attention
    if cudnn_obstacle(shape, config, device) is None:
        return "cudnn"
    return "chunked" if device.platform == "cpu" and config.data.max_length >= _CHUNKS_PAY else "xla"


def attention_facts(
    config: RunConfig, networks: Mapping[str, models.Transformer], device: Any = None
) -> list[tuple[str, str, str]]:
    """What a run's first record says of who computes attention: name, value, reason; nothing where it is the default.

    Args:
        config: of the run.
        networks: ``{name: model}``.
        device: that computes, or is compiled for; this process' first if not given.
    """
    if config.training.attention == "xla":
        return []
    device = jax.local_devices()[0] if device is None else device
    return [
        (f"attention of {name}", model.config.attention, _reason(model.config, config, device))
        for name, model in sorted(networks.items())
    ]


def _reason(shape: TransformerConfig, config: RunConfig, device: Any) -> str:
    if shape.attention == "chunked":
        pays = f"; from {_CHUNKS_PAY} tokens on that costs a CPU no time" if config.training.attention == "auto" else ""
        return f"the weights of {QUERIES} queries are in memory at a time{pays}"
    if shape.attention == "xla":
        return f"not cuDNN: {cudnn_obstacle(shape, config, device)}"
    if config.data.documents == "packed":
        return "cuDNN reads a mask of tokens by tokens, as texts share rows"
    return "cuDNN is told where padding begins, and reads no mask"
