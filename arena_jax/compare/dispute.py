"""An arm of one's own beside a published result, judged by the plan that the result was made by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.compare.cells import Cell
from arena_jax.compare.identity import changed, identity
from arena_jax.compare.ledger import FORMAT, Ledger
from arena_jax.compare.plan import Plan
from arena_jax.compare.plan_file import plan_from, plan_to_dict
from arena_jax.config.errors import ArenaError, first_line
from arena_jax.runs.records import decode


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result.

    Args:
        path: ``result.json``, or the folder of its study.

    Raises:
        ArenaError: it cannot be read, or is none.
    """
    file = Path(path) / "result.json" if Path(path).is_dir() else Path(path)
    try:
        result = decode(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot read the result '{file}': {first_line(error)}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT or "comparisons" not in result:
        raise ArenaError(f"'{file}' is no result of a comparison; give a study's result.json")
    return result


def disputed_plan(result: Mapping[str, Any], function: str, name: str, field: str = "configure") -> Plan:
    """The plan of a dispute: that of the result, its baseline, and one new arm.

    Args:
        result: as `read_result` gives it.
        function: of the new arm, ``FILE.py:NAME``.
        name: of the new arm.
        field: what the function is: "configure" or "train".

    Raises:
        ArenaError: the result has an arm of that name; or the arm is none (see `Plan`).
    """
    plan = dict(result["plan"])
    if name in plan["arms"]:
        raise ArenaError(f"the result has an arm '{name}' already: give the file another name")
    baseline = plan["baseline"]
    return plan_from({**plan, "arms": {baseline: plan["arms"][baseline], name: {field: function}}})


def take_over(result: Mapping[str, Any], plan: Plan, ledger: Ledger) -> list[str]:
    """Take the baseline's runs from a result, where this program on this machine would make the same.

    Args:
        result: as `read_result` gives it.
        plan: of the dispute.
        ledger: of the dispute; what it has stays.

    Returns:
        Why the baseline has to run again, in words; empty where it was taken over.
    """
    now = identity(plan)
    different = [text for text in changed(result["identity"], now) if "plan" not in text and "functions" not in text]
    sources = {place: digest for place, digest in now["functions"].items() if place.startswith(f"{plan.baseline}.")}
    before = {place: digest for place, digest in result["identity"]["functions"].items() if place in sources}
    if sources != before:
        different.append("the source of the baseline's function")
    if plan.outcome.timed:
        different.append("the machine that seconds are measured on")
    if different:
        return different
    ledger.freeze(plan_to_dict(plan), now)
    records = [*result["cells"][plan.baseline], *result["trials"]]
    for record in records:
        cell = Cell(**record["cell"])
        if cell.arm == plan.baseline and ledger.read(cell) is None:
            ledger.write(cell, {key: value for key, value in record.items() if key != "cell"})
    return []


def agreement(result: Mapping[str, Any], ledger: Ledger) -> str:
    """Whether a baseline that ran again has the outcomes that were published."""
    records = result["cells"][result["plan"]["baseline"]]
    again = [ledger.read(Cell(**record["cell"])) for record in records]
    pairs = [(record["outcome"], other["outcome"]) for record, other in zip(records, again, strict=True) if other]
    same = sum(a == b or (a != a and b != b) for a, b in pairs)
    return f"the baseline has the published outcome in {same} of {len(pairs)} runs made here"
