"""Token rows of one length that lie in the store: read when a batch is made, and never all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.stored_array import StoredArray

Derive = Callable[[np.ndarray], np.ndarray]


class StoredRows:
    """A per-token column whose rows are in a file; only the last of them may be shorter. It reads as `Ragged` does.

    Args:
        ids: (rows, L), the token ids.
        last: tokens of the last row.
        vocab_size: every id is below it.
        fingerprint: checksum of the ids, as `Ragged.fingerprint` has it.
        derive: makes a column out of the ids, elementwise; None: the ids themselves.
    """

    def __init__(
        self, ids: StoredArray, last: int, vocab_size: int, fingerprint: int, derive: Derive | None = None
    ) -> None:
        self._ids, self._last, self._vocab_size, self._derive = ids, last, vocab_size, derive
        self.fingerprint = fingerprint

    def derived(self, derive: Derive) -> StoredRows:
        """Another column of the same rows."""
        return StoredRows(self._ids, self._last, self._vocab_size, self.fingerprint, derive)

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64: tokens per row."""
        return self.lengths_of(np.arange(len(self)))

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) int64: tokens of each of the given rows."""
        return np.where(rows == len(self) - 1, self._last, self._ids.shape[1])

    @property
    def total(self) -> int:
        """Tokens over all rows."""
        return (len(self) - 1) * self._ids.shape[1] + self._last

    @property
    def values(self) -> np.ndarray:
        """(tokens,) int32: all rows, one after the other; reads all of them."""
        return self._column(self._ids[0 : len(self)]).reshape(-1)[: self.total]

    @property
    def offsets(self) -> np.ndarray:
        """(rows + 1,) int64: where each row begins in `values`."""
        return np.minimum(np.arange(len(self) + 1) * self._ids.shape[1], self.total)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> np.ndarray:
        row = range(len(self))[row]
        length = self._last if row == len(self) - 1 else self._ids.shape[1]
        return self._column(self._ids[row : row + 1])[0, :length]

    def padded(self, rows: np.ndarray, length: int, fill: int) -> np.ndarray:
        """Lay the given rows out as int32 (len(rows), length), filled on the right."""
        values = self._column(self._ids[rows])
        out = np.full((len(rows), length), fill, np.int32)
        out[:, : values.shape[1]] = values
        out[rows == len(self) - 1, self._last :] = fill
        return out

    def _column(self, ids: np.ndarray) -> np.ndarray:
        if ids.size and int(ids.max()) >= self._vocab_size:
            raise ArenaError(
                f"{self._ids.path} is damaged: it holds token {ids.max()} of {self._vocab_size:,}; remove it with "
                "`arena-jax data clear`"
            )
        return ids.astype(np.int32) if self._derive is None else self._derive(ids)
