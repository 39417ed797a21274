"""Whether the files of a tokenizer's folder are all there, and what in them is not applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arena_jax.config.errors import ArenaError
from arena_jax.config.git_lfs import refuse_pointer

if TYPE_CHECKING:
    import tokenizers

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "spm.model")


def check_files(folder: Path) -> None:
    """Refuse a folder without a vocabulary: the library would make an empty tokenizer of its family."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    for name in (*_VOCABULARIES, "merges.txt", "tokenizer_config.json"):
        if name in names:
            refuse_pointer(folder / name)
    vocabularies = [name for name in names if name in _VOCABULARIES or name.endswith(("-vocab.txt", "-vocab.json"))]
    if not vocabularies:
        raise ArenaError(
            f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt nor vocab.json with merges.txt; copy "
            "them there from where the model came from, or name a tokenizer (tokenizer=FOLDER or Hub id)"
        )
    if "vocab.json" in names and not names & {"tokenizer.json", "merges.txt"}:
        raise ArenaError(f"{folder} holds vocab.json without merges.txt: copy it there from where the model came from")


def check_vocabulary(backend: tokenizers.Tokenizer, special: Sequence[str], name: str) -> None:
    """Refuse a vocabulary of special tokens alone, or one whose tokens can never be put together."""
    words = backend.get_vocab(with_added_tokens=True).keys() - set(special)
    if not words:
        raise ArenaError(
            f"tokenizer '{name}' has no vocabulary beside its special tokens: its files are not complete; fetch "
            "tokenizer.json, or vocab.txt, or vocab.json with merges.txt"
        )
    if len(words) <= 512 or type(backend.model).__name__ != "BPE":
        return
    # Merges are told by the whole tokenizer alone, which takes a while to write and to read.
    if not json.loads(backend.to_str())["model"].get("merges"):
        raise ArenaError(
            f"tokenizer '{name}' has {len(words):,} tokens and no merges, so that most can never occur: "
            "fetch merges.txt or tokenizer.json again"
        )


def saved_settings(backend: tokenizers.Tokenizer) -> list[str]:
    """Truncation and padding that a tokenizer's file would apply, a line each."""
    notes = []
    if backend.truncation:
        length = backend.truncation.get("max_length")
        notes.append(f"its file would cut texts at {length} tokens: not applied, max_length of the data decides")
    if backend.padding:
        notes.append("its file would pad texts: not applied, batches are padded as a whole")
    return notes


def lost_capitals(backend: tokenizers.Tokenizer) -> list[str]:
    """A vocabulary with capitals behind a normaliser that removes them: half of it can never occur."""
    normalizer = backend.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return []
    special = {token.content for token in backend.get_added_tokens_decoder().values()}
    words = [word for word in backend.get_vocab(with_added_tokens=False) if word not in special and word[:1] != "["]
    capital = sum(word != word.lower() for word in words)
    if capital <= 0.02 * len(words):
        return []
    return [
        f"it makes texts lower-case, but {capital:,} of its {len(words):,} tokens have capitals: is it cased? "
        'then set "do_lower_case": false in tokenizer_config.json'
    ]
