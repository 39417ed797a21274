"""The public sizes of the three families, and tiny ones, by name."""

from __future__ import annotations

from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.models.config import TransformerConfig

_BASE = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "intermediate_size": 4096}
_TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, "vocab_size": 256}

_BERT: dict[str, Any] = {"family": "bert", "vocab_size": 30522, "max_positions": 512}
_ROBERTA: dict[str, Any] = {
    "family": "roberta",
    "vocab_size": 50265,
    "max_positions": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GPT2: dict[str, Any] = {
    "family": "gpt2",
    "vocab_size": 50257,
    "max_positions": 1024,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}


def _gpt2(hidden_size: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    return _GPT2 | {
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "intermediate_size": 4 * hidden_size,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "bert-base": _BERT | _BASE,  # google-bert/bert-base-uncased
    "bert-large": _BERT | _LARGE,  # google-bert/bert-large-uncased
    "bert-tiny": _BERT | _TINY | {"max_positions": 128},
    "roberta-base": _ROBERTA | _BASE,  # FacebookAI/roberta-base
    "roberta-large": _ROBERTA | _LARGE,  # FacebookAI/roberta-large
    "roberta-tiny": _ROBERTA | _TINY | {"max_positions": 130},
    "gpt2": _gpt2(768, 12, 12),  # openai-community/gpt2
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    "gpt2-tiny": _GPT2 | _TINY | {"max_positions": 128, "bos_token_id": 0, "eos_token_id": 0},
}


# Public checkpoints whose sizes are those of a preset, by their id on the Hugging Face Hub.
HUB_SIZES: dict[str, str] = {
    "google-bert/bert-base-uncased": "bert-base",
    "google-bert/bert-large-uncased": "bert-large",
    "FacebookAI/roberta-base": "roberta-base",
    "FacebookAI/roberta-large": "roberta-large",
    "openai-community/gpt2": "gpt2",
    "openai-community/gpt2-medium": "gpt2-medium",
    "openai-community/gpt2-large": "gpt2-large",
    "openai-community/gpt2-xl": "gpt2-xl",
}


def preset(name: str, **overrides: Any) -> TransformerConfig:
    """The configuration of a named size.

    Args:
        name: one of ``PRESETS``; sizes are those of the checkpoints that made the names known.
        overrides: fields of :class:`TransformerConfig` to change.

    Returns:
        The configuration.

    Raises:
        ArenaError: unknown name or field, or a value that does not fit.

    Example:
        >>> preset("gpt2-medium").num_layers
        24
        >>> preset("bert-tiny", num_labels=5).num_labels
        5
        >>> preset("bert-tyni")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown model preset 'bert-tyni'; did you mean 'bert-tiny'?
    """
    if name not in PRESETS:
        raise ArenaError(f"unknown model preset {name!r}; {nearest(str(name), PRESETS)}")
    fields = {key: value for key, value in PRESETS[name].items() if key not in overrides}
    # Built without the overridden fields first, a preset would fail its own checks: sizes are checked together.
    return TransformerConfig(**fields, **_check_overrides(overrides))


def _check_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    names = TransformerConfig.__dataclass_fields__
    for name in overrides:
        if name not in names:
            raise ArenaError(f"unknown configuration field {name!r}; {nearest(name, names)}")
    if overrides.get("label_names") is not None:
        overrides.setdefault("num_labels", len(overrides["label_names"]))
    return overrides
