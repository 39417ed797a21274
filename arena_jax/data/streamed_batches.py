"""Batches of rows from a text that is read as it is trained on, resumable to the row."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.batches import Batches, Padding, dealt
from arena_jax.data.encoded import Batch, Encoded, language_columns
from arena_jax.data.records import LIMIT
from arena_jax.data.token_stream import token_stream

_CHUNK = 64  # documents tokenised at a time


@dataclasses.dataclass
class _Chunk:
    """The rows of some documents that are not drawn yet, where these documents begin, and how many were drawn."""

    begin: dict[str, Any]
    rows: collections.deque[tuple[np.ndarray, np.float32]]
    drawn: int = 0


class StreamedBatches:
    """Training batches from a stream, as `Batches` makes them from rows: any size at any time, none short.

    Rows come in the stream's own order; a stream that ends begins again. Every process reads the whole stream and feeds
    its own rows of each batch, so that global batches do not depend on the number of processes.

    Args:
        rows: from `encode` of a streamed text.
        process_index: which slice, from 0.
        process_count: number of processes.

    Raises:
        ArenaError: an impossible process index.
    """

    def __init__(self, rows: Encoded, *, process_index: int = 0, process_count: int = 1) -> None:
        if not 0 <= process_index < process_count:
            raise ArenaError(
                f"process {process_index} of {process_count}: the index starts at 0 and is below the count"
            )
        assert rows.stream is not None
        self.rows, self._source = rows, rows.stream
        self._process = (process_index, process_count)
        self._backend = self._source.tokenizer.configured()
        settings = [self._source.text.name, *self._source.cutter.settings(), self._backend.to_str()]
        self._fingerprint = zlib.crc32(json.dumps(settings).encode())
        self._epoch = self._rows_drawn = 0
        self._records = self._left_out = 0
        self._chunks: collections.deque[_Chunk] = collections.deque()
        self._cutter = self._source.cutter.fresh()
        self._position: Any = None
        self._documents: Iterator[Any] = self._source.text.documents()

    @property
    def epoch(self) -> int:
        """Times that the stream has ended."""
        return self._epoch

    @property
    def examples_seen(self) -> int:
        """Rows drawn so far, over all processes."""
        return self._rows_drawn

    def steps_per_epoch(self, batch_size: int) -> float:
        """Infinite: how long a stream is, nobody knows."""
        return math.inf

    def next(self, batch_size: int, microbatches: int = 1) -> Batch:
        """Draw the next batch.

        Args:
            batch_size: rows of the global batch; this process gets its share of them.
            microbatches: parts that the batch is computed in; this process gets its share of each.

        Returns:
            A batch as `Encoded.batch` makes it.

        Raises:
            ArenaError: a batch size that does not divide; or the stream cannot be read on, or holds no texts.
        """
        index, count = self._process
        slices = dealt(batch_size, microbatches, index, count)
        drawn = [self._draw() for _ in range(batch_size)]
        self._rows_drawn += batch_size
        part = [drawn[row] for row in slices]
        source = self._source
        columns, fill = language_columns(
            source.tokenizer, [ids for ids, _ in part], source.token_types, source.cutter.masked
        )
        small = Encoded(
            task=self.rows.task,
            source=self.rows.source,
            tokens=columns,
            columns={"bytes": np.asarray([size for _, size in part], np.float32)},
            fill=fill,
            lengths=self.rows.lengths,
            counts={},
        )
        return small.batch(np.arange(len(part)))

    def state(self) -> dict[str, Any]:
        """The position of the stream, fit for JSON, and what must be the same for it to mean anything."""
        first = self._chunks[0] if self._chunks else _Chunk(self._here(), collections.deque())
        return {"begin": first.begin, "drawn": first.drawn, "seen": self._rows_drawn, "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where another stream of the same text was.

        Args:
            state: from `state`; the number of processes may have changed in between.

        Raises:
            ArenaError: the state belongs to another stream or tokenizer, or the source has changed.
        """
        if state.get("fingerprint") != self._fingerprint:
            raise ArenaError(
                "the saved data position is of another stream: resume with the same address, tokenizer and lengths"
            )
        begin = state["begin"]
        self._rows_drawn = int(state["seen"])
        self._epoch, self._records, self._left_out = (int(begin[key]) for key in ("epoch", "records", "left_out"))
        self._cutter = self._source.cutter.fresh()
        self._cutter.restore(begin["cutter"])
        self._position = begin["documents"]
        self._documents = self._source.text.documents(self._position)
        self._chunks.clear()
        if state["drawn"]:
            self._cut_more()
            if int(state["drawn"]) > len(self._chunks[0].rows):
                raise ArenaError(f"{self._source.text.name} has changed: it has fewer texts where the run stopped")
            for _ in range(int(state["drawn"])):
                self._chunks[0].rows.popleft()
            self._chunks[0].drawn = int(state["drawn"])

    def _draw(self) -> tuple[np.ndarray, np.float32]:
        while not self._chunks or not self._chunks[0].rows:
            if self._chunks:
                self._chunks.popleft()
            if not self._chunks:
                self._cut_more()
        self._chunks[0].drawn += 1
        return self._chunks[0].rows.popleft()

    def _here(self) -> dict[str, Any]:
        """Where the next documents begin, as JSON."""
        return {
            "documents": self._position,
            "cutter": self._cutter.state(),
            "epoch": self._epoch,
            "records": self._records,
            "left_out": self._left_out,
        }

    def _cut_more(self) -> None:
        chunk = _Chunk(self._here(), collections.deque())
        self._chunks.append(chunk)
        records = list(itertools.islice(self._documents, _CHUNK))
        self._position = self._source.text.position()
        texts = [record for record in records if _is_text(record)]
        self._records += len(records)
        self._left_out += len(records) - len(texts)
        if self._left_out > max(_CHUNK, LIMIT * self._records):
            raise ArenaError(
                f"{self._source.text.name}: {self._left_out:,} of {self._records:,} records have no text; is it the "
                "right column? Name it by --columns text=NAME"
            )
        if texts:
            ids, sizes, _ = token_stream(texts, self._backend, self._source.separator, None)
            chunk.rows.extend(zip(*self._cutter.add(ids, sizes), strict=True))
        if len(records) < _CHUNK:  # the end
            if self._left_out == self._records:
                raise ArenaError(f"{self._source.text.name} holds no text to train on")
            last, last_bytes = self._cutter.finish()
            if len(last):
                chunk.rows.append((last, last_bytes[0]))
            self._epoch, self._records, self._left_out = self._epoch + 1, 0, 0
            self._cutter, self._position = self._source.cutter.fresh(), None
            self._documents = self._source.text.documents()


