"""What is known of the programs of one model while it has one shape, and how much memory their code takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from arena_jax.runtime.program import Program


class ModelPrograms(NamedTuple):
    """Of one model, while it has one shape; see :meth:`arena_jax.runtime.executables.Executables.replace`.

    Attributes:
        params: shapes of its parameters.
        programs: ``{batch size: what was compiled}``.
        alive: ``{batch size: executable}``.
        not_run: batch sizes whose first run is still to be measured.
        limits: its margin and its ceiling.
        resident: bytes per device that all models take with this shape of it.
    """

    params: Any
    programs: dict[int, Program]
    alive: dict[int, Any]
    not_run: set[int]
    limits: tuple[float, int | None]
    resident: int


def code_bytes(programs: Mapping[str, Mapping[int, Program]], others: Mapping[str, int], keep: int) -> int:
    """Bytes per device of the code of all programs that may be alive beside those in force.

    Of each model as many as may be kept count, each as large as the largest it had so far, or where it had none, as
    the largest of all.

    Args:
        programs: ``{model: {batch size: program}}``, all that were compiled.
        others: ``{program: bytes of its code}`` of what lives beside them.
        keep: programs per model that stay alive.
    """
    largest = {
        name: max((program.bytes.code for program in of_model.values()), default=0)
        for name, of_model in programs.items()
    }
    of_all = max(*largest.values(), *others.values(), 0)
    return sum(others.values()) + (keep - 1) * sum(size or of_all for size in largest.values())


def of_size(name: str, size: int, program: Program) -> Program:
    """A program under the name that records know it by."""
    return program._replace(name=f"gradients of {name} in batches of {size}")
