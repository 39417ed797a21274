"""Stopping on request: the step that runs is finished and saved, and the last line says how to go on."""

from __future__ import annotations

import signal
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
    """

    def __init__(self, folder: Path, step: int, total: int | None) -> None:
        whole = "" if total is None else f" of {total}"
        super().__init__(f"stopped after step {step}{whole}; go on with: arena-jax resume {folder}")
        self.folder, self.step, self.total = folder, step, total


class Stop:
    """True once Ctrl-C or SIGTERM has come; a second one ends the program at once.

    Use it as a context around the loop; the handlers that were there come back afterwards.

    Example:
        >>> with Stop() as stop:
        ...     bool(stop)
        False
    """

    def __init__(self) -> None:
        self._requested = self._several = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
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
