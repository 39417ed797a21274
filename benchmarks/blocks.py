"""What blocks keep, or compute in chunks: time and memory, `python -m benchmarks.blocks [--lengths 128,512]`.

The gradient of one GPT-2 (256 wide, 4 blocks, 4,096 tokens a batch, float32, dropout on) by each policy of `--remat`;
with `--attention RATE` by XLA's attention and by that in chunks instead, which drop weights at that rate; with `--head`
with all logits of 50,257 tokens at once and in chunks. Prints a Markdown table: bytes that the compiler reserves
beside arguments and results, and the time of a gradient in multiples of that of the first ("dots", "xla", "whole"),
median of the rounds and quartiles; contestants take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np

from arena_jax import models, training
from arena_jax.models.config import REMATS
from arena_jax.runtime.memory import format_bytes
from arena_jax.runtime.program import Program, compile_program
from arena_jax.training import vocabulary_loss
from benchmarks.measure import interleaved, machine, ratio, table

TOKENS = 4096
SIZES = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024, "vocab_size": 2048}


def gradient(length: int, **options: Any) -> tuple[Program, Callable[[], None]]:
    """The compiled gradient at a length, and a call that waits for its result."""
    config = models.preset("gpt2-tiny", **{**SIZES, "max_positions": length, **options})
    structure, params = models.split(models.create(config, "causal-lm"))
    objective = training.objective_for("causal-lm")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, config.vocab_size, (TOKENS // length, length), np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        sums = objective(models.merge(structure, params), batch, key, True).sums
        return sums["loss_sum"] / sums["count"]

    arguments = (params, batch, jax.random.key(0))
    program = compile_program(jax.grad(loss), *arguments)
    return program, lambda: jax.block_until_ready(program.executable(*arguments))


def head(length: int, chunk_bytes: int) -> tuple[Program, Callable[[], None]]:
    """The gradient with logits of 823 MB, of which so many bytes are there at a time."""
    with mock.patch.object(vocabulary_loss, "CHUNK_BYTES", chunk_bytes):
        return gradient(length, vocab_size=50257)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="128,512")
    parser.add_argument("--attention", type=float, metavar="RATE", help="compare attentions, at a dropout of weights")
    parser.add_argument("--head", action="store_true", help="compare all logits at once with chunks of them")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    rate, rows = arguments.attention, []
    what, default = ("remat", "dots") if rate is None else (f"attention, dropout {rate:g}", "xla")
    if arguments.head:
        what, default = "logits", "whole"
    for length in map(int, arguments.lengths.split(",")):
        if arguments.head:
            programs = {"whole": head(length, 2**62), "in chunks": head(length, vocabulary_loss.CHUNK_BYTES)}
        elif rate is None:
            programs = {policy: gradient(length, remat=policy) for policy in REMATS}
        else:
            ways = ("xla", "chunked")
            programs = {way: gradient(length, attention=way, attention_dropout=rate) for way in ways}
        runs = {name: run for name, (_, run) in programs.items()}
        seconds = interleaved(runs, repeats=arguments.repeats)
        for name, (program, _) in programs.items():
            median, lower, upper = ratio(seconds[name], seconds[default])
            time = f"{median:.3f} [{lower:.3f}, {upper:.3f}]"
            rows.append((length, TOKENS // length, name, format_bytes(program.bytes.temporaries), time))
    print(f"{machine()}\n")
    print(table(("length", "rows", what, "temporaries", f"time / {default}"), rows))


if __name__ == "__main__":
    main()
