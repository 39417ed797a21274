"""A joint step that runs out of memory is repeated on the same rows, in more and smaller microbatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.program import is_out_of_memory
from arena_jax.training.state import TrainState
from arena_jax.training.step import Metrics, Step


def run_step(
    step: Step,
    state: TrainState,
    batches: Mapping[str, Any],
    extra: Mapping[str, Mapping[str, Any]],
    *,
    batch_sizes: Mapping[str, int],
    steps_taken: int,
    session: Session,
) -> tuple[TrainState, Metrics]:
    """Take one step; where memory runs out, double every model's microbatches, record it, and repeat the step.

    One program holds all models, so nobody knows whose activations were too many.

    Args:
        step: its ``accumulation`` may be changed.
        state: donated.
        batches: ``{model: batch}``.
        extra: handed to the optimizer: ``active={model: whether it takes part}``, ``weights={model: weight}``.
        batch_sizes: ``{model: examples per step}``, over all devices.
        steps_taken: before this one.
        session: records it.

    Returns:
        The new state, and the metrics, which may still be being computed.

    Raises:
        ArenaError: every microbatch is one example per device already, or the state was given away before the step
            failed.
    """
    while True:
        try:
            return step.run(state, step.place(batches), **extra)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error) or processes.several():  # the others would wait for this one
                raise
        _divide(step, state, batch_sizes, steps_taken, session)


def _divide(step: Step, state: TrainState, batch_sizes: Mapping[str, int], steps_taken: int, session: Session) -> None:
    number = steps_taken + 1
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        raise ArenaError(
            f"step {number:,} ran out of memory when its state had been given away already; start a new run with "
            f"--accumulation {2 * max(step.accumulation.values())}"
        )
    before, devices = dict(step.accumulation), step.mesh.size
    step.accumulation = doubled(before, {name: rows // devices for name, rows in batch_sizes.items()})
    if step.accumulation == before:
        raise ArenaError(
            f"step {number:,} ran out of memory, and the batches of {', '.join(step.names)} cannot be divided further "
            f"({max(before.values())} parts); train fewer or smaller models, or lower --max-length"
        )
    session.record_trouble(
        steps_taken,
        "out of memory",
        f"step {number:,} ran out of memory: it is repeated, and from now on each batch is computed in "
        f"{max(step.accumulation.values())} parts",
        before=before,
        accumulation=dict(step.accumulation),
    )


def doubled(accumulation: Mapping[str, int], rows: Mapping[str, int]) -> dict[str, int]:
    """Twice the microbatches for every model whose rows divide into so many.

    Example:
        >>> doubled({"bert": 2, "gpt2": 8}, {"bert": 8, "gpt2": 8})
        {'bert': 4, 'gpt2': 8}
    """
    return {name: count if rows[name] % (2 * count) else 2 * count for name, count in accumulation.items()}
