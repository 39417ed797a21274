"""The programs that every competition needs beside its gradients: held to the budget before any of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arena_jax.arena.setup import Setup
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import replicated
from arena_jax.runtime.memory import device_bytes, format_bytes
from arena_jax.runtime.program import Program, is_out_of_memory
from arena_jax.training.evaluation import first_batch

_SMALLER = "lower --evaluation-batch-size"


def compile_update(setup: Setup, state: Any, gradients: Any) -> Program:
    """Compile the one update over all models, and hold it to the budget; it depends on no batch's shape.

    Args:
        setup: of the competition; its executables learn of the program's code.
        state: of the run, which the update is given and donates.
        gradients: ``{model: tree}``, for shapes and placement.

    Returns:
        The program.

    Raises:
        ArenaError: the budget, or the device, does not hold it.
    """
    everywhere = replicated(setup.mesh)
    loss = {"loss": jax.ShapeDtypeStruct((), np.float32, sharding=everywhere)}
    extra = {
        key: {name: jax.ShapeDtypeStruct((), dtype) for name in setup.names}
        for key, dtype in (("active", np.bool_), ("learning_rates", np.float32))
    }
    try:
        program = setup.compile_program(
            jax.jit(setup.step.finish, donate_argnums=(0,), out_shardings=setup.step.out_shardings(state)),
            state,
            gradients,
            dict.fromkeys(setup.names, loss),
            extra,
        )
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _does_not_compile("the update of all models", "train fewer models") from error
    need = program.bytes.with_code * (1 + setup.arena.memory_margin)
    check_budget("the update of all models needs", need, setup.budget, "train fewer models")
    setup.executables.other_code["update"] = program.bytes.code
    return program._replace(name="update of all models")


def compile_evaluations(setup: Setup, params: Mapping[str, Any]) -> dict[str, Program]:
    """Compile what scores the models; the step keeps the programs.

    Args:
        setup: of the competition; its executables learn of the programs' code.
        params: ``{model: parameter tree}``.

    Returns:
        ``{model: its program}``.

    Raises:
        ArenaError: the device does not hold one of them; nothing has been run.
    """
    size = setup.config.training.evaluation_batch_size
    programs = {}
    for name in setup.names:
        try:
            batch = first_batch(setup.step, setup.parts.validation[name], size)
            programs[name] = setup.step.compile_evaluation(name, params[name], batch)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _does_not_compile(_scoring(name, size), _SMALLER) from error
    setup.executables.other_code |= {program.name: program.bytes.code for program in programs.values()}
    return programs


def admit_evaluations(setup: Setup, programs: Mapping[str, Program], params: Mapping[str, Any]) -> None:
    """Refuse an evaluation that the budget does not hold beside all programs, before it runs.

    Args:
        setup: of the competition.
        programs: from :func:`compile_evaluations`.
        params: ``{model: parameter tree}``.

    Raises:
        ArenaError: the budget does not hold one of them; nothing has been run.
    """
    size, margin = setup.config.training.evaluation_batch_size, setup.arena.memory_margin
    resident = setup.budget - setup.executables.pool
    for name, program in programs.items():
        model_bytes = device_bytes(params[name])  # given to the program, and resident already
        need = resident + (program.bytes.total - model_bytes) * (1 + margin)
        check_budget(f"{_scoring(name, size)} takes", need, setup.budget, _SMALLER)


def _scoring(name: str, batch_size: int) -> str:
    return f"{name}: to score batches of {batch_size}"


def check_budget(what: str, need: float, budget: int, advice: str) -> None:
    """Refuse what takes more than a budget, in bytes.

    Raises:
        ArenaError: it does.
    """
    if need > budget:
        raise ArenaError(
            f"{what} {format_bytes(need)}, the budget is {format_bytes(budget)}; raise --memory-budget or {advice}"
        )


def _does_not_compile(what: str, advice: str) -> ArenaError:
    return ArenaError(f"{what} does not compile within the device's memory; {advice}")
