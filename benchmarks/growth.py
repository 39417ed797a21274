"""How a joint step grows with its models: 1, 2, 4 and 8 of one shape against as many alone, and as vmapped lanes.

GPT-2 of 2 layers × 64, 512 tokens in its vocabulary, 16 × 64 tokens a step, the default form of the optimizer.
Contestants take turns; memory is the compiler's. Lanes are the gradients alone: one program of N gradients side by
side, against one `jax.vmap` over N stacked models.

    python -m benchmarks.growth
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models, training, transforms
from arena_jax.runtime.program import compile_program
from benchmarks.measure import interleaved, machine, table

COUNTS = (1, 2, 4, 8)
ROWS, LENGTH, VOCABULARY = 16, 64, 512
CONFIG = models.preset("gpt2-tiny", vocab_size=VOCABULARY, max_positions=LENGTH)


def step_of(count: int) -> training.Step:
    """The joint step of so many models of one shape."""
    made = {f"m{number}": models.create(CONFIG, task="causal-lm", seed=number) for number in range(count)}
    return training.make_step(made, transforms.multi_model_adamw(1e-3, warmup_steps=0))


def batch_of(number: int) -> dict[str, np.ndarray]:
    """A model's rows."""
    ids = np.random.default_rng(number).integers(5, VOCABULARY, (ROWS, LENGTH), np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def runner(step: training.Step) -> Callable[[], None]:
    """Take a step and wait for it."""
    state = step.init()
    placed = step.place({name: batch_of(number) for number, name in enumerate(step.names)})

    def run() -> None:
        nonlocal state
        state, metrics = step.run(state, placed)
        jax.block_until_ready((state, metrics))

    run()
    return run


def joint(repeats: int) -> None:
    """Joint steps against as many alone."""
    steps = {count: step_of(count) for count in COUNTS}
    seconds = interleaved({str(count): runner(step) for count, step in steps.items()}, repeats=repeats)
    alone = steps[1].programs[0]
    rows = []
    for count, step in steps.items():
        [program] = step.programs
        ratios = [now / (count * one) for now, one in zip(seconds[str(count)], seconds["1"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append(
            (
                count,
                f"{1000 * statistics.median(seconds[str(count)]):.1f} ms",
                f"{median:.3f} ({low:.3f}–{high:.3f})",
                f"{program.bytes.temporaries / 1e6:.2f} MB",
                f"{program.bytes.temporaries / (count * alone.bytes.temporaries):.3f}",
                f"{program.seconds:.1f} s",
            )
        )
    header = ("models", "joint step", "over as many alone", "temporaries", "over as many alone", "compiled in")
    print(table(header, rows), "\n")


def lanes(repeats: int, count: int) -> None:
    """Gradients of equal models side by side, against lanes of one vmap."""
    step = step_of(count)
    state, names = step.init(), step.names
    placed = step.place({name: batch_of(number) for number, name in enumerate(names)})
    gradient = functools.partial(step.measured_gradients, names[0])
    now = jnp.zeros((), jnp.int32)

    def beside(params: Any, batches: Any, keys: Any) -> Any:
        return [gradient(params[name], batches[name], keys[name], now) for name in names]

    def stacked(params: Any, batches: Any, keys: Any) -> Any:
        return jax.vmap(gradient, in_axes=(0, 0, 0, None))(params, batches, keys, now)

    def together(trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[trees[name] for name in names])

    arguments = {
        "beside": (state.params, placed, step.keys),
        "lanes": (together(state.params), together(placed), together(step.keys)),
    }
    functions = {"beside": beside, "lanes": stacked}
    programs = {name: compile_program(functions[name], *arguments[name]) for name in functions}
    contestants = {
        name: functools.partial(lambda n: jax.block_until_ready(programs[n].executable(*arguments[n])), name)
        for name in programs
    }
    seconds = interleaved(contestants, repeats=repeats)
    rows = [
        (
            f"{count} gradients, {name}",
            f"{1000 * statistics.median(seconds[name]):.1f} ms",
            f"{program.bytes.temporaries / 1e6:.2f} MB",
            f"{program.seconds:.1f} s",
        )
        for name, program in programs.items()
    ]
    print(table(("what", "median", "temporaries", "compiled in"), rows))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    print(machine(), "\n")
    joint(options.repeats)
    for count in (2, 8):
        lanes(options.repeats, count)


if __name__ == "__main__":
    main()
