"""Regression and several labels per text: loss and gradients against transformers' own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from arena_jax import models, training
from parity import inputs
from parity.case import Case, precision, random_case, tensors
from parity.losses import KEY
from parity.measure import Measurement, compare
from parity.names import by_reference_name
from parity.reference.models import FAMILIES
from parity.registry import Check

TASK = "sequence-classification"
OUTPUTS = {"regression": 1, "multi_label_classification": 3}
TOLERANCE = 1e-10


def labelled(case: Case, problem_type: str, batch: inputs.Arrays) -> np.ndarray:
    """A number, or a decision for each class, of each row."""
    generator = np.random.default_rng(6)
    rows = len(batch["input_ids"])
    if problem_type == "regression":
        return generator.integers(0, 21, rows) / 4.0
    return generator.integers(0, 2, (rows, case.classes)).astype(np.float64)


def problem(family: str, problem_type: str, *, gradients: bool) -> Iterator[Measurement]:
    """The mean loss, or the gradient of every parameter, on batches with padding on either side."""
    options = (("num_labels", OUTPUTS[problem_type]), ("problem_type", problem_type))
    case = random_case(family, TASK, 0, options)
    objective = training.objective_for(TASK, problem_type=problem_type)
    with precision("float64"):
        structure, params = models.split(case.ours("float64"))

        def mean_loss(p: Any, batch: Any) -> jax.Array:
            sums = objective(models.merge(structure, p), batch, jax.random.key(KEY), False).sums
            return sums["loss_sum"] / sums["count"]

        compute = jax.jit(jax.grad(mean_loss) if gradients else mean_loss)
        for name in ("right padding", "left padding"):
            batch = inputs.variants(case.sizes)[name]
            labels = labelled(case, problem_type, batch)
            case.reference.zero_grad()
            loss = case.reference(**tensors(batch), labels=torch.tensor(labels)).loss
            ours = compute(params, {**batch, "labels": labels})
            if not gradients:
                yield from compare({"loss": ours}, {"loss": loss.detach()}, f"{name}: ")
                continue
            loss.backward()
            wanted = {p.name: p.grad for p in case.literals if p.grad is not None}
            yield from compare(by_reference_name(family, ours, case.literals), wanted, f"{name}: ")


def checks() -> list[Check]:
    """A loss and its gradients per family and kind of labels."""
    return [
        Check(layer, family, kind, "float64", partial(problem, family, kind, gradients=gradients), TOLERANCE)
        for family in FAMILIES
        for kind in OUTPUTS
        for layer, gradients in (("loss", False), ("backward", True))
    ]
