"""The programs that every competition needs beside its gradients: held to the budget before any of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import replicated
from arena_jax.runtime.memory import format_bytes, tree_bytes
from arena_jax.runtime.program import Program, compile_program, is_out_of_memory
from arena_jax.training.evaluation import first_batch
from arena_jax.training.step import Step

_SMALLER = "lower --evaluation-batch-size"


def compile_update(step: Step, state: Any, gradients: Any, *, budget: int, margin: float) -> Program:
    """Compile the one update over all models; depends on no batch's shape.

    Args:
        step: whose `finish` it is.
        state: of the run, which the update is given and donates.
        gradients: ``{model: tree}``, for shapes and placement.
        budget: bytes per device.
        margin: added to the estimate, as a part of it.

    Returns:
        What it needs, with its executable.

    Raises:
        ArenaError: the budget, or the device, does not hold it.
    """
    everywhere = replicated(step.mesh)
    real = {"loss": jax.ShapeDtypeStruct((), np.float32, sharding=everywhere)}
    extra = {
        key: {name: jax.ShapeDtypeStruct((), dtype) for name in step.names}
        for key, dtype in (("active", np.bool_), ("learning_rates", np.float32))
    }
    try:
        program = compile_program(
            jax.jit(step.finish, donate_argnums=(0,), out_shardings=everywhere),
            state,
            gradients,
            dict.fromkeys(step.names, real),
            extra,
        )
    except jax.errors.JaxRuntimeError as error:
        raise _refused(error, "the update of all models", "train fewer models") from error
    _admit("the update of all models needs", program.bytes.with_code * (1 + margin), budget, "train fewer models")
    return program._replace(name="update of all models")


def compile_evaluations(
    step: Step, params: Mapping[str, Any], rows: Mapping[str, Any], batch_size: int
) -> dict[str, Program]:
    """Compile what scores the models; the step keeps the programs.

    Args:
        step: that will evaluate.
        params: ``{model: parameter tree}``.
        rows: ``{model: validation rows}``.
        batch_size: examples at a time.

    Returns:
        ``{model: what was compiled}``.

    Raises:
        ArenaError: the device does not hold one of them; nothing has been run.
    """
    made = {}
    for name in step.names:
        try:
            made[name] = step.compile_evaluation(name, params[name], first_batch(step, rows[name], batch_size))
        except jax.errors.JaxRuntimeError as error:
            raise _refused(error, _scoring(name, batch_size), _SMALLER) from error
    return made


def admit_evaluations(
    made: Mapping[str, Program],
    params: Mapping[str, Any],
    batch_size: int,
    *,
    resident: int,
    budget: int,
    margin: float,
) -> None:
    """Hold to the budget what scores the models.

    Args:
        made: from :func:`compile_evaluations`.
        params: ``{model: parameter tree}``.
        batch_size: examples at a time.
        resident: bytes per device that are taken whatever runs: the models' parameters and all programs among them.
        budget: bytes per device.
        margin: added to estimates, as a part of them.

    Raises:
        ArenaError: the budget does not hold one of them; nothing has been run.
    """
    for name, program in made.items():
        own = tree_bytes(params[name])  # given to the program, and resident already
        need = resident + (program.bytes.total - own) * (1 + margin)
        _admit(f"{_scoring(name, batch_size)} takes", need, budget, _SMALLER)


def _scoring(name: str, batch_size: int) -> str:
    return f"{name}: to score batches of {batch_size}"


def _admit(what: str, need: float, budget: int, advice: str) -> None:
    if need > budget:
        raise ArenaError(
            f"{what} {format_bytes(need)}, the budget is {format_bytes(budget)}; raise --memory-budget or {advice}"
        )


def _refused(error: jax.errors.JaxRuntimeError, what: str, advice: str) -> Exception:
    if not is_out_of_memory(error):
        return error
    return ArenaError(f"{what} does not compile within the device's memory; {advice}")