def _is_text(record: Any) -> bool:
    if not isinstance(record, str) or not record or record.isspace():
        return False
    try:
        record.encode()
    except UnicodeEncodeError:
        return False
    return True


def training_batches(
    rows: Encoded, *, seed: int, padding: Padding | None, process_index: int = 0, process_count: int = 1
) -> Batches | StreamedBatches:
    """What a run draws its batches from: rows in a seeded order, or a stream in its own.

    Args:
        rows: from `encode`.
        seed: of the order.
        padding: as `Batches` takes it.
        process_index: which slice, from 0.
        process_count: number of processes.

    Returns:
        The batches.
    """
    if rows.stream is not None:
        return StreamedBatches(rows, process_index=process_index, process_count=process_count)
    return Batches(rows, seed=seed, padding=padding, process_index=process_index, process_count=process_count)


def next_batches(
    streams: Mapping[str, Batches | StreamedBatches],
    batch_sizes: Mapping[str, int],
    microbatches: Mapping[str, int],
    *,
    together: bool,
) -> dict[str, Batch]:
    """Draw the next batch of every model.

    Args:
        streams: `{model: its stream}`.
        batch_sizes: `{model: rows of its global batch}`.
        microbatches: `{model: parts that its batch is computed in}`.
        together: pad all to the longest of their lengths, for streams of one `common_padding`: a joint step meets each
            length once, also where models draw different numbers of rows.

    Returns:
        `{model: batch}`.

    Example:
        >>> from arena_jax.data import common_padding, encode, synthetic_sentiment, train_tokenizer
        >>> texts = synthetic_sentiment()
        >>> rows = {f: encode(texts, train_tokenizer(texts, f), lengths=[8, 16]) for f in ("bert", "gpt2")}
        >>> padding = common_padding(rows)
        >>> streams = {name: Batches(r, seed=3, padding=padding) for name, r in rows.items()}
        >>> sizes = {"bert": 2, "gpt2": 400}
        >>> batches = next_batches(streams, sizes, {"bert": 1, "gpt2": 1}, together=True)
        >>> {name: batch["input_ids"].shape for name, batch in batches.items()}
        {'bert': (2, 16), 'gpt2': (400, 16)}
    """
    if not together:
        return {name: stream.next(batch_sizes[name], microbatches[name]) for name, stream in streams.items()}
    ordered = {name: stream for name, stream in streams.items() if isinstance(stream, Batches)}
    drawn = {name: stream.draw(batch_sizes[name], microbatches[name]) for name, stream in ordered.items()}
    longest = max(length for _, length in drawn.values())
    return {name: ordered[name].rows.batch(rows, longest) for name, (rows, _) in drawn.items()}
