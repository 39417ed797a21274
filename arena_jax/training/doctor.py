"""What an installation has, and whether one small joint step works on it."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from arena_jax import data, models, transforms
from arena_jax.config.errors import ArenaError
from arena_jax.data.sources import DATA_SETS, folder_of
from arena_jax.runs.environment import environment
from arena_jax.runtime.devices import make_mesh
from arena_jax.runtime.memory import device_limit, format_bytes
from arena_jax.runtime.program_cache import default_folder
from arena_jax.training.make_step import make_step
from arena_jax.training.objectives import objective_for

_ROWS, _LENGTH = 8, 16


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        what: was looked at.
        text: what is there.
        works: False where something must be put right before anything can be trained.
    """

    what: str
    text: str
    works: bool = True


def examine() -> Iterator[Finding]:
    """Look at versions, devices, memory, caches and data, then train two small models for one step.

    Yields:
        A finding each, as soon as it is known.
    """
    facts = environment()
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    yield Finding("commit", facts["commit"] or "none: installed from a package")
    for device in jax.devices():
        yield Finding(
            "device", f"{device.id}: {device.device_kind} ({device.platform}), {format_bytes(device_limit(device))}"
        )
    yield Finding("settings", ", ".join(f"{k}={v}" for k, v in facts["flags"].items()) or "no flags of JAX or XLA")
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk", f"{format_bytes(free)} free here")
    yield _cache()
    yield from _data()
    yield _joint_step()


def _cache() -> Finding:
    try:
        folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or default_folder())
    except ArenaError as error:
        return Finding("programs", str(error))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    return Finding("programs", f"{format_bytes(size)} of compiled ones in {folder}")


def _data() -> Iterator[Finding]:
    for name in DATA_SETS:
        folder = folder_of(name)
        if folder is None:
            where = "from the Hugging Face Hub when it is asked for (no folder of it under $ARENA_DATA)"
        else:
            where = str(folder)
        yield Finding("data", f"{name}: {where}")


def _joint_step() -> Finding:
    """Two families, one update over both, on all devices."""
    try:
        mesh = make_mesh()
        dataset = data.synthetic_sentiment("train", train=_ROWS * 2 * mesh.size)
        networks, batches, objectives = {}, {}, {}
        for family in ("bert", "gpt2"):
            tokenizer = data.train_tokenizer(dataset, family, vocab_size=300)
            config = models.preset(f"{family}-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
            networks[family] = models.create(config, task="sequence-classification")
            objectives[family] = objective_for("sequence-classification")
            rows = data.encode(dataset, tokenizer, max_length=_LENGTH, lengths=(_LENGTH,))
            batches[family] = data.Batches(rows, seed=0).next(_ROWS * mesh.size)
        optimizer = transforms.multi_model_adamw(1e-3, {"bert": 1.0, "gpt2": 1.0})
        step = make_step(networks, optimizer, objectives, mesh=mesh)
        start = time.perf_counter()
        _, metrics = step(step.init(), batches)
        losses = {name: float(metrics[name]["loss"]) for name in networks}
    except Exception as error:  # whatever is wrong with the installation is what is looked for
        return Finding("joint step", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", works=False)
    text = ", ".join(f"{name} loss {loss:.3f}" for name, loss in losses.items())
    seconds = time.perf_counter() - start
    works = all(map(math.isfinite, losses.values()))
    return Finding("joint step", f"{text}; {seconds:.1f} s, compiling included", works)
