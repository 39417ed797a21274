"""A data set as token arrays: rows of different lengths, kept flat, padded only when a batch is made."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import Dataset
from arena_jax.data.stored_array import StoredArray
from arena_jax.data.stored_rows import StoredRows
from arena_jax.data.streamed_text import StreamedText
from arena_jax.data.token_stream import RowCutter
from arena_jax.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one array.

    Args:
        values: (N, …) all rows, one after the other.
        offsets: (rows + 1,) int64; row i is values[offsets[i]:offsets[i + 1]].

    Example:
        >>> rows = Ragged.of([[1, 2], [], [3]])
        >>> len(rows), rows[0].tolist(), rows.lengths.tolist()
        (3, [1, 2], [2, 0, 1])
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any] | np.ndarray], width: tuple[int, ...] = ()) -> Ragged:
        """Join rows of int32 values, each of shape (length, *width)."""
        arrays = [np.asarray(row, np.int32).reshape(-1, *width) for row in rows]
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        return cls(np.concatenate(arrays) if arrays else np.zeros((0, *width), np.int32), offsets)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """(rows,) int64: values per row."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) int64: values of each of the given rows."""
        lengths: np.ndarray = self.lengths[rows]
        return lengths

    @functools.cached_property
    def fingerprint(self) -> int:
        """A checksum of values and lengths."""
        return zlib.crc32(self.offsets.tobytes(), zlib.crc32(np.ascontiguousarray(self.values).tobytes()))

    @property
    def total(self) -> int:
        """Values over all rows."""
        return int(self.offsets[-1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def padded(self, rows: np.ndarray, length: int, fill: int) -> np.ndarray:
        """Lay the given rows out as int32 (len(rows), length), filled on the right."""
        out = np.full((len(rows), length), fill, np.int32)
        for target, row in enumerate(rows):
            values = self[row]
            out[target, : len(values)] = values
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class RowSource:
    """How the documents of a stream become rows.

    Args:
        text: the stream.
        tokenizer: of the model.
        separator: id of the token between documents.
        cutter: of the rows, at their beginning.
        token_types: as `encode` takes it.
    """

    text: StreamedText
    tokenizer: Tokenizer
    separator: int
    cutter: RowCutter
    token_types: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Tokenised rows of one data set for one model.

    Args:
        task: the model task, such as "masked-lm".
        source: the examples behind the rows.
        tokens: per-token columns; "input_ids" always, and the others that the task has; in memory, or in the store.
        columns: per-row columns, such as "labels" (rows,) int32 (float32 in regression, (rows, classes) with several
            labels) or "bytes" (rows,) float32.
        fill: what pads each per-token column on the right.
        lengths: the only padded lengths there will be, ascending, in tokens; each costs one compilation.
        counts: what was counted on the way: "truncated", "empty", "unknown", "bytes", …
        notes: one line each, for a person.
        offsets: question answering only: (tokens, 2) character span of each token in its context, -1 outside it.
        stream: where the rows to train on come from, if they are read as they are trained on; the rows here are then
            the first of them.
    """

    task: str
    source: Dataset
    tokens: Mapping[str, Ragged | StoredRows]
    columns: Mapping[str, np.ndarray | StoredArray]
    fill: Mapping[str, int]
    lengths: tuple[int, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    offsets: Ragged | None = None
    stream: RowSource | None = None

    def __len__(self) -> int:
        return len(self.tokens["input_ids"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes or tags."""
        return self.source.label_names

    @property
    def row_lengths(self) -> np.ndarray:
        """(rows,) int64: real tokens per row."""
        return self.tokens["input_ids"].lengths

    @property
    def fingerprint(self) -> int:
        """A checksum of the tokens, so that a position is never restored into other data."""
        return self.tokens["input_ids"].fingerprint

    def padded_length(self, rows: np.ndarray) -> int:
        """Find the smallest allowed length that holds all the given rows.

        Args:
            rows: row numbers.

        Returns:
            The length in tokens.
        """
        if len(self.lengths) == 1:
            return self.lengths[0]
        return self.lengths[bisect.bisect_left(self.lengths, int(self.tokens["input_ids"].lengths_of(rows).max()))]

    def batch(self, rows: np.ndarray, length: int | None = None) -> Batch:
        """Make a batch of the given rows.

        Args:
            rows: row numbers, (B,).
            length: padded length; None takes the smallest allowed one that holds them.

        Returns:
            "input_ids", "attention_mask" (and what else the task has) as int32 (B, length), per-row columns
            (B,), and "valid", all True.
        """
        rows = np.asarray(rows, np.int64)
        length = self.padded_length(rows) if length is None else length
        batch: Batch = {name: column.padded(rows, length, self.fill[name]) for name, column in self.tokens.items()}
        real = np.arange(length)[None, :] < self.tokens["input_ids"].lengths_of(rows)[:, None]
        batch["attention_mask"] = real.astype(np.int32)
        for name, column in self.columns.items():
            batch[name] = column[rows]
        batch["valid"] = np.ones(len(rows), bool)
        return batch

    def report(self) -> list[str]:
        """Describe the rows for a person, one fact per line.

        Returns:
            Rows and lengths, and every note: what was cut, empty or unknown, with counts.
        """
        name = f"{self.source.name} ({self.source.split})"
        lengths = ", ".join(map(str, self.lengths))
        real = self.tokens["input_ids"].total
        first = (
            f"{name}: {len(self):,} rows, {real:,} tokens for {self.task}, "
            f"padded to {'one length' if len(self.lengths) == 1 else 'the lengths'} {lengths}"
        )
        return [first, *(f"{name}: {note}" for note in self.notes)]


def token_columns(
    tokenizer: Tokenizer,
    ids: Iterable[Sequence[int] | np.ndarray],
    types: Iterable[Sequence[int]] | None = None,
    token_types: int | None = None,
) -> tuple[dict[str, Ragged], dict[str, int]]:
    """The columns that a model reads of any task's rows.

    Args:
        tokenizer: of the model.
        ids: of each row's tokens.
        types: of the same tokens, where the family has types; None: all 0.
        token_types: types that the model has; 0: it takes none; 1: all are 0; None: what the tokenizer gives.

    Returns:
        "input_ids", and "token_type_ids" where the family has them; and what pads each of them.
    """
    tokens, fill = {"input_ids": Ragged.of(ids)}, {"input_ids": tokenizer.pad_id}
    if tokenizer.token_types and token_types != 0:
        rows = tokens["input_ids"]
        if types is None or token_types == 1:
            tokens["token_type_ids"] = Ragged(np.zeros_like(rows.values), rows.offsets)
        else:
            tokens["token_type_ids"] = Ragged.of(types)
        fill["token_type_ids"] = 0
    return tokens, fill


def language_columns(
    tokenizer: Tokenizer, ids: Iterable[Sequence[int] | np.ndarray], token_types: int | None, masked: bool
) -> tuple[dict[str, Ragged], dict[str, int]]:
    """The columns that a language model reads: those of any task, and in masked-lm which tokens are special.

    Args:
        tokenizer: of the model.
        ids: of each row's tokens.
        token_types: as `encode` takes it.
        masked: masked-lm, which keeps special tokens from being masked.

    Returns:
        The columns, and what pads each of them.
    """
    tokens, fill = token_columns(tokenizer, ids, token_types=token_types)
    if masked:
        rows = tokens["input_ids"]
        special = np.isin(rows.values, sorted(tokenizer.special_ids)).astype(np.int32)
        tokens["special_tokens_mask"], fill["special_tokens_mask"] = Ragged(special, rows.offsets), 1
    return tokens, fill


def padded_lengths(row_lengths: np.ndarray, max_length: int, lengths: Sequence[int] | None) -> tuple[int, ...]:
    """Choose the lengths to which rows are padded.

    Args:
        row_lengths: real tokens per row.
        max_length: no row is longer.
        lengths: the lengths wanted, or None for one: the longest row's, rounded up to a multiple of 8.

    Returns:
        Ascending lengths, the last of which holds every row. Lengths that no row needs are left out.

    Raises:
        ArenaError: a length below 1 or above `max_length`.

    Example:
        >>> padded_lengths(np.array([3, 30]), 64, None), padded_lengths(np.array([3, 30]), 64, [8, 16])
        ((32,), (8, 64))
    """
    longest = int(row_lengths.max())
    if lengths is None:
        return (min(max_length, -(-longest // 8) * 8),)
    wrong = [length for length in lengths if not 1 <= length <= max_length]
    if wrong:
        raise ArenaError(f"padded length {wrong[0]} is outside 1 to max_length={max_length}; give lengths within it")
    allowed = sorted({*lengths, max_length})
    used = np.unique(np.searchsorted(allowed, row_lengths))
    return tuple(allowed[index] for index in used)
