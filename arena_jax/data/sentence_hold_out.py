"""Whole sentences held out of a set of sentences and their phrases, with no part of one left to learn from.

SST-2's training file holds the phrases of each sentence beside it. A row drawn at random leaves most of its words, with
their labels, in what is learnt from: such a score says little of new sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import held_out_rows

Words = tuple[str, ...]


def sentence_hold_out(texts: Sequence[str], fraction: float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Hold out whole sentences, and drop every row that is contained in one of them.

    A whole sentence is a text whose words, in a row, are no part of another text's. Words are what stands between white
    space, upper and lower case alike.

    Args:
        texts: sentences and phrases.
        fraction: of the whole sentences that is held out, in (0, 1).
        seed: of the choice.
        name: of the data set, for errors.

    Returns:
        The rows to learn from, and the rows held out, both in the order of the texts; a sentence that stands there
        twice is held out once. Phrases of what is held out are in neither.

    Raises:
        ArenaError: fewer than two whole sentences, or nothing left to learn from.

    Example:
        >>> texts = ["a fine film .", "fine film", "film", "dull plot", "a dull plot ,", "a long film ,"]
        >>> sentence_hold_out(texts, 0.3, 0, "mine")  # "dull plot" goes with the sentence that it is a part of
        ([0, 1, 2, 5], [4])
    """
    words = [tuple(text.casefold().split()) for text in texts]
    rows_of: dict[Words, list[int]] = {}
    for row, text in enumerate(words):
        rows_of.setdefault(text, []).append(row)
    starts = {text[:length] for text in rows_of for length in range(1, len(text) + 1)}
    contained = {part for text in rows_of for part in _parts(text, rows_of, starts) if part != text}
    whole = [text for text in rows_of if text and text not in contained]
    if len(whole) < 2:
        raise ArenaError(f"data set '{name}' has {len(whole)} whole sentence(s): nothing can be held out; give more")
    held_out = [whole[index] for index in held_out_rows(len(whole), fraction, seed, name)[1]]
    dropped = {part for text in held_out for part in _parts(text, rows_of, starts)}
    learnt = [row for row, text in enumerate(words) if text not in dropped]
    if not learnt:
        raise ArenaError(f"data set '{name}': every row is a part of what is held out; lower validation_fraction")
    return learnt, sorted(rows_of[text][0] for text in held_out)


def _parts(text: Words, rows_of: dict[Words, list[int]], starts: set[Words]) -> Iterator[Words]:
    """The texts that stand in a text, itself among them: from each word on, as far as any text begins so."""
    for first in range(len(text)):
        for end in range(first + 1, len(text) + 1):
            part = text[first:end]
            if part not in starts:
                break
            if part in rows_of:
                yield part
