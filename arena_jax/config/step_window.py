"""A stretch of a run, in steps: `10:20`."""

from __future__ import annotations

import re

from arena_jax.config.errors import ArenaError


def parse_steps(text: str, what: str) -> tuple[int, int]:
    """The two ends of a stretch: after how many steps it begins, and after how many it ends.

    Args:
        text: such as ``"10:20"``: the ten steps after the tenth.
        what: how the message should call it.

    Raises:
        ArenaError: no such stretch.

    Example:
        >>> parse_steps("10:20", "profile")
        (10, 20)
        >>> parse_steps("20:10", "profile")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: profile is '20:10'; give FROM:TO in steps, e.g. 10:20 for the ten steps after the tenth
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    ends = (int(match[1]), int(match[2])) if match else (0, 0)
    if ends[0] >= ends[1]:
        raise ArenaError(f"{what} is {text!r}; give FROM:TO in steps, e.g. 10:20 for the ten steps after the tenth")
    return ends
