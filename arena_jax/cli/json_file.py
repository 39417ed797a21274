"""The numbers of an action as a JSON file: whether it can be written is known before the work, and it is written after.

What there is no number for is null in it.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError


def check(output: str | None) -> None:
    """Refuse a file that could not be written, before anything is computed for it.

    Args:
        output: its name; None: nothing is written.

    Raises:
        ArenaError: its folder is not there, or may not be written to, or it is a folder itself.
    """
    if output is None:
        return
    path = Path(output)
    if path.is_dir() or not path.parent.is_dir():
        raise ArenaError(f"cannot write '{path}': give a file in a folder that exists with --output")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ArenaError(f"cannot write '{path}': permission denied; give another --output")


def write(output: str | None, values: Any) -> None:
    """Write the file.

    Args:
        output: its name; None: nothing is written.
        values: dictionaries, lists and named tuples of texts and numbers.

    Raises:
        ArenaError: it cannot be written.
    """
    if output is None:
        return
    text = json.dumps(finite(values), indent=1, allow_nan=False, ensure_ascii=False)
    try:
        Path(output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write '{output}': {error.strerror or error}; give another --output") from None


def finite(value: Any) -> Any:
    """With None for numbers that JSON does not have, and named fields.

    Example:
        >>> finite({"low": float("nan"), "runs": [1, float("inf")]})
        {'low': None, 'runs': [1, None]}
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
