"""Plans for an A100 that is not here, against what was measured before this code was: `make plan-test`.

Needs the extra `plan`; `JAX_PLATFORMS=cpu python -m benchmarks.plan [--only WORD]`. Prints a Markdown table: what was
compiled, the reference, what was found, their ratio, and whether it is within its limit. The references were taken with
jax 0.10.2 by a prototype outside this code (the issue that asked for it states them), on another machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from arena_jax import models, runtime, training
from arena_jax.runtime import Target
from arena_jax.training import vocabulary_loss
from benchmarks.measure import machine, table

WHOLE_LOGITS = 2**62  # bytes that a chunk of logits may take: all of them at once, as before
FLASH = {"attention": "cudnn", "attention_dropout": 0.0, "right_padded": True}
HALF = {"dtype": "bfloat16"}
REMAT = {"remat": "block"}


def plain_step(model: models.Transformer, target: Target, length: int, shard: bool = False) -> tuple[Any, Callable]:
    """One model with AdamW, and its arguments at a batch per GPU; `shard`: parameters are dealt out over the GPUs."""
    structure, params = models.split(model)
    objective = training.objective_for(model.task, mask_token_id=4)
    optimizer = optax.adamw(1e-4)

    def loss(params: Any, batch: Mapping[str, Any], key: jax.Array) -> jax.Array:
        sums = objective(models.merge(structure, params), batch, key, True).sums
        return sums["loss_sum"] / sums["count"]

    def step(params: Any, state: Any, batch: Mapping[str, Any], key: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(params, batch, key)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    devices = target.mesh.shape["data"]

    def placed(leaf: Any) -> Any:
        spec = [None] * leaf.ndim
        for axis in sorted(range(leaf.ndim), key=lambda axis: -leaf.shape[axis]) if shard else ():
            if leaf.shape[axis] % devices == 0:
                spec[axis] = "data"
                break
        sharding = NamedSharding(target.mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = jax.eval_shape(optimizer.init, params)
    resident = jax.tree.map(placed, (params, state))
    key = jax.eval_shape(lambda: jax.random.key(0))

    def arguments_at(size: int) -> tuple[Any, ...]:
        tokens = target.rows(size * devices, length, dtype=np.int32)
        return (*resident, {"input_ids": tokens, "attention_mask": tokens}, key)

    return jax.jit(step, donate_argnums=(0, 1)), arguments_at


def bytes_at(preset: str, size: int, length: int, **options: Any) -> float:
    """GB that a step of a size needs, on an A100 with 40 GB."""
    a100 = runtime.target("a100-40gb", memory_budget=0.8)  # told as the memory that it has
    step, arguments_at = plain_step(models.abstract(models.preset(preset, **options), "causal-lm"), a100, length)
    return a100.compile_program(step, *arguments_at(size)).bytes.total / 1e9


def batch(preset: str, length: int, *, task: str, gpus: int = 1, shard: bool = False, **options: Any) -> float:
    """The largest batch per GPU in 40 GB."""
    a100 = runtime.target("a100-40gb", gpus=gpus, memory_budget="40GB")
    step, arguments_at = plain_step(models.abstract(models.preset(preset, **options), task), a100, length, shard)
    choice = runtime.largest_batch(step, arguments_at, "40GB", target=a100)
    print(f"  {choice.reason}", file=sys.stderr, flush=True)
    return choice.batch_size


def gpt2(**options: Any) -> float:
    """The largest batch of GPT-2 in bfloat16 at length 1024."""
    return batch("gpt2", 1024, task="causal-lm", **HALF, **options)


ROWS: tuple[tuple[str, float, float, bool, Callable[[], float]], ...] = (
    *(
        (f"GPT-2 float32 128, batch {size}, GB", gigabytes, 0.02, True, lambda size=size: bytes_at("gpt2", size, 128))
        for size, gigabytes in ((8, 2.473), (16, 3.171), (32, 4.553))
    ),
    ("BERT base float32 128", 625, 0.02, True, lambda: batch("bert-base", 128, task="masked-lm")),
    ("GPT-2 bf16 1024", 79, 0.02, True, gpt2),
    ("… remat block", 115, 0.05, True, lambda: gpt2(**REMAT)),
    ("… head in chunks", 100, 0.05, False, gpt2),
    ("… chunks, remat block", 167, 0.05, False, lambda: gpt2(**REMAT)),
    ("… chunks, cuDNN", 174, 0.05, False, lambda: gpt2(**FLASH)),
    (
        "… chunks, cuDNN, remat block",
        552,
        0.05,
        False,
        lambda: gpt2(**FLASH, **REMAT),
    ),
    (
        "GPT-2 medium bf16 1024, remat block, parameters dealt out over 8",
        40,
        0.02,
        True,
        lambda: batch("gpt2-medium", 1024, task="causal-lm", gpus=8, shard=True, **HALF, **REMAT),
    ),
)


def main() -> int:
    """Print the table; 1 where a value falls short of its reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    only = parser.parse_args().only
    rows, short = [], 0
    for name, reference, limit, whole, measure in ROWS:
        if only not in name:
            continue
        began = time.perf_counter()
        with mock.patch.object(vocabulary_loss, "CHUNK_BYTES", WHOLE_LOGITS if whole else vocabulary_loss.CHUNK_BYTES):
            value = measure()
        ratio = value / reference
        met = abs(ratio - 1) <= limit or ("GB" not in name and ratio > 1)
        short += not met
        verdict = "met" if met else "missed"
        seconds = time.perf_counter() - began
        rows.append((name, f"{reference:g}", f"{value:.4g}", f"{ratio:.3f}", f"{limit:.0%}", verdict, f"{seconds:.0f}"))
        print(rows[-1], file=sys.stderr, flush=True)
    print(f"{machine()}\n")
    print(
        table(
            ("A100 40 GB, batch per GPU unless said", "reference", "found", "ratio", "limit", "verdict", "seconds"),
            rows,
        )
    )
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
