"""Where a gradient's time goes at a middle size, on a CPU: `python -m benchmarks.middle [--hidden 256] [--repeats 7]`.

One BERT and one GPT-2 of 4 blocks, 16 × 64 tokens, 8,192 tokens in the vocabulary, float32, the gradient alone: as it
is, and with one thing after the other taken out. Contestants take turns. Prints a Markdown table: milliseconds, the
part of the whole's time (median of the rounds' ratios, quartiles), and the part of the machine's best product (1024³,
measured in the same rounds) that the matrix products of each would take.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models, training
from arena_jax.runtime.program import compile_program
from arena_jax.training.objectives import head_positions
from benchmarks.measure import interleaved, machine, ratio, table

ROWS, LENGTH, VOCABULARY, SIDE = 16, 64, 8192, 1024
NO_DROPOUT = dict.fromkeys(("embedding_dropout", "hidden_dropout", "attention_dropout"), 0.0)
CHANGES: dict[str, dict[str, Any]] = {
    "whole": {},
    "no dropout": NO_DROPOUT,
    "ReLU, not GELU": {"activation": "relu"},
    "all kept (remat none)": {"remat": "none"},
    "inputs kept (remat block)": {"remat": "block"},
    "one block of four": {"num_layers": 1},
    "vocabulary of 512": {"vocab_size": 512},
}


def gradient(family: str, hidden: int, changes: dict[str, Any]) -> tuple[Callable[[], None], float]:
    """A call that waits for a gradient, and its operations in matrix products."""
    sizes = {"hidden_size": hidden, "num_layers": 4, "num_heads": max(1, hidden // 64), "intermediate_size": 4 * hidden}
    config = models.preset(f"{family}-tiny", **sizes, max_positions=LENGTH, vocab_size=VOCABULARY).replace(**changes)
    task = "causal-lm" if family == "gpt2" else "masked-lm"
    structure, params = models.split(models.create(config, task))
    objective = training.objective_for(task, mask_token_id=4)
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (ROWS, LENGTH), np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        sums = objective(models.merge(structure, params), batch, key, True).sums
        return sums["loss_sum"] / sums["count"]

    arguments = (params, batch, jax.random.key(0))
    program = compile_program(jax.grad(loss), *arguments).executable
    flops = ROWS * models.training_flops(config, task, LENGTH, head_positions(task, LENGTH))
    return lambda: jax.block_until_ready(program(*arguments)), flops


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    square = jnp.ones((SIDE, SIDE))
    product = jax.jit(jnp.dot).lower(square, square).compile()
    rows = []
    for family in ("bert", "gpt2"):
        made = {name: gradient(family, options.hidden, changes) for name, changes in CHANGES.items()}
        runs = {name: run for name, (run, _) in made.items()} | {
            "product": lambda: jax.block_until_ready(product(square, square))
        }
        seconds = interleaved(runs, repeats=options.repeats, warmup=2)
        peak = 2 * SIDE**3 / min(seconds["product"])
        for name, (_, flops) in made.items():
            middle = statistics.median(seconds[name])
            part, lower, upper = ratio(seconds[name], seconds["whole"])
            rows.append(
                (
                    family,
                    name,
                    f"{1000 * middle:.0f}",
                    f"{part:.2f} ({lower:.2f}–{upper:.2f})",
                    f"{flops / peak / middle:.2f}",
                )
            )
        rows.append((family, f"{SIDE}³: {peak / 1e9:.0f} GFLOP/s at best", "", "", ""))
    print(f"{machine()}; {options.hidden} wide\n")
    print(table(("model", "gradient", "ms", "time / whole", "of the best product"), rows))


if __name__ == "__main__":
    main()
