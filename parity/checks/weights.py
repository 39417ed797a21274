"""Layer 1: Hugging Face → ours → Hugging Face gives the same keys and, bit for bit, the same tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from arena_jax import models
from parity.case import Case, precision, random_case, scratch
from parity.measure import Measurement, exactly, identical
from parity.names import by_reference_name, in_use
from parity.reference.models import CLASSES
from parity.registry import Check

_COUNTER = itertools.count()


def new_folder() -> Path:
    """One that does not exist yet."""
    return scratch() / f"weights-{next(_COUNTER)}"


def on_disk(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder, whatever files they are in."""
    found: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def weights(make: Callable[[], Case], dtype: str, shards: str | None = None) -> Iterator[Measurement]:
    """There and back, and once more through ``transformers``.

    One vector is excepted, by its value alone: next to an untied decoder BERT and RoBERTa keep a second vocabulary
    bias that nothing reads (``names.in_use``).

    Args:
        make: the case.
        dtype: of the folder and of our parameters.
        shards: largest file, such as "20KB": several files on both ways.
    """
    case = make()
    limit: dict[str, Any] = {} if shards is None else {"max_shard_size": shards}
    source, target = case.folder, new_folder()
    if shards is not None or str(case.reference.dtype) != f"torch.{dtype}":
        source = new_folder()
        original = case.reference.dtype
        case.reference.to(getattr(torch, dtype)).save_pretrained(source, **limit)
        case.reference.to(original)
    unread = {p.name for p in case.literals} - {p.name for p in in_use(case.literals)}
    with precision(dtype):
        model = models.from_pretrained(source, case.task, param_dtype=dtype)
        ours = by_reference_name(case.family, models.split(model)[1], case.literals)
        used = {p.name: p.data.detach().numpy().astype(dtype) for p in case.literals}
        for name, wanted in used.items():
            if name in ours:
                yield identical(ours.pop(name), wanted, f"loaded: {name}")
            else:
                yield exactly(f"loaded: {name} is nowhere", name in unread)
        for name in ours:
            yield exactly(f"loaded: {name} has no source", False)
        models.save_pretrained(model, target, **limit)
    if shards is not None:
        yield exactly("several files were written", len(list(target.glob("*.safetensors"))) > 1)
    before, after = on_disk(source), on_disk(target)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield exactly(f"saved: {name} is on one side only", False)
        elif name not in unread:
            yield identical(after[name], before[name], f"saved: {name}")
    yield from through_transformers(case, target, unread)


def through_transformers(case: Case, folder: Path, unread: set[str]) -> Iterator[Measurement]:
    """``transformers`` opens our folder, misses nothing, and holds the numbers it started from, tied heads included."""
    kind = CLASSES[case.family, case.task]
    again, told = kind.from_pretrained(folder, output_loading_info=True, dtype="auto")
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        yield exactly(f"transformers: {problem} {sorted(told[problem])[:3]}", not told[problem])
    wanted, found = case.reference.state_dict(), again.state_dict()
    yield exactly("transformers: the same state_dict keys", list(wanted) == list(found))
    for name in wanted:
        if name in unread:
            continue
        dtype = found[name].dtype
        yield identical(found[name].numpy(), wanted[name].to(dtype).numpy(), f"transformers: {name}")
    for name, value in case.reference.config.to_dict().items():
        if name not in ("dtype", "_name_or_path", "transformers_version", "architectures"):
            yield exactly(f"transformers: configuration field {name}", again.config.to_dict().get(name) == value)


UNTIED = (("tie_word_embeddings", False),)


def checks() -> list[Check]:
    """The layer's checks."""
    found = []
    for family, task in CLASSES:
        make = partial(random_case, family, task)
        found.append(Check("weights", family, task, "float32", partial(weights, make, "float32"), 0.0))
        if task in ("causal-lm", "masked-lm"):
            run = partial(weights, make, "float32", "20KB")
            found.append(Check("weights", family, task + ", in several files", "float32", run, 0.0))
            run = partial(weights, partial(random_case, family, task, 0, UNTIED), "float32")
            found.append(Check("weights", family, task + ", head not tied", "float32", run, 0.0))
            found.append(Check("weights", family, task, "float64", partial(weights, make, "float64"), 0.0))
    return found
