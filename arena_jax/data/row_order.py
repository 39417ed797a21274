"""A seeded order of any number of rows that takes no memory: row i's place is computed, not looked up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROUNDS = 6  # four make a Feistel network of random functions indistinguishable from chance (Luby and Rackoff 1988)
_BLOCK = 4096  # positions computed at a time


class RowOrder:
    """A permutation of the rows 0 … count − 1, as a Feistel network over the next power of four.

    A network permutes all numbers of its width; one that falls outside the rows is put through it again until it falls
    inside ("cycle walking", Black and Rogaway 2002), which takes fewer than 4 turns in the mean.

    Args:
        count: of the rows.
        seed: of the order.

    Example:
        >>> order = RowOrder(10, [1, 0])
        >>> order[0:10].tolist(), sorted(order[0:10].tolist()) == list(range(10)), order[3:5].tolist()
        ([8, 7, 3, 0, 6, 9, 5, 1, 4, 2], True, [0, 6])
    """

    def __init__(self, count: int, seed: Sequence[int]) -> None:
        self._count = count
        self._half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
        self._keys = np.random.default_rng([*seed, 0x0D3]).integers(0, 2**64, _ROUNDS, np.uint64)

        self._block = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, positions: slice) -> np.ndarray:
        first, last, _ = positions.indices(self._count)
        block = first // _BLOCK
        if not first < last <= (block + 1) * _BLOCK:
            return self._rows(first, max(first, last))
        if self._block[0] != block:  # batches are small, and come one after the other
            self._block = block, self._rows(block * _BLOCK, min((block + 1) * _BLOCK, self._count))
        return self._block[1][first - block * _BLOCK : last - block * _BLOCK]

    def _rows(self, first: int, last: int) -> np.ndarray:
        rows = self._permuted(np.arange(first, last, dtype=np.uint64))
        while (outside := rows >= self._count).any():
            rows[outside] = self._permuted(rows[outside])
        return rows.astype(np.int64)

    def _permuted(self, numbers: np.ndarray) -> np.ndarray:
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = numbers >> self._half, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        return (left << self._half) | right


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's last steps (Steele, Lea and Flood 2014): each bit depends on all."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
