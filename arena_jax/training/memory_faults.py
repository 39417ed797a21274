"""Running out of memory in the middle of a joint run: the same rows, in more and smaller parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Saving
from arena_jax.training.step import Step


def step_down(step: Step, state: Any, batch_size: int, at: int, saving: Saving) -> None:
    """After a step that ran out of memory: double every model's microbatches, and record it; then the step is repeated.

    One program holds all models, so nobody knows whose activations were too many.

    Args:
        step: its ``accumulation`` is changed.
        state: what the step was given.
        batch_size: examples per model and step, over all devices.
        at: steps taken.
        saving: records it.

    Raises:
        ArenaError: every part is one example per device already, or the state was given away before the step failed.
    """
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        raise ArenaError(
            f"step {at + 1:,} ran out of memory when its state had been given away already; start a new run with "
            f"--accumulation {2 * max(step.accumulation.values())}"
        )
    before, devices = dict(step.accumulation), step.mesh.shape["data"]
    step.accumulation = doubled(before, batch_size // devices)
    if step.accumulation == before:
        raise ArenaError(
            f"step {at + 1:,} ran out of memory, and the batches of {', '.join(step.names)} cannot be divided further "
            f"({before[step.names[0]]} parts); train fewer or smaller models, or lower --max-length"
        )
    saving.trouble(
        at,
        "out of memory",
        f"step {at + 1:,} ran out of memory: it is repeated, and from now on each batch is computed in "
        f"{max(step.accumulation.values())} parts",
        before=before,
        accumulation=dict(step.accumulation),
    )


def doubled(accumulation: Mapping[str, int], rows: int) -> dict[str, int]:
    """Twice the microbatches for every model whose rows divide into so many.

    Example:
        >>> doubled({"bert": 2, "gpt2": 8}, 8)
        {'bert': 4, 'gpt2': 8}
    """
    return {name: count if rows % (2 * count) else 2 * count for name, count in accumulation.items()}
