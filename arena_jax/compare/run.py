"""A whole comparison in one call: every cell that is not over, and the result where all are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arena_jax.compare.engine import all_cells, results, run_cells
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.plan import Plan
from arena_jax.compare.plan_file import plan_from, read_plan
from arena_jax.config.errors import ArenaError


def compare(
    plan: Plan | Mapping[str, Any] | str | Path, folder: str | Path, show: Callable[[str], Any] = lambda line: None
) -> dict[str, Any]:
    """Run a comparison to its end.

    Args:
        plan: a TOML file, the same as dictionaries, or a plan.
        folder: of the study; one that was stopped goes on.
        show: is given a line per run.

    Returns:
        What ``result.json`` of the command line holds: ``comparisons`` with ``verdict`` and ``sentence``, ``cells``
        with their curves, ``tuning``, ``plan`` and ``identity``.

    Raises:
        ArenaError: a plan that compares nothing; a folder of another study; a run that failed.
        Stopped: Ctrl-C or SIGTERM came; the same call goes on.
    """
    if isinstance(plan, Mapping):
        plan = plan_from(plan)
    elif not isinstance(plan, Plan):
        plan = read_plan(plan)
    ledger = Ledger(Path(folder))
    progress = run_cells(plan, ledger, all_cells(plan), show=show)
    if not progress.recorded:
        raise ArenaError(f"{progress.text()}; the same call goes on")
    return results(plan, ledger)
