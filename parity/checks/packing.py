"""Texts that share rows: logits, loss and gradients as PyTorch has them for each text in a row of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from arena_jax import models
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case, tensors
from parity.losses import KEY, masked, our_loss
from parity.measure import Measurement, compare
from parity.names import by_reference_name
from parity.registry import Check

TOLERANCE = 1e-10
LENGTHS = ((5, 3, 2), (11,), (1, 4, 6), (2, 2, 2, 2))  # of the texts of each row, of 11 tokens
IGNORED = -100


def packed_batch(sizes: inputs.Sizes) -> inputs.Arrays:
    """Rows of several texts, some of them filled up."""
    generator = np.random.default_rng(8)
    length = max(map(sum, LENGTHS))
    ids = inputs.tokens(sizes, len(LENGTHS), length, generator)
    segments = np.zeros(ids.shape, np.int32)
    for row, texts in enumerate(LENGTHS):
        segments[row, : sum(texts)] = np.repeat(np.arange(1, len(texts) + 1), texts)
    ids[segments == 0] = sizes.padding or 0
    return {"input_ids": ids, "attention_mask": (segments > 0).astype(np.int32), "segment_ids": segments}


def each_text(batch: inputs.Arrays) -> Iterator[tuple[tuple[int, slice], inputs.Arrays]]:
    """Where each text stands, and its tokens and labels as a batch of one row."""
    for row, segments in enumerate(batch["segment_ids"]):
        for segment in range(1, segments.max() + 1):
            places = np.flatnonzero(segments == segment)
            text = slice(places[0], places[-1] + 1)
            yield (row, text), {name: batch[name][row : row + 1, text] for name in ("input_ids", "labels")}


def labelled(case: Case, batch: inputs.Arrays) -> inputs.Arrays:
    """The batch as the model reads it, with what is to be predicted at each token, or ``IGNORED``."""
    if case.task == "masked-lm":
        return masked(case, batch, jax.random.key(KEY))
    labels = np.full(batch["input_ids"].shape, IGNORED)
    same = batch["segment_ids"][:, 1:] == batch["segment_ids"][:, :-1]
    real = same & (batch["segment_ids"][:, 1:] > 0)
    labels[:, :-1] = np.where(real, batch["input_ids"][:, 1:], IGNORED)
    return {**batch, "labels": labels}


def packing(family: str) -> Iterator[Measurement]:
    """The logits of every token; the mean loss; the gradient of every parameter."""
    case = random_case(family, MAIN_TASK[family])
    with precision("float64"):
        structure, params = models.split(case.ours("float64"))
        batch = packed_batch(case.sizes)
        whole = labelled(case, batch)
        case.reference.zero_grad()
        total, count, theirs = torch.zeros((), dtype=torch.float64), 0, []
        for place, text in each_text(whole):
            labels = tensors(text)["labels"]
            logits = case.reference(input_ids=tensors(text)["input_ids"]).logits
            theirs.append((place, logits.detach()[0]))
            total = total + torch.nn.functional.cross_entropy(
                logits[0], labels[0], ignore_index=IGNORED, reduction="sum"
            )
            count += int((labels != IGNORED).sum())
        (total / count).backward()
        read = {name: value for name, value in whole.items() if name != "labels"}
        ours = jax.jit(lambda p: models.merge(structure, p)(**read))(params)
        for (row, text), logits in theirs:
            yield from compare({"logits": ours[row, text]}, {"logits": logits}, f"row {row}, {text.start}: ")
        loss, gradients = jax.jit(jax.value_and_grad(lambda p: our_loss(case, models.merge(structure, p), batch)))(
            params
        )
        yield from compare({"loss": loss}, {"loss": (total / count).detach()}, "")
        expected: dict[str, Any] = {p.name: p.grad for p in case.literals if p.grad is not None}
        yield from compare(by_reference_name(family, gradients, case.literals), expected, "")


def checks() -> list[Check]:
    """One row per family."""
    return [
        Check("packed rows", family, task, "float64", partial(packing, family), TOLERANCE)
        for family, task in MAIN_TASK.items()
    ]
