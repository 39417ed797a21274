"""One endless, seeded stream of rows per data set, cut into batches of any size, resumable to the row."""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.encoded import Batch, Encoded
from arena_jax.data.row_order import RowOrder

LISTED = 2**22  # rows; an order of more is computed row by row, where a list of it would take 8 bytes a row


class Padding(NamedTuple):
    """By which lengths rows are grouped and padded, where their own are not to decide.

    Attributes:
        lengths: the padded lengths there may be, ascending, in tokens.
        row_lengths: (rows,) the length by which each row counts; at least its own.
    """

    lengths: tuple[int, ...]
    row_lengths: np.ndarray


def common_padding(models: Mapping[str, Encoded]) -> Padding | None:
    """Let several models draw the same examples in the same order, padded to the same length.

    Models cut one text into different numbers of tokens. If each went by its own lengths, a joint step would meet every
    combination of padded lengths, and compile each; by the longest of them it meets each length once.

    Args:
        models: `{name: rows}`.

    Returns:
        A padding for all of them, or None where their rows are not the same examples (packed text, windows over
        contexts).

    Example:
        >>> from arena_jax.data import encode, synthetic_sentiment, train_tokenizer
        >>> texts = synthetic_sentiment()
        >>> rows = {f: encode(texts, train_tokenizer(texts, f), lengths=[8, 16]) for f in ("bert", "gpt2")}
        >>> padding = common_padding(rows)
        >>> one, other = (Batches(r, seed=3, padding=padding).next(5) for r in rows.values())
        >>> one["input_ids"].shape == other["input_ids"].shape, bool((one["labels"] == other["labels"]).all())
        (True, True)
    """
    kinds = list(models.values())
    if any(rows.stream is not None for rows in kinds):
        return None
    if len({len(rows) for rows in kinds}) > 1 or any(len(rows) != len(rows.source) for rows in kinds):
        return None
    lengths = tuple(sorted(set().union(*(rows.lengths for rows in kinds))))
    if all(len(rows.lengths) == 1 for rows in kinds):
        lengths = lengths[-1:]  # nobody asked for more than one
    return Padding(lengths, np.max([rows.row_lengths for rows in kinds], axis=0))


