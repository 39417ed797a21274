"""What the narration says of steps that were skipped and of models that diverged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def skipped(record: Record) -> list[str]:
    """Which models sat out steps since the last line.

    Example:
        >>> skipped({"models": {"bert": {"skipped": 0}, "gpt2": {"skipped": 3}}})
        ['  ! gpt2 sat out 3 steps: its loss or gradient was not finite']
    """
    counts = {name: metrics.get("skipped", 0) for name, metrics in record["models"].items()}
    return [
        f"  ! {name} sat out {_times(count, 'step')}: its loss or gradient was not finite"
        for name, count in counts.items()
        if count
    ]


def totals(records: Sequence[Record]) -> list[str]:
    """Which models sat out steps in the whole run, and what became of them.

    Example:
        >>> totals([{"kind": "train", "step": 9, "models": {"gpt2": {"skipped": 3}}}])
        ['gpt2 sat out 3 of 9 steps']
    """
    trains = [record for record in records if record["kind"] == "train"]
    lines = []
    for name in dict.fromkeys(name for record in trains for name in record["models"]):
        intervals = [record["models"].get(name, {}) for record in trains]
        count = sum(metrics.get("skipped", 0) for metrics in intervals)
        if not count:
            continue
        # A competition's steps are rounds, its models count their own.
        line = f"{name} sat out {count:,} of {intervals[-1].get('steps', trains[-1]['step']):,} steps"
        events = [r for r in records if r["kind"] == "trouble" and r.get("what") == "non-finite" and r["model"] == name]
        back = sum(record["action"] == "restore" for record in events)
        line += f"; it went back {_times(back, 'time')}" if back else ""
        frozen = [record["step"] for record in events if record["action"] == "freeze"]
        lines.append(line + (f"; frozen at step {frozen[0]:,}" if frozen else ""))
    return lines


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
