"""Documents packed into rows of one length, with the bytes of text behind each row's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import Dataset
from arena_jax.data.encoded import Encoded, Ragged, token_columns
from arena_jax.data.tokenizer import Tokenizer, encodings


def encode_language(
    data: Dataset, tokenizer: Tokenizer, *, task: str, max_length: int, token_types: int | None = None
) -> Encoded:
    """Pack documents into rows: one stream of tokens, a separator after each document, cut into rows.

    causal-lm: the stream starts with a start token and neighbouring rows share one token, so that every token
    but the start token is predicted exactly once: row k holds tokens k(L−1) to k(L−1)+L−1.
    masked-lm: each row is the start token, L−2 tokens of the stream, and a separator.

    Each byte of the corpus belongs to one token: a token owns the text from the end of the token before it to
    its own end, and a document's separator owns what is left. So the sum of "bytes" over the rows is the
    corpus' length in UTF-8, and loss in nats / (bytes · ln 2) is bits per byte. For masked-lm this is a pseudo
    measure (the mean loss of a masked token times the tokens, per byte): it compares runs, not models of text.

    Args:
        data: column "text", one document each.
        tokenizer: of the model.
        task: "causal-lm" or "masked-lm".
        max_length: L, tokens per row, special tokens included.
        token_types: as `encode` takes it.

    Returns:
        Rows with "input_ids", "bytes" (rows,) float32 and, for masked-lm, "special_tokens_mask". Only the last
        row may be shorter than L; nothing is cut.

    Raises:
        ArenaError: the tokenizer has no mask or separator token, or L is too small.
    """
    separator = tokenizer.separator_id
    masked = task == "masked-lm"
    if masked and tokenizer.mask_id is None:
        raise ArenaError(f"tokenizer {tokenizer.name} has no mask token, which masked-lm needs; use causal-lm")
    if separator is None:
        raise ArenaError(f"tokenizer {tokenizer.name} has neither an end-of-text nor a separator token")
    start = next((i for i in (tokenizer.bos_id, tokenizer.cls_id) if i is not None), separator)
    if max_length < (3 if masked else 2):
        raise ArenaError(f"max_length={max_length} leaves no token to predict for {task}; give 8 or more")

    stream, sizes, unknown = _stream(data.columns["text"], tokenizer, separator)
    if masked:
        width = max_length - 2
        rows = [np.concatenate([[start], stream[at : at + width], [separator]]) for at in range(0, len(stream), width)]
        row_bytes = [sizes[at : at + width].sum() for at in range(0, len(stream), width)]
    else:
        width = max_length - 1
        stream = np.concatenate([[start], stream])
        rows = [stream[at : at + max_length] for at in range(0, len(stream) - 1, width)]
        row_bytes = [sizes[at : at + width].sum() for at in range(0, len(stream) - 1, width)]

    tokens, fill = token_columns(tokenizer, rows, token_types=token_types)
    if masked:
        ids = tokens["input_ids"]
        special = np.isin(ids.values, sorted(tokenizer.special_ids)).astype(np.int32)
        tokens["special_tokens_mask"] = Ragged(special, ids.offsets)
        fill["special_tokens_mask"] = 1
    counts = {"examples": len(data), "bytes": int(sizes.sum()), "stream_tokens": len(stream), "unknown": unknown}
    notes = [f"{len(data):,} documents, {counts['bytes']:,} bytes, {counts['bytes'] / len(stream):.2f} bytes per token"]
    if unknown:
        notes.append(f"{unknown:,} tokens are unknown to the tokenizer; bits per byte leave their spelling out")
    return Encoded(
        task=task,
        source=data,
        tokens=tokens,
        columns={"bytes": np.asarray(row_bytes, np.float32)},
        fill=fill,
        lengths=(max_length,),
        counts=counts,
        notes=tuple(notes),
    )


def _stream(texts: Sequence[str], tokenizer: Tokenizer, separator: int) -> tuple[np.ndarray, np.ndarray, int]:
    """All documents as (tokens, bytes that each token owns, unknown tokens), a separator after each document."""
    tokens, sizes, unknown = [], [], 0
    for text, encoding in zip(texts, encodings(tokenizer.configured(), texts, add_special_tokens=False), strict=True):
        # Byte position of each character: a code point takes 1 to 4 bytes in UTF-8.
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        position = np.zeros(len(points) + 1, np.int64)
        np.cumsum(1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000), out=position[1:])
        ends = np.asarray([end for _, end in encoding.offsets], np.int64)
        # Several byte-level tokens may spell one character: the first of them owns it.
        ends = np.maximum.accumulate(ends) if len(ends) else ends
        bounds = np.concatenate([[0], position[ends], position[-1:]])
        ids = np.asarray(encoding.ids, np.int32)
        if tokenizer.unk_id is not None and tokenizer.unk_id != separator:
            unknown += int((ids == tokenizer.unk_id).sum())
        tokens += [ids, np.asarray([separator], np.int32)]
        sizes.append(np.diff(bounds))
    return np.concatenate(tokens), np.concatenate(sizes), unknown
