"""Sentences as words, with one tag per word: the first piece of a word carries its tag."""

from __future__ import annotations

from collections.abc import Sequence

from arena_jax.data.dataset import TAGGING, Dataset
from arena_jax.data.encoded import Encoded, Ragged, padded_lengths, token_columns
from arena_jax.data.tokenizer import Tokenizer, encodings

IGNORED = -100  # the label of what is not scored, as in PyTorch's loss and transformers' collators


def encode_tagging(
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    lengths: Sequence[int] | None = None,
    token_types: int | None = None,
) -> Encoded:
    """Tokenise words and align their tags; later pieces of a word and special tokens get -100.

    Args:
        data: columns "words" and "labels".
        tokenizer: of the model; a byte-level one puts a space before each word.
        max_length: tokens per row at most, special tokens included.
        lengths: allowed padded lengths; None chooses one.
        token_types: as `encode` takes it.

    Returns:
        Rows with "input_ids" (and "token_type_ids" where the family has them) and per-token "labels".
    """
    ids, types, tags = [], [], []
    cut_rows = cut_words = lost_words = 0
    for words, labels, encoding in zip(
        data.columns["words"],
        data.columns["labels"],
        encodings(tokenizer.configured(max_length, words=True), data.columns["words"], is_pretokenized=True),
        strict=True,
    ):
        row, before = [], None
        for word in encoding.word_ids:
            row.append(IGNORED if word is None or word == before else labels[word])
            before = word
        words_encoded = {word for word in encoding.word_ids if word is not None}
        cut = {word for part in encoding.overflowing for word in part.word_ids if word is not None} - words_encoded
        cut_rows += bool(encoding.overflowing)
        cut_words += len(cut)
        lost_words += len(words) - len(words_encoded) - len(cut)
        kinds, pieces = encoding.type_ids, encoding.ids
        if not pieces:
            pieces, kinds, row = [tokenizer.stand_in_id], [0], [IGNORED]
        ids.append(pieces)
        types.append(kinds)
        tags.append(row)
    tokens, fill = token_columns(tokenizer, ids, types, token_types)
    tokens["labels"], fill["labels"] = Ragged.of(tags), IGNORED
    notes = []
    if cut_rows:
        notes.append(
            f"{cut_rows:,} of {len(data):,} sentences cut to {max_length} tokens "
            f"({cut_words:,} words left out and not scored)"
        )
    if lost_words:
        notes.append(f"{lost_words:,} words give no token in this tokenizer and are not scored")
    return Encoded(
        task=TAGGING,
        source=data,
        tokens=tokens,
        columns={},
        fill=fill,
        lengths=padded_lengths(tokens["input_ids"].lengths, max_length, lengths),
        counts={"examples": len(data), "truncated": cut_rows, "cut_words": cut_words, "lost_words": lost_words},
        notes=tuple(notes),
    )
