"""Deliberate faults, one at a time, each of which some check must catch. A fault that survives is a missing check."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from parity import suite, tolerances
from parity.mutants import (
    in_arena,
    in_attention,
    in_compare,
    in_data,
    in_game,
    in_memory,
    in_models,
    in_runs,
    in_shapes,
    in_training,
    in_transforms,
    node,
)
from parity.mutants.fault import Mutant, OutdatedMutant, applied
from parity.registry import Check

ALL: tuple[Mutant, ...] = (
    *in_models.MUTANTS,
    *in_attention.MUTANTS,
    *in_memory.MUTANTS,
    *in_training.MUTANTS,
    *in_transforms.MUTANTS,
    *in_arena.MUTANTS,
    *in_compare.MUTANTS,
    *in_data.MUTANTS,
    *in_game.MUTANTS,
    *in_runs.MUTANTS,
    *in_shapes.MUTANTS,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        mutant: the fault.
        caught_by: the check that noticed, or None.
        how: the worst measurement there, or the error that was raised.
        seconds: how long it took.
    """

    mutant: Mutant
    caught_by: str | None
    how: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether some check noticed."""
        return self.caught_by is not None


@functools.cache
def checks_by_name() -> dict[str, Check]:
    """Every check of the suite."""
    return {check.name: check for check in suite.all_checks()}


def first_failure(check: Check) -> str | None:
    """Run a check until something is wrong: what that is, or None."""
    tolerance = check.tolerance
    if tolerance is None:
        tolerance = tolerances.load()[check.name]["tolerance"]
    try:
        for measurement in check.run():
            if math.isnan(measurement.error) or measurement.error > tolerance:
                return f"{measurement.where}: {measurement.error:.1e}"
    except OutdatedMutant:
        raise
    except Exception as error:
        # The fault made the library, or the comparison, stop with an error: noticed as well.
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"
    return None


def is_node(check: str) -> bool:
    """Whether a check is a pytest node: these compile whole runs, and are slow."""
    return "::" in check


def node_failure(mutant: Mutant, name: str) -> str | None:
    """Run a pytest node in a process that has the fault: the line that tells its failure, or None where it passes."""
    code, output = node.run(mutant.name, [name])
    if code == 0:
        return None
    lines = [line for line in output.splitlines() if line.startswith(("E  ", "FAILED", "ERROR"))]
    # 1 is pytest's code for tests that ran and failed; a process that broke off before has it too, and no such line.
    if code != 1 or not lines:
        raise OutdatedMutant(f"{name} cannot be run: {output.strip().splitlines()[-1:]}")
    return " ".join(lines[0].split())[:100]


def failure(mutant: Mutant, name: str) -> str | None:
    """Ask one check about a fault: what it noticed, or None."""
    if is_node(name):
        return node_failure(mutant, name)
    with applied(mutant):
        return first_failure(checks_by_name()[name])


def run_one(mutant: Mutant) -> Outcome:
    """Put the fault in and ask its checks."""
    start = time.perf_counter()
    try:
        for name in mutant.checks:
            how = failure(mutant, name)
            if how is not None:
                return Outcome(mutant, name, how, time.perf_counter() - start)
    except OutdatedMutant as error:
        return Outcome(mutant, None, f"has to be written anew: {error}", time.perf_counter() - start)
    return Outcome(mutant, None, "survived", time.perf_counter() - start)


def run_all(tell: Callable[[str], None]) -> list[Outcome]:
    """Every fault, told as it goes."""
    outcomes = []
    for mutant in ALL:
        outcome = run_one(mutant)
        outcomes.append(outcome)
        by = outcome.caught_by or "NOBODY"
        tell(f"{mutant.name:<52}  {by:<50}  {outcome.how}")
    return outcomes


def summary_line(outcomes: Sequence[Outcome], seconds: float) -> str:
    """One line."""
    caught = sum(outcome.caught for outcome in outcomes)
    return f"\n{caught} of {len(outcomes)} faults caught, {seconds:.0f} s"


def as_plain(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {"fault": o.mutant.name, "in": o.mutant.where, "caught by": o.caught_by, "how": o.how, "seconds": o.seconds}
        for o in outcomes
    ]


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """A table: the fault, where it was put, which check caught it."""
    lines = ["", "| fault | in | caught by | how |", "| --- | --- | --- | --- |"]
    for o in outcomes:
        how = o.how.replace("|", "\\|")
        lines.append(f"| {o.mutant.name} | `{o.mutant.where}` | {o.caught_by or '**nobody**'} | {how} |")
    return "\n".join(lines) + "\n"
