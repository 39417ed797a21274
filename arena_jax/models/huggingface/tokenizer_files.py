"""What the tokenizer files in a model's folder say of themselves, read without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.config.agreement import TokenizerFacts
from arena_jax.config.errors import ArenaError
from arena_jax.config.git_lfs import refuse_pointer
from arena_jax.models.huggingface.files import read_json

_ROLES = ("unk", "bos", "eos", "cls", "sep", "mask", "pad")


def tokenizer_facts(folder: Path) -> TokenizerFacts | None:
    """Vocabulary and special tokens of the tokenizer in a folder.

    Args:
        folder: of a model.

    Returns:
        The facts; None where the folder has no tokenizer, or one whose files cannot be read here (whoever loads the
        tokenizer will say so).

    Raises:
        ArenaError: a file is only a Git LFS pointer.
    """
    for name in ("tokenizer.json", "vocab.txt", "vocab.json"):
        refuse_pointer(folder / name)
    numbers = _vocabulary(folder)
    if not numbers:
        return None
    settings = _json(folder / "special_tokens_map.json") | _json(folder / "tokenizer_config.json")
    added = settings.get("added_tokens_decoder")
    if isinstance(added, Mapping):
        for number, token in added.items():
            # A number of thousands of digits is none that a token has, and none that Python reads.
            if isinstance(token, Mapping) and str(number).isdecimal() and len(str(number)) < 10:
                numbers[str(token.get("content"))] = int(number)
    special = {}
    for role in _ROLES:
        token = settings.get(f"{role}_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(token, str) and token in numbers:
            special[role] = numbers[token]
    side = settings.get("padding_side")
    return TokenizerFacts(
        name=str(folder),
        vocab_size=max(numbers.values()) + 1,
        pad_id=special.pop("pad", None),
        special=special,
        padding_side=side if side in ("left", "right") else "right",
    )


def _vocabulary(folder: Path) -> dict[str, int]:
    """Every token with its number."""
    numbers: dict[str, int] = {}
    whole = _json(folder / "tokenizer.json")
    model = whole.get("model")
    if isinstance(model, Mapping):
        words = model.get("vocab")
        if isinstance(words, Mapping):
            numbers = _counts(words)
        elif isinstance(words, list):
            numbers = {str(word[0]): i for i, word in enumerate(words) if isinstance(word, list) and word}
        added = whole.get("added_tokens")
        for token in added if isinstance(added, list) else []:
            if isinstance(token, Mapping):
                numbers |= _counts({str(token.get("content")): token.get("id")})
        return numbers
    if (folder / "vocab.json").is_file():
        numbers = _counts(_json(folder / "vocab.json"))
    elif (folder / "vocab.txt").is_file():
        try:
            lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return {}
        numbers = {word.rstrip("\r"): i for i, word in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    return numbers | _counts(_json(folder / "added_tokens.json"))


def _counts(words: Mapping[str, Any]) -> dict[str, int]:
    return {word: number for word, number in words.items() if type(number) is int and number >= 0}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except ArenaError:
        return {}
