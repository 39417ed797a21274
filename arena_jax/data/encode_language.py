"""Documents packed into rows of one length, with the bytes of text behind each row's tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import Dataset
from arena_jax.data.encode_stored import stored_columns, stored_tokens
from arena_jax.data.encoded import Encoded, Ragged, RowSource, language_columns
from arena_jax.data.stored_array import StoredArray
from arena_jax.data.stored_documents import Documents
from arena_jax.data.stored_rows import StoredRows
from arena_jax.data.token_stream import RowCutter, token_stream
from arena_jax.data.tokenizer import Tokenizer

_FIRST_DOCUMENTS = 64  # documents of a stream whose rows stand for it


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
    masked = task == "masked-lm"
    start, separator = ends_of(tokenizer, task, max_length)
    cutter = RowCutter(masked, start=start, separator=separator, length=max_length)
    texts, origin, stream = data.columns["text"], "", None
    if data.stream is not None:
        texts = texts[:_FIRST_DOCUMENTS]
        stream = RowSource(data.stream, tokenizer, separator, cutter.fresh(), token_types)
    tokens: Mapping[str, Ragged | StoredRows]
    columns: dict[str, np.ndarray | StoredArray]
    if isinstance(texts, Documents):
        stored, origin = stored_tokens(texts, tokenizer, cutter, separator, max_length)
        sizes, unknown, stream_tokens = map(stored.number, ("bytes", "unknown", "stream_tokens"))
        tokens, fill = stored_columns(stored, tokenizer, max_length, token_types, masked)
        columns = {"bytes": stored.array("bytes", "f", 1)}
    else:
        ids, token_bytes, unknown = token_stream(texts, tokenizer.configured(), separator, tokenizer.unk_id)
        sizes, stream_tokens = int(token_bytes.sum()), len(ids) + (not masked)
        rows, row_bytes = cutter.add(ids, token_bytes)
        last, last_bytes = cutter.finish()
        parts = [*rows, *([last] if len(last) else [])]
        tokens, fill = language_columns(tokenizer, parts, token_types, masked)
        columns = {"bytes": np.concatenate([row_bytes, last_bytes])}
    counts = {"examples": len(data), "bytes": sizes, "stream_tokens": stream_tokens, "unknown": unknown}
    first = "the first " if stream is not None else ""
    notes = [f"{first}{len(texts):,} documents, {sizes:,} bytes, {sizes / stream_tokens:.2f} bytes per token"]
    if unknown:
        notes.append(f"{unknown:,} tokens are unknown to the tokenizer; bits per byte leave their spelling out")
    if origin:
        notes.append(origin)
    return Encoded(
        task=task,
        source=data,
        tokens=tokens,
        columns=columns,
        fill=fill,
        lengths=(max_length,),
        counts=counts,
        notes=tuple(notes),
        stream=stream,
    )


def ends_of(tokenizer: Tokenizer, task: str, max_length: int) -> tuple[int, int]:
    """The tokens before and behind a text.

    Raises:
        ArenaError: the tokenizer has no mask or separator token, or rows are too short.
    """
    separator, masked = tokenizer.separator_id, task == "masked-lm"
    if masked and tokenizer.mask_id is None:
        raise ArenaError(f"tokenizer {tokenizer.name} has no mask token, which masked-lm needs; use causal-lm")
    if separator is None:
        raise ArenaError(f"tokenizer {tokenizer.name} has neither an end-of-text nor a separator token")
    if max_length < (3 if masked else 2):
        raise ArenaError(f"max_length={max_length} leaves no token to predict for {task}; give 8 or more")
    return next((i for i in (tokenizer.bos_id, tokenizer.cls_id) if i is not None), separator), separator
