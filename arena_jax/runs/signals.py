"""Stopping on request: the step that runs is finished and saved, and the last line says how to go on."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from arena_jax.runtime import processes


class Stopped(Exception):
    """A run that was asked to stop, and did, with everything saved.

    Attributes:
        folder: of the run.
        step: steps taken.
        total: steps wanted; None where the run's length is no number of steps.
        limit: the time that the session was given, where that was over.
    """

    def __init__(self, folder: Path, step: int, total: int | None, limit: str | None = None) -> None:
        whole = "" if total is None else f" of {total}"
        why = "" if limit is None else f", as {limit} are over"
        super().__init__(f"stopped after step {step}{whole}{why}; go on with: arena-jax resume {folder}")
        self.folder, self.step, self.total, self.limit = folder, step, total, limit


class Stop:
    """True once Ctrl-C or SIGTERM has come, or the time is over; a second signal ends the program at once.

    Use it as a context around the loop; the handlers that were there come back afterwards.

    Args:
        at: the moment, of ``time.perf_counter()``, from which on it is true; None: no signal, no stop.

    Example:
        >>> with Stop() as stop:
        ...     bool(stop)
        False
    """

    def __init__(self, at: float | None = None) -> None:
        self._requested = self._several = self.over = False
        self._at = at
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        if self._at is not None and not self._requested and time.perf_counter() >= self._at:
            self.over = self._requested = True
            if self._several:  # SIGTERM tells the others
                signal.raise_signal(signal.SIGTERM)
        return self._requested

    def __enter__(self) -> Stop:
        self._several = processes.several()
        # Of several processes JAX has SIGTERM, to tell the others: see `processes.stopping`.
        for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: whoever runs us there has the signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)
