"""Layer 4, second half: a hundred steps of three models trained together with everything on.

Sharing, synchronisation every 10, convergence scaling, two microbatches per step, warm-up and decay, decoupled weight
decay, a weight per model. Parameters and losses are compared after every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from arena_jax import training
from arena_jax.runtime.devices import make_mesh
from parity import four_devices, inputs
from parity.case import LABELS, precision, tensors
from parity.checks.optimizer import PAPER, PUBLISHED, our_optimizer, reference_optimizer
from parity.ensemble import TASKS, WEIGHTS, Ensemble, ensemble
from parity.measure import Measurement, compare, exactly
from parity.reference import losses
from parity.registry import ALL, Check

TOLERANCE = {"float64": 1e-8}
STEPS, ACCUMULATION, LENGTH = 100, 2, 7
OPTIONS: dict[str, Any] = {"lr": 0.003, "weight_decay": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}
OPTIONS |= {"warmup": 12, "decay": 120, "window": 10, "sync_every": 10, "alpha": 0.2, "beta": 0.1}
SAME_ROWS = dict.fromkeys(TASKS, inputs.ROWS)
SHARDS = four_devices.COUNT
EIGHT_ROWS = dict.fromkeys(TASKS, ACCUMULATION * SHARDS)  # one for each device and microbatch
ROWS = {"bert": 2, "gpt2": 8, "roberta": 4}
MODES = {PAPER: OPTIONS, PUBLISHED: OPTIONS | {"clip": 1.0}}
NO_DROPOUT = dict.fromkeys(("embedding_dropout", "hidden_dropout", "attention_dropout", "classifier_dropout"), 0.0)


def batch_of(
    both: Ensemble, name: str, generator: np.random.Generator, rows: int = inputs.ROWS
) -> tuple[inputs.Arrays, inputs.Arrays]:
    """Examples with padding: ours, and PyTorch's with its labels."""
    case = both.cases[name]
    parts = [inputs.padded(case.sizes, LENGTH, generator, left=False) for _ in range(-(-rows // inputs.ROWS))]
    batch = {key: np.concatenate([part[key] for part in parts])[:rows] for key in parts[0]}
    extra = inputs.labels(case.task, case.sizes, batch, case.classes, generator)
    ours = {} if case.task == "causal-lm" else {key: value.astype(np.int32) for key, value in extra.items()}
    return {**batch, **ours}, {**batch, **extra}


def targets(task: str, labelled: Mapping[str, np.ndarray]) -> int:
    """How many predictions a batch's loss is the mean of."""
    wanted = labelled["labels"]
    if task == "causal-lm":
        wanted = wanted[:, 1:]
    return int((wanted != losses.IGNORED).sum())


def backward(task: str, model: torch.nn.Module, labelled: inputs.Arrays) -> float:
    """Add up the gradients of the microbatches; returns the mean loss over the whole batch."""
    whole, total = targets(task, labelled), 0.0
    rows = len(labelled["input_ids"]) // ACCUMULATION
    for start in range(0, ACCUMULATION * rows, rows):
        part = {key: value[start : start + rows] for key, value in labelled.items()}
        given = tensors(part)
        labels = {key: given.pop(key) for key in LABELS if key in given}
        share = targets(task, part) / whole
        loss = losses.loss(task, model(**given), labels) * share
        loss.backward()
        total += float(loss.detach())
    return total


def trajectory(
    dtype: str, mode: str, count: int = STEPS, rows: Mapping[str, int] = SAME_ROWS, shards: int = 1
) -> Iterator[Measurement]:
    """Every parameter of every model and every loss, after every step.

    Args:
        dtype: of our side.
        mode: of the optimizer.
        count: of steps.
        rows: examples of each batch.
        shards: devices over which examples, parameters and moments are dealt out.
    """
    with precision(dtype):
        both, generator = ensemble(), np.random.default_rng(10)
        reference = reference_optimizer(mode, both.torch_models, WEIGHTS, **MODES[mode])
        models = {name: case.ours(dtype, **NO_DROPOUT) for name, case in both.cases.items()}
        objectives = {name: training.objective_for(task) for name, task in TASKS.items()}
        optimizer = our_optimizer(mode, WEIGHTS, **MODES[mode])
        mesh = make_mesh(shards, shard=shards > 1)
        step = training.make_step(models, optimizer, objectives, accumulation=ACCUMULATION, mesh=mesh)
        state = step.init()
        for number in range(1, count + 1):
            batches = {name: batch_of(both, name, generator, rows[name]) for name in TASKS}
            reference.zero_grad()
            wanted = {name: backward(TASKS[name], both.torch_models[name], batches[name][1]) for name in TASKS}
            reference.step(losses=wanted)
            state, metrics = step(state, {name: ours for name, (ours, _) in batches.items()})
            found = {name: metrics[name]["loss"] for name in TASKS}
            yield from compare(found, wanted, f"loss of step {number}: ")
            yield from compare(both.named(state.params), both.wanted(), f"after step {number}: ")
        matrices = [leaf for leaf in jax.tree.leaves((state.params, state.opt_state)) if leaf.ndim > 1]
        elements = sum(leaf.addressable_shards[0].data.size for leaf in matrices)
        yield exactly("a device holds its part", elements * shards == sum(leaf.size for leaf in matrices))


def checks() -> list[Check]:
    """The layer's checks."""
    rows = [("float64", PAPER), ("float64", PUBLISHED), ("float32", PAPER)]
    own = f"{PAPER}, batches of 2, 4 and 8"
    return [
        *(
            Check("trajectory", ALL, mode, dtype, partial(trajectory, dtype, mode), TOLERANCE.get(dtype))
            for dtype, mode in rows
        ),
        Check("trajectory", ALL, own, "float64", partial(trajectory, "float64", PAPER, rows=ROWS), 1e-8),
        Check(
            "trajectory",
            ALL,
            f"{PAPER}, parameters in shards on {SHARDS} devices",
            "float64",
            partial(trajectory, "float64", PAPER, 2 * OPTIONS["sync_every"], EIGHT_ROWS, SHARDS),
            1e-8,
        ),
    ]
