"""Rows of text in columns, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = (), rule: bool = False) -> list[str]:
    """Lay rows out in columns, two blanks in front.

    Args:
        rows: texts; all rows have as many.
        right: the columns that are flush right, by index.
        rule: whether a line stands under the first row.

    Returns:
        A line for each row, without blanks at its end.

    Example:
        >>> print(*columns([("model", "loss"), ("bert", "1.25")], right=(1,), rule=True), sep="\\n")
          model  loss
          ─────  ────
          bert   1.25
    """
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush = set(right)
    lines = [
        "  " + "  ".join(f"{cell:>{widths[i]}}" if i in flush else f"{cell:{widths[i]}}" for i, cell in enumerate(row))
        for row in rows
    ]
    lines = [line.rstrip() for line in lines]
    if rule:
        lines.insert(1, "  " + "  ".join("─" * width for width in widths))
    return lines
