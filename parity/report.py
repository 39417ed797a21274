"""The report: rows, and how they are written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARKS = ("<!-- parity: begin -->", "<!-- parity: end -->")
COLUMNS = ("layer", "family", "task", "dtype", "worst error", "tolerance", "where")


@dataclasses.dataclass(frozen=True)
class Row:
    """One check on one family, task and dtype."""

    layer: str
    family: str
    task: str
    dtype: str
    error: float
    tolerance: float
    where: str
    comparisons: int
    seconds: float
    fixed: bool = False

    @property
    def key(self) -> str:
        """What the tolerance table files it under."""
        return "/".join((self.layer, self.family, self.task, self.dtype))

    def with_tolerance(self, tolerance: float) -> Row:
        """The same measurement under another tolerance."""
        return dataclasses.replace(self, tolerance=tolerance)

    @property
    def passed(self) -> bool:
        """A row that compared nothing has not passed."""
        return self.comparisons > 0 and self.error <= self.tolerance


def number(value: float) -> str:
    """Short: 0, 3.1e-12, inf."""
    return "0" if value == 0 else f"{value:.1e}"


def limit(tolerance: float) -> str:
    """A tolerance; without one the error is reported and nothing is demanded."""
    return "reported" if math.isinf(tolerance) else number(tolerance)


def cells(row: Row) -> tuple[str, ...]:
    """The row as it is printed."""
    where = row.where if row.passed else f"FAILED: {row.where}"
    return (row.layer, row.family, row.task, row.dtype, number(row.error), limit(row.tolerance), where)


def as_text(rows: Sequence[Row]) -> str:
    """Aligned columns for a terminal."""
    table = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table)


def as_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(cells(row) for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def summary(rows: Sequence[Row]) -> list[Row]:
    """The worst row of each layer and dtype: the table of docs/reference/parity.md, in the order of the checks."""
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        old = worst.get((row.layer, row.dtype))
        if old is None or _badness(row) > _badness(old):
            worst[row.layer, row.dtype] = row
    return list(worst.values())


def _badness(row: Row) -> tuple[bool, float]:
    return (not row.passed, row.error)


def as_json(rows: Sequence[Row], extra: dict[str, Any]) -> str:
    """Everything, for machines; an infinite error is the string "inf"."""

    def plain(row: Row) -> dict[str, Any]:
        fields = {**dataclasses.asdict(row), "passed": row.passed}
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}

    return json.dumps({**extra, "rows": [plain(row) for row in rows]}, indent=1) + "\n"


def write(folder: Path, rows: Sequence[Row], extra_text: str, extra: dict[str, Any], name: str = "parity") -> None:
    """NAME.json and NAME.md in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(as_json(rows, extra))
    text = "# Parity with PyTorch\n"
    if rows:
        text += "\nThe worst of each layer:\n\n" + as_markdown(summary(rows)) + "\nEvery check:\n\n" + as_markdown(rows)
    (folder / f"{name}.md").write_text(text + extra_text)


def has_place(file: Path) -> bool:
    """Whether a file has the marks that the table stands between."""
    text = file.read_text()
    return MARKS[0] in text and MARKS[1] in text


def write_between(file: Path, table: str) -> None:
    """Replace what stands between the parity marks of a file, which has them; nothing else changes."""
    text = file.read_text()
    before, rest = text.split(MARKS[0], 1)
    file.write_text(before + MARKS[0] + "\n" + table + MARKS[1] + rest.split(MARKS[1], 1)[1])
