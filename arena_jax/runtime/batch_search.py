"""The largest batch that fits a budget, in about three compilations: the paper's equation 7."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.memory import format_bytes, parse_bytes
from arena_jax.runtime.program import Program, compile_program
from arena_jax.runtime.size_interval import SizeInterval

if TYPE_CHECKING:
    from arena_jax.runtime.target import Target

Compile = Callable[..., Program]


class NothingFitsError(ArenaError):
    """Not even the smallest size fits.

    Attributes:
        programs: of every size that the search compiled.
        refused: sizes that the compiler refused in it.
    """

    def __init__(self, message: str, programs: dict[int, Program], refused: frozenset[int]):
        super().__init__(message)
        self.programs, self.refused = programs, refused


class BatchChoice(NamedTuple):
    """A batch size that was compiled and fits, and how the search ended there.

    Attributes:
        batch_size: the size.
        program: of that size.
        programs: of every size that this search compiled; sizes the compiler refused are not in it.
        compilations: how many this search paid for, refused ones included.
        reason: one line for the log.
    """

    batch_size: int
    program: Program
    programs: dict[int, Program]
    compilations: int
    reason: str


def largest_batch(
    step: Callable[..., Any],
    arguments_at: Callable[[int], Sequence[Any]],
    budget: int | float | str,
    *,
    resident: int = 0,
    name: str = "model",
    sizes: Sequence[int] | None = None,
    limit: int = 4096,
    margin: float = 0.0,
    programs: Mapping[int, Program | None] | None = None,
    start: int | None = None,
    compile_program: Compile = compile_program,
    target: Target | None = None,
) -> BatchChoice:
    """Find the largest batch whose step fits into a memory budget, without running it.

    b = max {b : (1 + margin)·(μ(b) + code) + resident ≤ budget}

    A training step needs an amount that is affine in its batch. So a small batch is compiled first; a second size,
    which fits if the line through the first starts at or above zero, gives the slope; a third confirms the answer.
    Where three sizes lie on a line, it is trusted for the next size too, unless the edge is within the noise.
    Where the line bends, the interval between the largest size known to fit and the smallest known not to is divided
    until it is closed, or until no size in it is 2 % larger. What is returned has always been compiled and never needs
    more than the budget.

    Where bytes an example differ widely between the sizes compiled, the need rises in stairs, as of a kernel that works
    in tiles of 8 or 32 examples: no line is trusted, and multiples of 32 and 8 are looked at first, also beyond a size
    that does not fit, as they may need less. That takes some 8 compilations, and up to 1 in 100 such searches still end
    below 0.95 of the largest size, as those compiled happened to lie on a line (`benchmarks/batch_search.py`).

    Args:
        step: the step, jitted with its own donation, or a plain function.
        arguments_at: ``batch size -> (abstract) arguments of the step``.
        budget: bytes, ``"40GB"``, or a fraction of the device's limit; see `memory.parse_bytes`.
        resident: bytes on the device that are no arguments of this step: other models, optimizer states, the
            code of other executables.
        name: the model, for messages.
        sizes: the sizes to choose from, if not any up to ``limit``.
        limit: the largest size to consider when ``sizes`` is not given.
        margin: added to what the compiler reports, as a part of it; `memory.calibrate` is to measure it on a
            GPU (none has run it yet); for a CPU see docs/guides/memory.md.
        programs: ``{size: program}`` of those that are already compiled; they cost nothing. None: the compiler refused.
        start: the size to compile first where none is known, such as what a model of the same kind was given: near
            the answer, two compilations are enough. The second of the sizes if not given.
        compile_program: ``(step, *arguments) -> Program``; by default `arena_jax.runtime.compile_program`.
        target: GPUs that are not here, from `arena_jax.runtime.target`, to compile for instead. A budget that is a part
            is one of their memory. Arguments without a sharding lie whole on each of them.

    Returns:
        The choice. Its programs are the ones to train with.

    Raises:
        NothingFitsError: even the smallest size does not fit; an ArenaError that holds what was compiled.
        ArenaError: the margin is negative, sizes are no positive integers,
            ``arguments_at`` gives no tuple, or no shapes that differ where the need does not rise with the batch.

    Example:
        >>> import jax.numpy as jnp
        >>> step = jax.jit(lambda w, x: jnp.sum(jnp.sort(jnp.tanh(x @ w), axis=-1)))
        >>> def arguments_at(b):
        ...     return jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((b, 64), jnp.float32)
        >>> choice = largest_batch(step, arguments_at, "1MB")
        >>> choice.program.bytes.total <= 1_000_000, choice.compilations <= 3
        (True, True)

    Source: ModelArena, equation 7; the search is this project's.
    """
    if target is not None:
        compile_program = target.compile_program
    budget_bytes = parse_bytes(budget) if target is None else target.bytes_of(budget)
    if not 0 <= margin < math.inf:
        raise ArenaError(f"{name}: the margin is {margin}; it must be 0 or more, as a part of the estimate")
    candidates: Sequence[int] = _rising(name, sizes) if sizes is not None else range(1, limit + 1)
    if not candidates or candidates[0] < 1:
        raise ArenaError(f"{name}: batch sizes {list(candidates)[:5]} hold nothing to choose from; give positive sizes")
    arguments_at = _checked(name, arguments_at)

    def compile_size(size: int) -> Program:
        return compile_program(step, *arguments_at(size))

    search = SizeInterval(compile_size, candidates, (budget_bytes - resident) / (1 + margin), programs or {}, start)
    index = search.run()
    if index is None:
        smallest = search.programs.get(candidates[0])
        need = (
            format_bytes(smallest.bytes.with_code * (1 + margin)) if smallest else "more than the compiler could place"
        )
        left = format_bytes(budget_bytes - resident)
        raise NothingFitsError(
            f"{name}: its smallest batch ({candidates[0]}) needs {need}, but the budget of "
            f"{format_bytes(budget_bytes)} leaves {left} beside the {format_bytes(resident)} already resident; "
            "raise the budget, shorten the sequences or train fewer models",
            search.compiled,
            frozenset(search.order) - search.compiled.keys(),
        )
    is_largest = index == len(candidates) - 1
    if is_largest:
        _check_rising(name, arguments_at, search.programs)
    batch_size = candidates[index]
    program = search.programs[batch_size]
    assert program is not None
    return BatchChoice(
        batch_size=batch_size,
        program=program,
        programs=search.compiled,
        compilations=search.compilations,
        reason=(
            f"{name}: batch {batch_size} needs {format_bytes(program.bytes.with_code)} of "
            f"{format_bytes(budget_bytes - resident)}; "
            f"{'the largest size allowed' if is_largest else search.why_not_next(index)}; {search.compilations} "
            f"compilations (sizes {', '.join(map(str, search.order)) or 'known before'})"
        ),
    )


def _rising(name: str, sizes: Sequence[int]) -> list[int]:
    """Sizes as integers of Python, from small to large."""
    try:
        return sorted({operator.index(size) for size in sizes})
    except TypeError:
        raise ArenaError(
            f"{name}: batch sizes {list(sizes)[:5]} are not all integers; give whole, positive sizes"
        ) from None


def _checked(name: str, arguments_at: Callable[[int], Sequence[Any]]) -> Callable[[int], Sequence[Any]]:
    """The function, which raises where it does not return a sequence of arguments."""

    def checked(size: int) -> Sequence[Any]:
        arguments = arguments_at(size)
        if not isinstance(arguments, Sequence) or isinstance(arguments, str):
            kind = type(arguments).__name__
            raise ArenaError(
                f"{name}: arguments_at({size}) gave a {kind}; it must give a tuple of the step's arguments"
            )
        return arguments

    return checked


def _check_rising(
    name: str, arguments_at: Callable[[int], Sequence[Any]], programs: Mapping[int, Program | None]
) -> None:
    """Refuse to call the largest size the answer where no size differs from another, in arguments or in bytes."""
    needs = {size: program.bytes.with_code for size, program in programs.items() if program}
    if len(needs) < 2 or len(set(needs.values())) > 1:
        return
    few, many = min(needs), max(needs)
    shapes = [[getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(arguments_at(size))] for size in (few, many)]
    if shapes[0] == shapes[1]:
        raise ArenaError(
            f"{name}: batches of {few} and {many} need {format_bytes(needs[few])} both, as arguments_at gives the same "
            "shapes for them; give arrays or jax.ShapeDtypeStruct whose shapes grow with the batch"
        )
