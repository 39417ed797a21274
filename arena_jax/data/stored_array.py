"""An array in a file, of which only what is asked for is read."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError


class StoredArray:
    """Rows of one shape in a file without a header, read as they are needed.

    It is read by position and not mapped into memory. A mapped file counts as resident as far as it was touched, with
    the 16 pages around each touch; and one that was cut off would end the process, where this is an error.

    Args:
        path: of the file.
        dtype: of the numbers.
        shape: (rows, …).

    Raises:
        ArenaError: the file is not there, or of another size.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.bin"
        >>> path.write_bytes(np.arange(6, dtype=np.int32).tobytes())
        24
        >>> array = StoredArray(path, "int32", (3, 2))
        >>> array[1:3].tolist(), array[np.array([2, 0])].tolist(), len(array)
        ([[2, 3], [4, 5]], [[4, 5], [0, 1]], 3)
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        if self.dtype.hasobject or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ArenaError(f"{path}: {dtype} of shape {shape} is no array of numbers")
        self._row = self.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        try:
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            size = os.fstat(self._file).st_size
        except OSError as error:
            raise ArenaError(f"cannot read {path}: {error.strerror or error}") from None
        if size != self._row * shape[0]:
            raise ArenaError(f"{path} has {size:,} bytes instead of {self._row * shape[0]:,}: it is cut off or changed")

    @property
    def ndim(self) -> int:
        """Dimensions of its shape."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it, read into memory."""
        return np.asarray(self[0 : len(self)], dtype)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self[rows : rows + 1][0]
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            assert step == 1
            return np.frombuffer(self._read(first, max(0, last - first)), self.dtype).reshape(-1, *self.shape[1:])
        content = b"".join([self._read(int(row), 1) for row in rows])
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])

    def _read(self, first: int, count: int) -> bytes:
        if not 0 <= first <= first + count <= len(self):
            raise IndexError(f"rows {first} to {first + count} of {len(self)}")
        parts, at, missing = [], first * self._row, count * self._row
        while missing:
            try:
                part = os.pread(self._file, missing, at)
            except OSError as error:
                raise ArenaError(f"cannot read {self.path}: {error.strerror or error}") from None
            if not part:
                raise ArenaError(f"{self.path} was cut off while it was read")
            parts.append(part)
            at, missing = at + len(part), missing - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
