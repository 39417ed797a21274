"""One search for a batch size beside training: what it goes by is fixed when it begins, so that no clock decides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.batch_search import BatchChoice, Compile, NothingFitsError, largest_batch
from arena_jax.runtime.program import Program, is_out_of_memory


class SizeSearch(NamedTuple):
    """A search for the largest batch that some memory allows, with all that it goes by.

    Attributes:
        name: the model.
        step: what is compiled; jitted anew for every program, so that one can be let go of.
        arguments: ``batch size -> (abstract) arguments of the step``.
        sizes: the batch sizes to choose from, rising.
        programs: by size as they were when the search began; the search adds its own. None: the compiler refused.
        earlier: searches for the same model that were abandoned while they compiled; what they compiled is known, too.
        budget: bytes per device of everything.
        resident: bytes per device that are there whatever the batch size, less the model's own arguments and results.
        margin: added to what the compiler reports, as a part of it.
        smallest: ``(resident, margin)`` by which the smallest size is taken where nothing fits; None: that is an error.
        start: the size to compile first where none is known.
        compile_program: ``(step, *arguments) -> Program``.
    """

    name: str
    step: Callable[..., Any]
    arguments: Callable[[int], Sequence[Any]]
    sizes: tuple[int, ...]
    programs: dict[int, Program | None]
    earlier: tuple[Future[BatchChoice], ...]
    budget: int
    resident: int
    margin: float
    smallest: tuple[int, float] | None
    start: int | None
    compile_program: Compile


def run(search: SizeSearch) -> BatchChoice:
    """Search, and compile the size that is chosen where its program has been let go of since.

    Args:
        search: what it goes by; its ``programs`` grow.

    Returns:
        The choice, its program alive.

    Raises:
        ArenaError: nothing fits.
    """
    for future in search.earlier:
        if future.done() and not future.exception():
            search.programs.update(future.result().programs)
    programs: dict[int, Program] = {}
    compilations = 0
    while True:
        choice = _choose(search)
        programs |= choice.programs
        search.programs.update(choice.programs)
        size, compilations = choice.batch_size, compilations + choice.compilations
        if choice.program.executable is not None:
            return choice._replace(programs=programs, compilations=compilations)
        compilations += 1  # known from before, and evicted since
        try:
            program = search.compile_program(search.step, *search.arguments(size))
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            search.programs[size] = None
            continue
        search.programs[size] = programs[size] = program
        if program.bytes.with_code == choice.program.bytes.with_code:  # what was chosen stands, and its reason
            return choice._replace(program=program, programs=programs, compilations=compilations)


def run_without_compiling(search: SizeSearch) -> BatchChoice | None:
    """Answer a search that compiles nothing, which need not wait for another model's compilation.

    Args:
        search: what it goes by.

    Returns:
        The choice; None where something must be compiled, or nothing fits.
    """

    def refuse(*_: Any) -> Program:
        raise _MustCompileError

    try:
        return run(search._replace(compile_program=refuse, programs=dict(search.programs)))
    except (_MustCompileError, ArenaError):
        return None


class _MustCompileError(Exception):
    """A search asks about a size that nobody has compiled yet."""


def _choose(search: SizeSearch) -> BatchChoice:
    try:
        return _largest(search, search.sizes)
    except NothingFitsError as error:
        if search.smallest is None:
            raise
        resident, margin = search.smallest
        programs = search.programs | error.programs | dict.fromkeys(error.refused)
        choice = _largest(search._replace(resident=resident, margin=margin, programs=programs), search.sizes[:1])
        compilations = choice.compilations + len(error.programs) + len(error.refused)
        return choice._replace(programs=error.programs | choice.programs, compilations=compilations)


def _largest(search: SizeSearch, sizes: Sequence[int]) -> BatchChoice:
    return largest_batch(
        search.step,
        search.arguments,
        search.budget,
        resident=search.resident,
        name=search.name,
        sizes=sizes,
        margin=search.margin,
        programs=search.programs,
        start=search.start,
        compile_program=search.compile_program,
    )
