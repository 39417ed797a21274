"""Lists that a file of separated values holds as text, as pandas writes them: "['a', 'b']"."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

# NumPy's arrays have blanks between their items, which Python would read as one text.
_ARRAY = re.compile(r"""['"\w.]\s+['"\w]""")


def lists_of(values: Sequence[Any]) -> list[Any] | None:
    """The lists that a column of texts stands for.

    Args:
        values: of the column.

    Returns:
        A list for each text, and an empty one for an empty text; where one cannot be read, the text as it stands. None
        where not every text is in square brackets.

    Example:
        >>> lists_of(["['a', 'b']", "[]", ""]), lists_of(["a", "[b]"])
        ([['a', 'b'], [], []], None)
    """
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    if not texts or not all(text[0] == "[" and text[-1] == "]" for text in texts):
        return None
    return [_list(value) if isinstance(value, str) else value for value in values]


def _list(text: str) -> Any:
    if not text.strip():
        return []
    try:
        read = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    outside = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    return text if _ARRAY.search(outside) or not isinstance(read, list) else read
