"""Distillation: a student's loss and gradient as PyTorch has them, taught by one model and by two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn.functional import cross_entropy, kl_div

from arena_jax import training
from arena_jax.training import distillation
from arena_jax.training.distillation import Distillation
from arena_jax.training.state import step_key
from parity import inputs
from parity.case import Case, precision, random_case, tensors
from parity.losses import masked, objective, with_labels
from parity.measure import Measurement, compare
from parity.names import by_reference_name
from parity.reference.losses import IGNORED
from parity.registry import Check

ALPHA, TEMPERATURE, SEED, TOLERANCE = 0.3, 2.5, 7, 1e-10
WEIGHTS = (0.5, 2.0, 0.7)  # of several teachers
STEADY = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0, "classifier_dropout": 0.0}
# (task, families, the student's first, who teaches). All see the student's batch; a PyTorch GPT-2 would not: it takes
# its own padding token alone for padding, whatever the mask says.
VARIANTS = (
    ("sequence-classification", ("bert", "roberta"), "one teacher"),
    ("sequence-classification", ("gpt2", "gpt2", "gpt2"), "ensemble"),
    ("sequence-classification", ("bert", "bert", "bert"), "ensemble, weighted"),
    ("token-classification", ("roberta", "bert"), "one teacher"),
    ("causal-lm", ("gpt2", "gpt2"), "one teacher, in chunks"),
    ("causal-lm", ("gpt2", "gpt2", "gpt2"), "ensemble, weighted"),
    ("masked-lm", ("bert", "bert"), "one teacher"),
)


def taught(task: str, families: Sequence[str], variant: str) -> Iterator[Measurement]:
    """The gradient piece of the step that a run compiles, against ``cross_entropy`` and ``kl_div``."""
    cases = {f"{number}": random_case(family, task, number) for number, family in enumerate(families)}
    teachers = tuple(cases) if variant.startswith("ensemble") else tuple(cases)[1:]
    weights = dict(zip(teachers, WEIGHTS if "weighted" in variant else [1.0] * len(teachers), strict=True))
    student = cases["0"]
    with precision("float64"):
        networks = {name: case.ours("float64", **STEADY) for name, case in cases.items()}
        step = training.make_step(
            networks,
            optax.identity(),
            dict.fromkeys(networks, objective(task)),
            seed=SEED,
            distillation=Distillation(ALPHA, TEMPERATURE, tuple(weights.items())),
            teachers=teachers,
        )
        params = step.init().params
        vocabulary = min(case.sizes.vocabulary for case in cases.values())
        batch = inputs.variants(dataclasses.replace(student.sizes, vocabulary=vocabulary))["right padding"]
        ours, theirs = with_labels(student, batch)
        if task == "masked-lm":
            key = jax.random.fold_in(training.model_key(SEED, "distillation", 0), 0)
            theirs = masked(student, batch, key)
        placed = {name: {n: jnp.asarray(value)[None] for n, value in ours.items()} for name in networks}
        positions = 2 if "chunks" in variant else batch["input_ids"].shape[1]

        def gradient(tree: Any) -> Any:
            number = jnp.zeros((), jnp.int32)
            assert step._teaching is not None
            keys = {name: step_key(step.keys[name], number) for name in networks}
            lesson = step._teaching.lesson(teachers, tree, placed, keys)
            return step.gradients("0", tree["0"], placed["0"], step.keys["0"], number, None, lesson)[:2]

        with mock.patch.object(distillation, "chunk_positions", lambda rows, count, *_: min(count, positions)):
            moved, metrics = jax.jit(gradient)(params)
        loss, divergence = reference(task, cases, weights, theirs)
        count = metrics["count"]
        yield from compare({"task": metrics["loss"]}, {"task": loss.detach()}, "loss: ")
        yield from compare({"divergence": metrics["divergence_sum"] / count}, {"divergence": divergence.detach()}, "")
        student.reference.zero_grad()
        (ALPHA * loss + (1 - ALPHA) * divergence).backward()
        gradients = {p.name: p.grad for p in student.literals if p.grad is not None}
        yield from compare(by_reference_name(student.family, moved, student.literals), gradients, "gradient: ")


def reference(
    task: str, cases: dict[str, Case], teachers: dict[str, float], labelled: inputs.Arrays
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two terms of the loss, each a mean over what is predicted."""
    features = {name: value for name, value in labelled.items() if name != "labels"}
    labels = torch.tensor(np.asarray(labelled["labels"]), dtype=torch.long)

    def logits(name: str) -> torch.Tensor:
        output = cases[name].reference(**tensors(features)).logits
        return output[:, :-1] if task == "causal-lm" else output

    if task == "causal-lm":
        labels = labels[:, 1:]
    student, labels = logits("0"), labels.flatten()
    with torch.no_grad():
        each = [weight * torch.softmax(logits(name) / TEMPERATURE, -1) for name, weight in teachers.items()]
        teacher = (torch.stack(each).sum(0) / sum(teachers.values())).flatten(0, -2)
    student = student.flatten(0, -2)
    counted = labels != IGNORED
    tempered = torch.log_softmax(student / TEMPERATURE, -1)[counted]
    divergence = TEMPERATURE**2 * kl_div(tempered, teacher[counted], reduction="batchmean")
    return cross_entropy(student, labels, ignore_index=IGNORED), divergence


def checks() -> list[Check]:
    """The layer's checks, in float64."""
    return [
        Check(
            "distillation",
            families[0],
            f"{task}, {variant}",
            "float64",
            partial(taught, task, families, variant),
            TOLERANCE,
        )
        for task, families, variant in VARIANTS
    ]
