"""The engine: runs the cells of a plan that are not over yet, in this process, and says what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena_jax.compare.cells import Cell, Share, final_cells, tuning_cells
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.plan import Plan
from arena_jax.compare.tuning import choose
from arena_jax.config.errors import ArenaError


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        cells: all of them.
        over: those that are finished or diverged.
        failed: ``{cell: error}`` of those that failed in this start; the next one tries them again.
        busy: that other processes are at work on.
        waiting: that need the tuning cells of other shares.
    """

    cells: list[Cell]
    over: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    busy: int = 0
    waiting: int = 0

    @property
    def recorded(self) -> bool:
        """Whether there is a record of every cell, of a failure if not of a run that is over."""
        return self.over + len(self.failed) == len(self.cells)

    @property
    def complete(self) -> bool:
        """Whether every cell is over."""
        return self.over == len(self.cells)

    def text(self) -> str:
        """What is left, in words."""
        if self.complete:
            return f"all {len(self.cells)} runs are over"
        left = f"{self.over} of {len(self.cells)} runs are over"
        if self.failed:
            name, error = next(iter(self.failed.items()))
            left += f"; {len(self.failed)} failed ({name}: {error}), and the next start tries them again"
        if self.busy:
            left += f"; other processes are at work on {self.busy}"
        if self.waiting:
            left += f"; {self.waiting} wait until all trials of their arm are over: start again then"
        return left


def all_cells(plan: Plan) -> list[Cell]:
    """Every run of a plan, those of tuning first."""
    return [*tuning_cells(plan), *final_cells(plan)]


def run_cells(
    plan: Plan,
    ledger: Ledger,
    cells: Sequence[Cell],
    *,
    share: Share = Share(),  # noqa: B008 - immutable
    keep_runs: bool = False,
    show: Callable[[str], Any] = lambda line: None,
) -> Progress:
    """Run what is not over yet.

    Args:
        plan: of the study.
        ledger: its folder.
        cells: in the order in which they run; trials come before the final runs of their arm.
        share: of this process.
        keep_runs: leave the runs' folders in the ledger's ``work``.
        show: is given a line per run.

    Returns:
        How far the cells are.

    Raises:
        ArenaError: the folder holds another study, or cannot be written.
        Stopped: Ctrl-C or SIGTERM came; the next start goes on.
    """
    from arena_jax.compare.cell_run import run_cell
    from arena_jax.compare.identity import identity
    from arena_jax.compare.plan_file import plan_to_dict
    from arena_jax.runs.lock import Busy

    content, hashes = plan_to_dict(plan), identity(plan)
    ledger.freeze(content, hashes)
    progress, queue = Progress(list(cells)), list(share.of(cells))
    spent: list[float] = []
    for number, cell in enumerate(queue, start=1):
        if ledger.over(cell):
            continue
        settings = _settings(plan, ledger, cell)
        if settings is None:
            continue  # counted below, when all others of this share are over
        try:
            with ledger.working(cell) as folder:
                if ledger.over(cell):  # another process was quicker
                    continue
                show(f"{number} of {len(queue)}: {cell.name}")
                config = plan.config(cell.arm, settings, cell.seed)
                record = run_cell(plan.arm(cell.arm), config, plan.outcome, folder)
                ledger.freeze(content, hashes)  # refuses where another plan has taken the folder meanwhile
                ledger.write(cell, {"settings": settings, **record})
                if not keep_runs:
                    ledger.empty(cell)
        except Busy:
            continue
        spent.append(record["wall"])
        left = sum(not ledger.over(later) for later in queue[number:])
        show(_line(number, len(queue), cell, record, left * sum(spent) / len(spent)))
        if record["status"] == "failed":
            progress.failed[cell.name] = record["error"]
    for cell in cells:
        if ledger.over(cell):
            progress.over += 1
        elif ledger.busy(cell):
            progress.busy += 1
        elif _settings(plan, ledger, cell) is None:
            progress.waiting += 1
    if not keep_runs and progress.complete and all(ledger.over(cell) for cell in all_cells(plan)):
        ledger.tidy()
    return progress


def _settings(plan: Plan, ledger: Ledger, cell: Cell) -> dict[str, Any] | None:
    """The settings of a trial, or those that tuning chose; None while it has not."""
    if cell.trial is not None:
        return plan.trials(cell.arm)[cell.trial]
    choice = choose(plan, cell.arm, ledger.read)
    return None if choice is None else choice["settings"]


def _line(number: int, count: int, cell: Cell, record: dict[str, Any], left: float) -> str:
    outcome = record["outcome"]
    text = record["error"] or ("never reached" if outcome == float("inf") else f"{outcome:.4g}")
    rest = f", about {_minutes(left)} left" if left else ""
    return f"{number} of {count}: {cell.name} {record['status']}, {text} ({record['wall']:.0f} s{rest})"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def estimate(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """What a study takes, from the cells that are over.

    Returns:
        ``cells``, ``over``, ``seconds`` that are left in one process and ``bytes`` on disk at the end, both None before
        the first cell is over; and ``arms`` ``{name: its runs}``.
    """
    cells = all_cells(plan)
    records = [record for cell in cells if (record := ledger.read(cell)) is not None and record["status"] != "failed"]
    seconds = size = None
    if records:
        seconds = sum(record["wall"] for record in records) / len(records) * (len(cells) - len(records))
        lines = sum(file.stat().st_size for file in (ledger.folder / "cells").glob("*.json"))
        # A run's folder goes when its line is written: one at a time in each process.
        size = lines / len(records) * len(cells) + max(record["bytes"] for record in records)
    arms = {arm.name: sum(cell.arm == arm.name for cell in cells) for arm in plan.arms}
    return {"cells": len(cells), "over": len(records), "seconds": seconds, "bytes": size, "arms": arms}


def final_records(plan: Plan, ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """The final runs by arm, in the order of the plan's seeds.

    Raises:
        ArenaError: one is not over.
    """
    records: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in plan.arms}
    for cell in final_cells(plan):  # seeds in the plan's order
        record = ledger.read(cell)
        if record is None:
            raise ArenaError(f"the run {cell.name} is not over: verdicts are given when all are, not before")
        records[cell.arm].append(record)
    return records


def results(plan: Plan, ledger: Ledger, **about: Any) -> dict[str, Any]:
    """What ``result.json`` holds: the study, what was chosen, every cell, the verdicts, and each model by itself.

    Args:
        plan: of the study.
        ledger: its folder.
        **about: what else is to be kept; ``others`` are p-values that count in Holm's correction.

    Raises:
        ArenaError: a run is not over.
    """
    from arena_jax.compare.by_model import by_model
    from arena_jax.compare.verdict import judge

    records, study = final_records(plan, ledger), ledger.study()
    assert study is not None
    return {
        **study,
        "tuning": {arm.name: choose(plan, arm.name, ledger.read) for arm in plan.arms} if plan.tuning else {},
        "cells": records,
        "trials": [ledger.read(cell) for cell in tuning_cells(plan)],
        "comparisons": judge(plan, records, about.get("others", ())),
        "by_model": by_model(plan, records),
        **about,
    }
