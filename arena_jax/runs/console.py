"""The terminal: the lines of the narration, and under them a live bar where there is a terminal to draw it on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TextIO

from arena_jax.runs.log_lines import Narrator

# How a kind of line looks on a terminal; anywhere else the text is plain.
_STYLES = {"evaluation": "bold", "compile": "dim", "checkpoint": "dim", "trouble": "bold red"}


class Console:
    """Shows records as they are written.

    Args:
        stream: where to; standard output if not given.
        earlier: records of a run that is resumed: its best scores are remembered, nothing is printed again.
        silent: print nothing at all.

    Example:
        >>> with Console() as console:
        ...     console.show({"kind": "note", "step": 0, "time": 0.0, "text": "3 of 500 examples were cut"})
          · 3 of 500 examples were cut
    """

    def __init__(
        self, stream: TextIO | None = None, earlier: Iterable[Mapping[str, Any]] = (), silent: bool = False
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._narrator = Narrator()
        for record in earlier:
            self._narrator(record)
        self._narrator.forget_clock()
        self._bar: Any = None
        self._task: Any = None
        self._silent = silent
        self._terminal = self._stream.isatty() and not silent

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """What was shown of the run itself, and what an earlier session had: all of its records, not who resumed it."""
        return [record for record in self._narrator.records if record["kind"] != "resume"]

    def show(self, record: Mapping[str, Any]) -> None:
        """Print the lines of one record."""
        if self._silent:
            return
        lines = self._narrator(record)
        if record["kind"] == "end":
            self.close()
        if not self._terminal:
            # A pipe is read as it comes: nobody wants a line per interval an hour late.
            print(*lines, sep="\n", end="\n" if lines else "", file=self._stream, flush=True)
            return
        console = self._console()
        for line in lines:
            console.print(line, style=_STYLES.get(record["kind"]), markup=False, highlight=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """Move the bar to this step, in percent where the run's steps are not known; nothing without a terminal."""
        if not self._terminal:
            return
        if self._bar is None:
            self._start_bar()
        self._bar.update(self._task, completed=step)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _console(self) -> Any:
        if self._bar is not None:
            return self._bar.console
        from rich.console import Console

        return Console(file=self._stream)

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        steps = self._narrator.start.get("steps")
        self._bar = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps" if steps else "%"),
            TimeRemainingColumn(),
            console=self._console(),
            transient=True,
            refresh_per_second=4,  # enough for an eye; each refresh takes time from a machine that is training
        )
        self._task = self._bar.add_task("", total=steps or 100)
        self._bar.start()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