class Batches:
    """Training batches: the rows of each epoch in a new seeded order, one epoch after the other.

    The order is one stream of rows that does not depend on the batch size, so the batch size may change at any
    time and the position is two numbers: epoch and row. Where rows have several padded lengths, rows of equal
    padded length come in runs of `run` rows and the runs are shuffled, so that most batches need one length only.
    A batch may reach into the next epoch; none is ever short, and no row is left out.

    Every process gets its slice of the same global batch: the global batches do not depend on the number of processes.

    Args:
        rows: from `encode`.
        seed: of all orders.
        process_index: which slice, from 0.
        process_count: number of processes.
        run: rows of one padded length that stay together; irrelevant when there is one length.
        padding: lengths to go by instead of the rows' own, from `common_padding`.

    Raises:
        ArenaError: an impossible process index.

    Example:
        >>> from arena_jax.data import encode, synthetic_sentiment, train_tokenizer
        >>> sentences = synthetic_sentiment()
        >>> batches = Batches(encode(sentences, train_tokenizer(sentences, "gpt2")), seed=1)
        >>> batches.next(8)["input_ids"].shape[0], batches.next(3)["input_ids"].shape[0]
        (8, 3)
        >>> state = batches.state()
        >>> state["epoch"], state["position"]
        (0, 11)
        >>> again = Batches(batches.rows, seed=1)
        >>> again.restore(state)
        >>> bool((again.next(4)["labels"] == batches.next(4)["labels"]).all())
        True
    """

    def __init__(
        self,
        rows: Encoded,
        *,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        run: int = 256,
        padding: Padding | None = None,
    ) -> None:
        if not 0 <= process_index < process_count:
            raise ArenaError(
                f"process {process_index} of {process_count}: the index starts at 0 and is below the count"
            )
        if run < 1:
            raise ArenaError(f"run={run}: give the rows that stay together, 1 or more")
        if seed < 0:
            raise ArenaError(f"seed={seed}: give 0 or more")
        self.rows = rows
        self.seed = seed
        # Rows of one length only have nothing to be grouped by; there may be too many of them to list their lengths.
        single = len(rows.lengths if padding is None else padding.lengths) == 1
        if padding is None:
            padding = Padding(rows.lengths, np.zeros(0, np.int64) if single else rows.row_lengths)
        self._padding = padding
        # The order depends on which padded length each row counts by, so that is part of what must be the same.
        self._fingerprint = rows.fingerprint
        for first in range(0, len(rows), 2**16):
            count = min(2**16, len(rows) - first)
            part = np.zeros(count) if single else np.searchsorted(padding.lengths, padding.row_lengths[first:][:count])
            self._fingerprint = zlib.crc32(part.astype(np.int32).tobytes(), self._fingerprint)
        self._process = (process_index, process_count)
        self._run = run
        self._epoch = 0
        self._position = 0
        self._order = self._order_of(0)

    @property
    def epoch(self) -> int:
        """Epochs begun before the current one: 0 during the first."""
        return self._epoch

    @property
    def examples_seen(self) -> int:
        """Rows drawn so far, over all epochs and processes."""
        return self._epoch * len(self.rows) + self._position

    def steps_per_epoch(self, batch_size: int) -> int:
        """Count the batches of a size that cover the rows once.

        Args:
            batch_size: rows per global batch.

        Returns:
            Rows / batch size, rounded up.
        """
        return -(-len(self.rows) // batch_size)

    def next(self, batch_size: int, microbatches: int = 1) -> Batch:
        """Draw the next batch.

        Args:
            batch_size: rows of the global batch; this process gets its share of them.
            microbatches: parts that the batch is computed in; this process gets its share of each.

        Returns:
            A batch as `Encoded.batch` makes it, padded to a length that fits the whole global batch.

        Raises:
            ArenaError: a batch size below 1 or not divisible by the number of processes and microbatches.
        """
        rows, length = self.draw(batch_size, microbatches)
        return self.rows.batch(rows, length)

    def draw(self, batch_size: int, microbatches: int = 1) -> tuple[np.ndarray, int]:
        """Draw the next batch's rows, as `next` does, and leave it to the caller to read them.

        Returns:
            This process's rows, and a length in tokens that fits the whole global batch.
        """
        index, count = self._process
        slices = dealt(batch_size, microbatches, index, count)
        parts, missing = [], batch_size
        while missing:
            part = self._order[self._position : self._position + missing]
            parts.append(part)
            missing -= len(part)
            self._position += len(part)
            if self._position == len(self.rows):
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._order_of(self._epoch)
        rows = np.concatenate(parts)
        lengths, row_lengths = self._padding
        length = lengths[0]
        if len(lengths) > 1:
            length = lengths[bisect.bisect_left(lengths, int(row_lengths[rows].max()))]
        return rows[slices], length

    def state(self) -> dict[str, int]:
        """The position of the stream.

        Returns:
            A few integers, fit for JSON: the position, and what must be the same for it to mean anything.
        """
        return {
            "epoch": self._epoch,
            "position": self._position,
            "seed": self.seed,
            "run": self._run,
            "rows": len(self.rows),
            "fingerprint": self._fingerprint,
        }

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from where another stream over the same rows was.

        Args:
            state: from `state`; the number of processes may have changed in between.

        Raises:
            ArenaError: the state belongs to other rows, another seed or another order.
        """
        state_now = self.state()
        missing = [key for key in state_now if key not in state]
        if missing:
            raise ArenaError(f"the saved data position lacks {', '.join(missing)}; it cannot be restored")
        for key in ("rows", "fingerprint", "seed", "run"):
            if int(state[key]) != state_now[key]:
                raise ArenaError(
                    f"the saved data position is of other data: {key} was {state[key]} and is {state_now[key]}; "
                    "resume with the same data, tokenizer, lengths and seed"
                )
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position < len(self.rows):
            raise ArenaError(f"the saved data position (epoch {epoch}, row {position}) lies outside the data")
        self._epoch, self._position = epoch, position
        self._order = self._order_of(epoch)

    def _order_of(self, epoch: int) -> np.ndarray | RowOrder:
        lengths, row_lengths = self._padding
        if len(lengths) == 1 and len(self.rows) > LISTED:
            return RowOrder(len(self.rows), [self.seed, epoch])
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.rows))
        if len(lengths) == 1:
            return order
        bucket = np.searchsorted(lengths, row_lengths[order])
        runs = []
        for kind in range(len(lengths)):
            members = order[bucket == kind]
            runs += [members[at : at + self._run] for at in range(0, len(members), self._run)]
        return np.concatenate([runs[run] for run in random.permutation(len(runs))])


def dealt(batch_size: int, microbatches: int, process_index: int, process_count: int) -> np.ndarray:
    """Which rows of a global batch a process feeds: of each microbatch its part, in order.

    Args:
        batch_size: rows of the global batch.
        microbatches: parts that it is computed in, one after the other.
        process_index: from 0.
        process_count: number of processes.

    Returns:
        Positions in the global batch.

    Raises:
        ArenaError: a batch size below 1, or one that does not divide.

    Example:
        >>> dealt(8, 2, 1, 2)
        array([2, 3, 6, 7])
    """
    if batch_size < 1 or microbatches < 1 or batch_size % (process_count * microbatches):
        parts = f" in {microbatches} microbatches" if microbatches > 1 else ""
        raise ArenaError(
            f"batch size {batch_size} cannot be divided among {process_count} processes{parts}; give a multiple"
        )
    whole = np.arange(batch_size).reshape(microbatches, process_count, -1)
    return whole[:, process_index].reshape(-1)


def evaluation_batches(
    rows: Encoded, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Go through all rows once, in order.

    The last batch is filled up with copies of its last row for which "valid" is False (and "bytes" 0): they
    keep the shape and never contribute.

    Args:
        rows: from `encode`.
        batch_size: rows per global batch.
        process_index: which slice of each batch, from 0.
        process_count: number of processes.

    Yields:
        Batches as `Encoded.batch` makes them.

    Raises:
        ArenaError: a batch size below 1 or not divisible by the number of processes.

    Example:
        >>> from arena_jax.data import encode, synthetic_sentiment, train_tokenizer
        >>> sentences = synthetic_sentiment("validation")
        >>> rows = encode(sentences, train_tokenizer(sentences, "bert"))
        >>> [int(batch["valid"].sum()) for batch in evaluation_batches(rows, 64)]
        [64, 36]
    """
    if batch_size < 1 or batch_size % process_count or not 0 <= process_index < process_count:
        raise ArenaError(f"batch size {batch_size} cannot be divided among {process_count} processes; give a multiple")
    return _evaluation(rows, batch_size, process_index, batch_size // process_count)


def _evaluation(rows: Encoded, batch_size: int, process_index: int, share: int) -> Iterator[Batch]:
    local_rows = slice(process_index * share, (process_index + 1) * share)
    for start in range(0, len(rows), batch_size):
        numbers = np.arange(start, start + batch_size)
        valid = (numbers < len(rows))[local_rows]
        numbers = np.minimum(numbers, len(rows) - 1)
        batch = rows.batch(numbers[local_rows], rows.padded_length(numbers))
        batch["valid"] = valid
        if "bytes" in batch:
            batch["bytes"] = np.where(valid, batch["bytes"], np.float32(0.0))
        yield batch
