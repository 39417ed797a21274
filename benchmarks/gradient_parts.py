"""Where a gradient of a middle size spends its time: the whole, with parts left out, and its matrix products alone.

One model with a vocabulary of 8,192 and 16 × 64 tokens, float32, as in part (c) of `benchmarks/joint_step.py`.
Contestants take turns. Seconds are the processor's, of all threads: on a busy machine the clock says nothing. Prints a
Markdown table.

    python -m benchmarks.gradient_parts [--family bert] [--width 512] [--repeats 8]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models, training
from arena_jax.models.flops import training_flops
from arena_jax.training import vocabulary_loss
from arena_jax.training.objectives import head_positions
from benchmarks.measure import machine, table

TASKS = {"bert": "masked-lm", "gpt2": "causal-lm"}
ROWS, LENGTH, LAYERS, VOCABULARY = 16, 64, 4, 8192
SQUARE = 1024  # of the product that stands for the machine's peak
PARTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no dropout": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "blocks keep their input alone": {"remat": "block"},
    "attention in chunks": {"attention": "chunked"},
}
Run = Callable[[], Any]


def network(family: str, width: int, **options: Any) -> models.Transformer:
    """The model."""
    sizes = {"hidden_size": width, "num_layers": LAYERS, "num_heads": width // 64, "intermediate_size": 4 * width}
    shape = models.preset(
        f"{family}-tiny", **{"vocab_size": VOCABULARY, "max_positions": LENGTH + 2, **sizes, **options}
    )
    return models.create(shape, TASKS[family])


def gradient(family: str, width: int, chunk_bytes: int = vocabulary_loss.CHUNK_BYTES, **options: Any) -> Run:
    """A call of the compiled gradient."""
    structure, params = models.split(network(family, width, **options))
    objective = training.objective_for(TASKS[family], mask_token_id=4)
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        sums = objective(models.merge(structure, params), batch, key, True).sums
        return sums["loss_sum"] / sums["count"]

    arguments = (params, {"input_ids": ids, "attention_mask": np.ones_like(ids)}, jax.random.key(0))
    with mock.patch.object(vocabulary_loss, "CHUNK_BYTES", chunk_bytes):
        compiled = jax.jit(jax.grad(loss)).lower(*arguments).compile()
    return functools.partial(compiled, *arguments)


def block_products(width: int) -> Run:
    """The products of the blocks' kernels with their gradients: as many, of the same shapes, and nothing between."""
    x, square = jnp.ones((ROWS * LENGTH, width)), [jnp.ones((width, width))] * 4
    up, down = jnp.ones((width, 4 * width)), jnp.ones((4 * width, width))

    def total(x: jax.Array, square: list[jax.Array], up: jax.Array, down: jax.Array) -> jax.Array:
        def block(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            inner = functools.reduce(jnp.add, [x @ kernel for kernel in square])
            return inner @ up @ down, None

        return jax.lax.scan(block, x, None, length=LAYERS)[0].sum()

    return functools.partial(jax.jit(jax.grad(total, argnums=(0, 1, 2, 3))), x, square, up, down)


def head_products(width: int, positions: int) -> Run:
    """The product of the head and the two of its gradient."""
    x, vocabulary = jnp.ones((ROWS * positions, width)), jnp.ones((VOCABULARY, width))
    logits = jnp.ones((ROWS * positions, VOCABULARY))
    products = jax.jit(lambda x, vocabulary, logits: (x @ vocabulary.T, logits @ vocabulary, logits.T @ x))
    return functools.partial(products, x, vocabulary, logits)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(TASKS), default="gpt2")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=8)
    arguments = parser.parse_args()
    family, width = arguments.family, arguments.width
    positions = head_positions(TASKS[family], LENGTH)
    square = jnp.ones((SQUARE, SQUARE))
    runs: dict[str, Run] = {name: gradient(family, width, **options) for name, options in PARTS.items()}
    runs["head in two chunks"] = gradient(family, width, 4 * ROWS * VOCABULARY * -(-positions // 2))
    runs["products of the blocks alone"] = block_products(width)
    runs["products of the head alone"] = head_products(width, positions)
    runs[f"a {SQUARE}³ product"] = functools.partial(jax.jit(jnp.matmul), square, square)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(1 + arguments.repeats):
        for name, run in runs.items():
            began = time.process_time()
            jax.block_until_ready(run())
            if turn:
                seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = medians["as it is"]
    model = network(family, width)
    flops = ROWS * training_flops(model.config, model.task, LENGTH, positions)
    rates = {"as it is": flops / whole, f"a {SQUARE}³ product": 2 * SQUARE**3 / medians[f"a {SQUARE}³ product"]}
    rows = [
        (name, f"{1000 * value:.1f} ms", f"{value / whole:.2f}", f"{rates[name] / 1e9:.0f}" if name in rates else "")
        for name, value in medians.items()
    ]
    print(f"{machine()}; {family}, {width} wide, {LAYERS} layers, {ROWS} × {LENGTH} tokens, {flops / 1e9:.1f} GFLOP\n")
    print(table(("gradient", "processor", "of the whole", "GFLOP a processor second"), rows))


if __name__ == "__main__":
    main()
