"""Texts as one stream of tokens, with the bytes of text that each token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tokenizers


class TokenStream(NamedTuple):
    """A part of a corpus in tokens.

    Attributes:
        ids: (tokens,) int32.
        sizes: (tokens,) int64, the bytes that each of them owns.
        unknown: tokens that the tokenizer does not know.
    """

    ids: np.ndarray
    sizes: np.ndarray
    unknown: int


def token_stream(
    texts: Sequence[str], backend: tokenizers.Tokenizer, separator: int, unknown_id: int | None
) -> TokenStream:
    """Tokenise documents, with a separator after each.

    Args:
        texts: the documents.
        backend: as `Tokenizer.configured` returns it.
        separator: id of the token between documents.
        unknown_id: id of the unknown token, to be counted; None where there is none.

    Returns:
        The tokens; each byte of the texts belongs to one of them.
    """
    from arena_jax.data.tokenizer import encodings

    tokens, sizes, unknown = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], 0
    for text, encoding in zip(texts, encodings(backend, texts, add_special_tokens=False), strict=True):
        ids, owned = document_tokens(text, encoding, separator)
        if unknown_id is not None and unknown_id != separator:
            unknown += int((ids == unknown_id).sum())
        tokens.append(ids)
        sizes.append(owned)
    return TokenStream(np.concatenate(tokens), np.concatenate(sizes), unknown)


def document_tokens(text: str, encoding: tokenizers.Encoding, separator: int) -> tuple[np.ndarray, np.ndarray]:
    """One document as (tokens, bytes that each of them owns), a separator behind it: (n,) int32 and (n,) int64."""
    # Byte position of each character: a code point takes 1 to 4 bytes in UTF-8.
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    position = np.zeros(len(points) + 1, np.int64)
    np.cumsum(1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000), out=position[1:])
    ends = np.asarray([end for _, end in encoding.offsets], np.int64)
    # Several byte-level tokens may spell one character: the first of them owns it.
    ends = np.maximum.accumulate(ends) if len(ends) else ends
    bounds = np.concatenate([[0], position[ends], position[-1:]])
    return np.asarray([*encoding.ids, separator], np.int32), np.diff(bounds)


class RowCutter:
    """Cuts a stream of tokens that comes in parts into rows of one length.

    causal-lm: the stream starts with a start token and neighbouring rows share one token, so that every token but the
    start token is predicted exactly once: row k holds tokens k(L−1) to k(L−1)+L−1. masked-lm: each row is the start
    token, L−2 tokens of the stream, and a separator.

    Args:
        masked: masked-lm, else causal-lm.
        start: id of the start token.
        separator: id of the separator.
        length: L, tokens per row.

    Example:
        >>> cutter = RowCutter(False, start=0, separator=9, length=3)
        >>> cutter.add(np.array([1, 2, 3]), np.array([1, 1, 2]))[0].tolist(), cutter.finish()[0].tolist()
        ([[0, 1, 2]], [2, 3])
    """

    def __init__(self, masked: bool, *, start: int, separator: int, length: int) -> None:
        self.masked = masked
        self._ends = start, separator
        self._width = length - (2 if masked else 1)
        self._ids = np.asarray([] if masked else [start], np.int32)
        self._sizes = np.zeros(0, np.int64)

    def add(self, ids: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the next part of the stream.

        Args:
            ids: (tokens,).
            sizes: (tokens,) bytes of each.

        Returns:
            The rows that are whole now, (rows, L) int32, and the bytes of each, (rows,) float32.
        """
        ids = np.concatenate([self._ids, ids])
        sizes = np.concatenate([self._sizes, sizes])
        count = len(sizes) // self._width
        end = count * self._width
        body = ids[:end].reshape(count, self._width)
        if self.masked:
            start, separator = self._ends
            rows = np.empty((count, self._width + 2), np.int32)
            rows[:, 0], rows[:, 1:-1], rows[:, -1] = start, body, separator
        else:
            rows = np.empty((count, self._width + 1), np.int32)
            rows[:, :-1], rows[:, -1] = body, ids[self._width : end + 1 : self._width]
        row_bytes = sizes[:end].reshape(count, self._width).sum(1).astype(np.float32)
        self._ids, self._sizes = ids[end:], sizes[end:]
        return rows, row_bytes

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """What is left.

        Returns:
            One last row, (tokens,) int32, shorter than the others, and its bytes, (1,) float32; both may be empty.
        """
        if not len(self._sizes):
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        start, separator = self._ends
        row = np.concatenate([[start], self._ids, [separator]]) if self.masked else self._ids
        return row.astype(np.int32), self._sizes.sum(keepdims=True).astype(np.float32)

    def fresh(self) -> RowCutter:
        """Another one at the beginning of a stream."""
        start, separator = self._ends
        return RowCutter(self.masked, start=start, separator=separator, length=self._width + (2 if self.masked else 1))

    def settings(self) -> list[int]:
        """All that its rows depend on beside the stream."""
        return [int(self.masked), *self._ends, self._width]

    def state(self) -> dict[str, list[int]]:
        """What is left of the stream, as JSON has it."""
        return {"ids": self._ids.tolist(), "sizes": self._sizes.tolist()}

    def restore(self, state: dict[str, list[int]]) -> None:
        """Go on from :meth:`state`."""
        self._ids, self._sizes = np.asarray(state["ids"], np.int32), np.asarray(state["sizes"], np.int64)
