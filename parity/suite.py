"""All checks, in the order of the layers; and the few for a given checkpoint."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from parity.case import Case, given_case
from parity.checks import (
    arena,
    attention,
    backward,
    component_rates,
    distillation,
    forward,
    gates,
    generation,
    metrics,
    model_types,
    optimizer,
    packing,
    problem_types,
    pruning,
    remat,
    run_optimizer,
    tokens,
    trajectory,
    vocabulary,
    weights,
)
from parity.registry import Check


def all_checks() -> list[Check]:
    """The whole cake."""
    return [
        *weights.checks(),
        *model_types.checks(),
        *forward.checks(),
        *forward.option_checks(),
        *gates.checks(),
        *generation.checks(),
        *backward.checks(),
        *vocabulary.checks(),
        *attention.checks(),
        *remat.checks(),
        *optimizer.checks(),
        *run_optimizer.checks(),
        *component_rates.checks(),
        *trajectory.checks(),
        *arena.checks(),
        *metrics.checks(),
        *tokens.checks(),
        *problem_types.checks(),
        *distillation.checks(),
        *packing.checks(),
        *pruning.checks(),
    ]


def checkpoint_checks(folder: Path, task: str | None) -> list[Check]:
    """Layers 1 to 3 for one folder: float64 must agree; in smaller types the error is reported, nothing is demanded."""
    case = given_case(folder, task)

    def make() -> Case:
        return case

    found = [Check("weights", case.family, case.task, "float32", partial(weights.weights, make, "float32"), 0.0)]
    for dtype in ("float64", "float32", "bfloat16"):
        for layer, run, allowed in (
            ("forward", forward.forward, forward.TOLERANCE),
            ("loss", forward.loss, forward.TOLERANCE),
            ("backward", backward.backward, backward.TOLERANCE),
        ):
            limit = allowed.get(dtype, math.inf)
            found.append(Check(layer, case.family, case.task, dtype, partial(run, make, dtype), limit))
    return found
