"""Texts in the store: a sequence of documents of which only what is asked for is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from arena_jax.data import store

BLOCK = 2**20  # bytes of text read at a time; while they are tokenised they take 30 times as much


class Documents(Sequence[str]):
    """Texts in the store, read when they are asked for.

    Args:
        entry: of the store.
        rows: which of its documents, in order; None: all.
    """

    def __init__(self, entry: store.Entry, rows: np.ndarray | None = None) -> None:
        self.entry = entry
        self._text, self._starts = entry.array("text", "u", 1), entry.array("starts", "i", 1)
        count = len(self._starts) - 1
        if count < 0 or self._text.dtype.itemsize != 1:
            raise store.damaged(entry.folder, "its arrays make no sense")
        self.rows = None
        if rows is not None:
            rows = np.asarray(rows)
            self.rows = rows.astype(np.uint32 if count < 2**32 else np.int64)
        self._count = count if rows is None else len(rows)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step == 1:
                return [text for texts in self.blocks(first, max(first, last)) for text in texts]
            return [self[at] for at in range(first, last, step)]
        at = range(len(self))[index]
        return next(iter(self.blocks(at, at + 1)))[0]

    def __iter__(self) -> Iterator[str]:
        for texts in self.blocks():
            yield from texts

    @property
    def content(self) -> str:
        """A digest of these texts: those of the whole file, and which of them."""
        whole = str(self.entry.facts.get("content"))
        if self.rows is None:
            return whole
        return f"{whole}, {hashlib.blake2b(self.rows.tobytes(), digest_size=16).hexdigest()}"

    @property
    def bytes(self) -> int:
        """Their length in UTF-8."""
        return sum(int(sizes.sum()) for _, sizes in self._sizes())

    def select(self, rows: Sequence[int] | np.ndarray) -> Documents:
        """Some of them, in an order of their own."""
        rows = np.asarray(rows)
        return Documents(self.entry, rows if self.rows is None else self.rows[rows])

    def cuts(self, size: int) -> list[int]:
        """Positions that divide them into parts of about so many bytes, from 0 to their number."""
        cuts: list[int] = [0]
        total = 0
        for first, sizes in self._sizes():
            for at in np.flatnonzero(np.diff((total + np.cumsum(sizes)) // size, prepend=total // size)):
                cuts.append(first + int(at) + 1)
            total += int(sizes.sum())
        return cuts if cuts[-1] == len(self) else [*cuts, len(self)]

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[list[str]]:
        """The texts from one position to another, some at a time."""
        last = len(self) if last is None else last
        for at, sizes in self._sizes(first, last):
            begin = 0
            for end in (*np.flatnonzero(np.diff(np.cumsum(sizes) // BLOCK, prepend=0)).tolist(), len(sizes)):
                if end > begin:
                    yield self._read(at + begin, at + end)
                begin = end

    def head(self, size: int) -> list[str]:
        """The first texts, of about so many bytes together; at least one."""
        texts: list[str] = []
        total = 0
        for block in self.blocks():
            for text in block:
                texts.append(text)
                total += len(text.encode())
                if total >= size:
                    return texts
        return texts

    def _bounds(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        if self.rows is None:
            starts = self._starts[first : last + 1]
            return starts[:-1], starts[1:]
        rows = self.rows[first:last].astype(np.int64)
        if not len(rows):
            return rows, rows
        low, high = int(rows.min()), int(rows.max())
        if high - low < 8 * len(rows):
            starts = self._starts[low : high + 2]
            return starts[rows - low], starts[rows - low + 1]
        return self._starts[rows], self._starts[rows + 1]

    def _sizes(self, first: int = 0, last: int | None = None, step: int = 2**16) -> Iterator[tuple[int, np.ndarray]]:
        last = len(self) if last is None else last
        for at in range(first, last, step):
            begins, ends = self._bounds(at, min(at + step, last))
            sizes = ends - begins
            if len(sizes) and (sizes.min() < 0 or begins.min() < 0 or ends.max() > len(self._text)):
                raise store.damaged(self.entry.folder, "the documents' bounds make no sense")
            yield at, sizes

    def _read(self, first: int, last: int) -> list[str]:
        begins, ends = self._bounds(first, last)
        try:
            if (begins[1:] == ends[:-1]).all():
                text = self._text[int(begins[0]) : int(ends[-1])].tobytes()
                base = int(begins[0])
                return [text[b - base : e - base].decode() for b, e in zip(begins.tolist(), ends.tolist(), strict=True)]
            return [self._text[b:e].tobytes().decode() for b, e in zip(begins.tolist(), ends.tolist(), strict=True)]
        except (UnicodeDecodeError, IndexError) as error:
            raise store.damaged(self.entry.folder, f"{error}") from None


class Places(Sequence[str]):
    """What to call document i, without a list of names."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        return f"document {range(self._count)[index]}"
