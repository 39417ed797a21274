"""Ctrl-C that Python would lose: it is raised wherever the program is, in a garbage collector's callback too."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
            # To the main thread itself: what it waits for is interrupted.
            main = threading.main_thread().ident
            timer = threading.Timer(_PAUSE, signal.pthread_kill, (main, signal.SIGINT))
            timer.daemon = True
            timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        at_work = False
        sys.unraisablehook = report
