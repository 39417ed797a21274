"""TensorBoard events, written as they come: a killed run has lost none, and a full disk stops no training."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.runs.histograms import Histogram


class Events:
    """One file of events. What cannot be written is dropped: the records hold the same numbers.

    tensorboardX makes the events; its own writer is a thread that dies on a full disk, and then blocks whoever hands
    it the next event.

    Args:
        folder: made if it is not there.
        purge_step: TensorBoard drops what earlier files hold from this step on; None: nothing.

    Attributes:
        trouble: why nothing is written any more, or None.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboardX.proto import event_pb2

        self._event: Any = event_pb2.Event
        self._file: Any = None
        self._size = 0
        self.trouble: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The name holds whole seconds: a run resumed within the second would write into its own earlier file.
            number = len(list(folder.glob("events.*")))
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{number}"
            self._file = open(folder / name, "xb", buffering=0)  # noqa: SIM115 - it stays open as long as the run
        except OSError as error:
            self._give_up(error)
        self._append(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._append(self._event(step=purge_step, session_log=log))

    def write(self, values: Mapping[str, float | Histogram], step: int, at: float) -> None:
        """Write one number, or histogram, per tag.

        Args:
            values: ``{tag: finite number or histogram}``.
            step: updates taken so far.
            at: seconds since 1970.
        """
        self._append(*(self._event(wall_time=at, step=step, summary=_summary(t, v)) for t, v in values.items()))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, *events: Any) -> None:
        if self._file is None:
            return
        data = b"".join(_framed(event.SerializeToString()) for event in events)
        try:
            write_all(self._file, data, self._size)
            self._size += len(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.close()
        self.trouble = f"TensorBoard events are no longer written ({error.strerror or error}); the records go on"


def _summary(tag: str, value: float | Histogram) -> Any:
    from tensorboardX.summary import histogram_raw, scalar

    if not isinstance(value, Histogram):
        return scalar(tag, value)
    # TensorBoard draws the bins; the two sums, which it does not, are as if all values were in the middle of theirs.
    counts, centres = np.asarray(value.counts, np.float64), value.centres
    sums = (counts.sum(), counts @ centres, counts @ centres**2)
    return histogram_raw(tag, value.low, value.high, *map(float, sums), value.edges[1:].tolist(), counts.tolist())


def write_all(file: Any, data: bytes, size: int) -> None:
    """Append data to an unbuffered file whole, or not at all.

    Args:
        file: open for writing, unbuffered, at its end.
        data: what to append.
        size: of the file before.

    Raises:
        OSError: the disk is full, or the like; the file has its old size again.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
            file.seek(0, os.SEEK_END)
        raise


def _framed(data: bytes) -> bytes:
    """An event as TensorFlow's record format holds it: its length, and both under a checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
