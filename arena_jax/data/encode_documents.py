"""Documents that keep to themselves: a row each, or several in a row that do not see one another."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import Dataset
from arena_jax.data.encode_language import ends_of
from arena_jax.data.encoded import Encoded, Ragged, language_columns, padded_lengths
from arena_jax.data.stored_documents import Documents
from arena_jax.data.token_stream import document_tokens
from arena_jax.data.tokenizer import Tokenizer, encodings


def encode_documents(
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    task: str,
    max_length: int,
    packed: bool,
    lengths: Sequence[int] | None = None,
    token_types: int | None = None,
) -> Encoded:
    """Tokenise documents for language modelling so that none sees another.

    A document is a start token, its tokens and a separator. One that is longer than a row is cut into pieces, in
    causal-lm so that neighbours share one token; nothing is left out. Packed, pieces share rows (:func:`packed_rows`):
    "segment_ids" says which token is of which, and a model lets each see its own segment alone and counts positions
    anew. The rows depend on the texts alone, so they are the same in every epoch and for any number of processes.

    Args:
        data: column "text", one document each.
        tokenizer: of the model.
        task: "causal-lm" or "masked-lm".
        max_length: L, tokens per row, special tokens included.
        packed: whether pieces share rows.
        lengths: allowed padded lengths of rows that are not packed; None chooses one.
        token_types: as `encode` takes it.

    Returns:
        Rows with "input_ids", "bytes" (rows,) float32, for masked-lm "special_tokens_mask", and packed "segment_ids":
        1, 2, …, and 0 where a row is filled up.

    Raises:
        ArenaError: as `encode_language`; texts that are a stream, or so large that they stay on disk.
    """
    if data.stream is not None:
        raise ArenaError(
            f"data set '{data.name}' is read as it comes, and its documents can only be joined: documents=joined"
        )
    if isinstance(data.columns["text"], Documents):
        # Which texts fit together is known when all have been counted, so their tokens would have to be kept twice.
        raise ArenaError(
            f"data set '{data.name}' is so large that it stays on disk, and its documents can only be joined: "
            "documents=joined, or train_limit=N"
        )
    start, separator = ends_of(tokenizer, task, max_length)
    pieces: list[np.ndarray] = []
    sizes: list[int] = []
    unknown = 0
    encoded = encodings(tokenizer.configured(), data.columns["text"], add_special_tokens=False)
    for text, encoding in zip(data.columns["text"], encoded, strict=True):
        ids, owned = document_tokens(text, encoding, separator)
        if tokenizer.unk_id is not None and tokenizer.unk_id != separator:
            unknown += int((ids == tokenizer.unk_id).sum())
        for piece, size in _pieces(ids, owned, start, separator, max_length, masked=task == "masked-lm"):
            pieces.append(piece)
            sizes.append(size)
    piece_lengths = np.asarray([len(piece) for piece in pieces])
    groups = packed_rows(piece_lengths, max_length) if packed else [[number] for number in range(len(pieces))]
    joined = [np.concatenate([pieces[number] for number in group]) for group in groups]
    tokens, fill = language_columns(tokenizer, joined, token_types, task == "masked-lm")
    rows = tokens["input_ids"]
    if packed:
        segments = [np.repeat(np.arange(1, len(group) + 1, dtype=np.int32), piece_lengths[group]) for group in groups]
        tokens["segment_ids"] = Ragged(np.concatenate(segments), rows.offsets)
        fill["segment_ids"] = 0
    total = int(sum(sizes))
    counts = {"examples": len(data), "bytes": total, "segments": len(pieces), "unknown": unknown}
    real = len(rows.values)
    notes = [f"{len(data):,} documents, {total:,} bytes, {total / real:.2f} bytes per token"]
    if len(pieces) > len(data):
        notes.append(f"documents longer than {max_length} tokens are cut: {len(pieces):,} pieces")
    if packed:
        notes.append(
            f"{len(pieces):,} texts packed into {len(rows):,} rows, {len(pieces) / len(rows):.1f} each: "
            f"{real / (len(rows) * max_length):.1%} of the places are tokens"
        )
    if unknown:
        notes.append(f"{unknown:,} tokens are unknown to the tokenizer; bits per byte leave their spelling out")
    return Encoded(
        task=task,
        source=data,
        tokens=tokens,
        columns={"bytes": np.asarray([sum(sizes[number] for number in group) for group in groups], np.float32)},
        fill=fill,
        lengths=(max_length,) if packed else padded_lengths(rows.lengths, max_length, lengths),
        counts=counts,
        notes=tuple(notes),
    )


def packed_rows(lengths: Iterable[int], capacity: int) -> list[list[int]]:
    """Which texts share a row: the longest first, each into the fullest row that still has room for it.

    This is best-fit decreasing: at most 11/9 of the fewest rows that there could be, and 1 more (Johnson 1973).

    Args:
        lengths: tokens of each text, 1 to ``capacity``.
        capacity: tokens of a row.

    Returns:
        The texts of each row, by number; rows in the order of their first text, texts in that of the data.

    Example:
        >>> packed_rows([3, 5, 2, 4, 2], 8)
        [[0, 1], [2, 3, 4]]
    """
    sizes = np.asarray(list(lengths))
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # tokens that still fit: rows
    rooms: list[int] = []  # the keys, ascending
    for number in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[number])
        place = bisect.bisect_left(rooms, size)
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room]
                rooms.pop(place)
        rows[row].append(number)
        left = room - size
        if left not in with_room:
            with_room[left] = []
            bisect.insort(rooms, left)
        with_room[left].append(row)
    return sorted(sorted(row) for row in rows)


def _pieces(
    ids: np.ndarray, sizes: np.ndarray, start: int, separator: int, length: int, *, masked: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """A document's rows, and the bytes of text that each predicts.

    The ids are the document's tokens and a separator, the sizes the bytes that each of them owns.
    """
    if masked:
        # The separator ends every piece; the document's own owns the last bytes.
        body, width = ids[:-1], length - 2
        for at in range(0, max(len(body), 1), width):
            last = at + width >= len(body)
            size = sizes[at:].sum() if last else sizes[at : at + width].sum()
            yield np.concatenate([[start], body[at : at + width], [separator]]).astype(np.int32), int(size)
        return
    stream, width = np.concatenate([[start], ids]).astype(np.int32), length - 1
    for at in range(0, len(ids), width):
        yield stream[at : at + length], int(sizes[at : at + width].sum())
