"""Which tokens of two tokenizers stand for the same text, whatever way each of them spells it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

# Special tokens that play one role: what BERT and RoBERTa call them. GPT-2's <|endoftext|> matches its own name alone.
_ROLES = {
    "<pad>": "[PAD]",
    "<unk>": "[UNK]",
    "<s>": "[CLS]",
    "</s>": "[SEP]",
    "<mask>": "[MASK]",
}
_SPECIAL = frozenset({*_ROLES, *_ROLES.values(), "<|endoftext|>"})


class Spelling(NamedTuple):
    """What a token stands for.

    Attributes:
        text: its text as bytes; a byte-level token may hold a part of a letter.
        begins_word: whether a blank stands before it.
        special: whether it stands for no text.
    """

    text: bytes
    begins_word: bool
    special: bool = False


class Matches(NamedTuple):
    """Tokens of two tables that belong together.

    Attributes:
        source: (matches,) int64 ids in the source's table.
        target: (matches,) int64 ids in the target's table, ascending, each once.
        kinds: how many were matched how: "same text", "other capitals", "other blank", and "other capitals and blank".
    """

    source: np.ndarray
    target: np.ndarray
    kinds: dict[str, int]


def spelling_of(tokens: Mapping[str, int]) -> str:
    """How a tokenizer spells: "byte-level" (Ġ before a word), "metaspace" (▁ before it) or "wordpiece" (## inside it).

    Example:
        >>> spelling_of({"Ġthe": 0, "ing": 1}), spelling_of({"the": 0, "##ing": 1})
        ('byte-level', 'wordpiece')
    """
    counts = {
        "byte-level": sum(token.startswith("Ġ") for token in tokens),
        "metaspace": sum(token.startswith("▁") for token in tokens),
        "wordpiece": sum(token.startswith("##") and len(token) > 2 for token in tokens),
    }
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "wordpiece"


def read_token(token: str, spelling: str) -> Spelling:
    """What a token stands for.

    Args:
        token: as its tokenizer writes it.
        spelling: from :func:`spelling_of`.

    Example:
        >>> read_token("Ġthe", "byte-level") == read_token("the", "wordpiece")
        True
        >>> read_token("ing", "byte-level") == read_token("##ing", "wordpiece")
        True
    """
    if token in _SPECIAL:
        return Spelling(_ROLES.get(token, token).encode(), False, True)
    if spelling == "byte-level":
        letters = _bytes_of_letters()
        if all(letter in letters for letter in token):
            text = bytes(letters[letter] for letter in token)
        else:  # an added token, written as it is
            text = token.encode("utf-8", "surrogatepass")
        return Spelling(text[1:], True) if text[:1] == b" " and len(text) > 1 else Spelling(text, False)
    if spelling == "metaspace":
        begins, word = token.startswith("▁") and len(token) > 1, token.removeprefix("▁") or token
    else:
        inside = token.startswith("##") and len(token) > 2
        word = token[2:] if inside else token
        # WordPiece sets every mark apart, whether a blank was there or not; in a text it mostly follows without one.
        begins = not inside and any(letter.isalnum() for letter in word)
    return Spelling(word.encode("utf-8", "surrogatepass"), begins)


@functools.cache
def _bytes_of_letters() -> dict[str, int]:
    """The letter that stands for each byte in GPT-2's vocabulary, the other way round (GPT-2, encoder.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in set(plain)]
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}


def match_tokens(source_tokens: Mapping[str, int], target_tokens: Mapping[str, int]) -> Matches:
    """For each token of the target the one of the source that stands for the same text.

    Two tables of one spelling are matched by the tokens themselves first. Else, and where a token is not there, its
    text decides: with the same blank before it and the same capitals, then with other capitals, then with or without
    the blank. Special tokens match by what they do ([CLS] is <s>, [SEP] is </s>, …), and nothing else.

    Args:
        source_tokens: ``{token: id}``.
        target_tokens: ``{token: id}``.

    Returns:
        The ids on both sides, and how many were matched how.

    Example:
        >>> matches = match_tokens({"Ġthe": 7, "The": 3, "ing": 2}, {"the": 0, "##ing": 1, "[CLS]": 2})
        >>> matches.source.tolist(), matches.target.tolist(), matches.kinds["same text"]
        ([7, 2], [0, 1], 2)
    """
    spellings = [spelling_of(tokens) for tokens in (source_tokens, target_tokens)]
    same_spelling = spellings[0] == spellings[1]
    by_key: dict[tuple[object, ...], int] = {}
    for token, number in sorted(source_tokens.items(), key=lambda item: item[1]):
        for _, key in _keys(read_token(token, spellings[0])):
            by_key.setdefault(key, number)  # the smaller id is the more frequent token
    pairs: list[tuple[int, int]] = []
    kinds = {"same text": 0, "other capitals": 0, "other blank": 0, "other capitals and blank": 0}
    for token, number in sorted(target_tokens.items(), key=lambda item: item[1]):
        if same_spelling and token in source_tokens:
            pairs.append((source_tokens[token], number))
            kinds["same text"] += 1
            continue
        for kind, key in _keys(read_token(token, spellings[1])):
            if key in by_key:
                pairs.append((by_key[key], number))
                kinds[kind] += 1
                break
    array = np.asarray(pairs, np.int64).reshape(-1, 2)
    return Matches(array[:, 0], array[:, 1], kinds)


def _keys(spelling: Spelling) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What a token can be matched by, the closest first."""
    text, begins, special = spelling
    yield "same text", ("exact", text, begins, special)
    if special:
        return
    folded = text.decode("utf-8", "surrogateescape").casefold()
    yield "other capitals", ("folded", folded, begins)
    yield "other blank", ("exact, any blank", text)
    yield "other capitals and blank", ("folded, any blank", folded)
