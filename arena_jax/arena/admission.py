"""The programs that every competition needs beside its gradients: held to the budget before any of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arena_jax.arena.memory import Estimate, estimate, format_bytes, tree_bytes
from arena_jax.errors import ArenaError
from arena_jax.out_of_memory import ran_out
from arena_jax.training.devices import replicated
from arena_jax.training.evaluation import first_batch
from arena_jax.training.step import Step


def compile_update(step: Step, state: Any, gradients: Any, *, budget: int, margin: float) -> Estimate:
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
        for key, dtype in (("active", np.bool_), ("rates", np.float32))
    }
    try:
        need = estimate(
            jax.jit(step.finish, donate_argnums=(0,), out_shardings=everywhere),
            state,
            gradients,
            dict.fromkeys(step.names, real),
            extra,
        )
    except jax.errors.JaxRuntimeError as error:
        raise _refused(error, "the update of all models", "train fewer models") from error
    _admit("the update of all models needs", need.whole * (1 + margin), budget, "train fewer models")
    return need


def compile_evaluations(
    step: Step,
    params: Mapping[str, Any],
    rows: Mapping[str, Any],
    batch_size: int,
    *,
    resident: int,
    budget: int,
    margin: float,
) -> None:
    """Compile what scores the models; the step keeps the programs.

    Args:
        step: that will evaluate.
        params: ``{model: parameter tree}``.
        rows: ``{model: validation rows}``.
        batch_size: examples at a time.
        resident: bytes per device that are taken whatever runs, the models' parameters and other code among them.
        budget: bytes per device.
        margin: added to estimates, as a part of them.

    Raises:
        ArenaError: the budget, or the device, does not hold one of them; nothing has been run.
    """
    for name in step.names:
        what, advice = f"{name}: to score batches of {batch_size}", "lower --evaluation-batch-size"
        try:
            made = step.compile_evaluation(name, params[name], first_batch(step, rows[name], batch_size))
        except jax.errors.JaxRuntimeError as error:
            raise _refused(error, what, advice) from error
        own = tree_bytes(params[name])  # given to the program, and resident already
        resident += made.code  # that of the models before is alive, too
        _admit(f"{what} takes", resident + (made.bytes - own) * (1 + margin), budget, advice)


def _admit(what: str, need: float, budget: int, advice: str) -> None:
    if need > budget:
        raise ArenaError(
            f"{what} {format_bytes(need)}, the budget is {format_bytes(budget)}; raise --memory-budget or {advice}"
        )


def _refused(error: jax.errors.JaxRuntimeError, what: str, advice: str) -> Exception:
    if not ran_out(error):
        return error
    return ArenaError(f"{what} does not compile within the device's memory; {advice}")
