"""Ctrl-C that Python would lose: it is raised wherever the program is, in a garbage collector's callback too."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PAUSE = 0.01  # seconds: the callback that swallowed the last one is over by then


@contextmanager
def raised_again() -> Iterator[None]:
    """Raise a KeyboardInterrupt again that came inside a destructor or a callback of the garbage collector.

    There nobody can catch it: Python prints its traceback, forgets it, and the program goes on.
    """
    report, at_work = sys.unraisablehook, True

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)
        elif at_work:
            # Not a Timer: to start one is to wait for it, and the interruption could come while this hook still waits.
            _thread.start_new_thread(interrupt, ())

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        time.sleep(_PAUSE)
        while _is_within(hook, sys._current_frames().get(main)):
            time.sleep(_PAUSE)
        if at_work:
            # To the main thread itself: what it waits for is interrupted.
            signal.pthread_kill(main, signal.SIGINT)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        at_work = False
        sys.unraisablehook = report


def _is_within(function: Any, frame: FrameType | None) -> bool:
    """Whether a frame is a function's, or one that it called."""
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False
