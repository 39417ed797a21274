"""What counts as a number and as a count where a transformation is built."""

from __future__ import annotations

import math
import operator
from typing import Any


def is_real(value: Any) -> bool:
    """Whether a value is a finite number; texts, booleans, None, NaN and infinities are not.

    Example:
        >>> is_real(0.2), is_real("0.2"), is_real(None), is_real(float("nan"))
        (True, False, False, False)
    """
    if isinstance(value, str | bytes | bool):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number, `least` or more.

    Example:
        >>> is_count(2), is_count(1.5), is_count(0), is_count(True)
        (True, False, False, False)
    """
    if isinstance(value, bool):
        return False
    try:
        return operator.index(value) >= least
    except TypeError:
        return False
