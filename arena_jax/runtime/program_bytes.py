"""What a compiled program needs on each device, as the compiler tells it."""

from __future__ import annotations

from typing import NamedTuple

import jax


class ProgramBytes(NamedTuple):
    """A program's memory on each device, in bytes.

    Attributes:
        arguments: what it is given.
        outputs: what it returns, donated buffers included.
        temporaries: what it needs in between.
        aliased: outputs written into donated arguments, which would otherwise count twice.
        code: the program itself; the CPU's compiler tells none.
    """

    arguments: int = 0
    outputs: int = 0
    temporaries: int = 0
    aliased: int = 0
    code: int = 0

    @property
    def total(self) -> int:
        """All of it but the code: temporaries + arguments + outputs − aliased."""
        # Not peak_memory_in_bytes: it was measured to be 15 times too low (DESIGN.md).
        return self.temporaries + self.arguments + self.outputs - self.aliased


def program_bytes(program: jax.stages.Compiled) -> ProgramBytes | None:
    """Read what a program needs; None where the backend does not tell.

    Example:
        >>> held = program_bytes(jax.jit(lambda x: x + 1).lower(1.0).compile())
        >>> held.arguments, held.outputs, held.total
        (4, 4, 8)
    """
    told = program.memory_analysis()
    if told is None:
        return None
    return ProgramBytes(
        told.argument_size_in_bytes,
        told.output_size_in_bytes,
        told.temp_size_in_bytes,
        told.alias_size_in_bytes,
        told.generated_code_size_in_bytes,
    )
