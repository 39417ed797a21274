"""Tolerances: fixed ones for float64, measured ones for the rest, which only ever tighten.

``tolerances.json`` keeps, for each row of the report, what was measured and what is allowed. The command with
``--record``
fills in rows that have no entry and tightens those whose measurement has improved; it loosens none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from parity.report import Row

FILE = Path(__file__).with_name("tolerances.json")
FACTOR = 4.0  # the most that a tolerance may exceed its measurement
UNIT = {
    "float32": 2.0**-23,
    "bfloat16": 2.0**-7,
    "float64": 2.0**-52,
}  # one unit in the last place: never asked for less


def load() -> dict[str, dict[str, float]]:
    """{row key: {"measured", "tolerance"}}."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def allowed(measured: float, dtype: str) -> float:
    """The loosest tolerance for a measurement."""
    return max(FACTOR * measured, UNIT[dtype])


def record(rows: Iterable[Row]) -> list[str]:
    """Write what was measured; returns the keys that are new or tighter."""
    table, changed = load(), []
    for row in rows:
        if row.dtype == "float64" or not math.isfinite(row.error) or row.fixed:
            continue
        tolerance = float(f"{allowed(row.error, row.dtype) * 0.99:.3g}")
        tolerance = max(tolerance, UNIT[row.dtype])
        if row.key not in table or tolerance < table[row.key]["tolerance"]:
            table[row.key] = {"measured": row.error, "tolerance": tolerance}
            changed.append(row.key)
    FILE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    return changed
