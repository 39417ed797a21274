"""Placement on clusters of 8 to 512 GPUs that are not here: the integer program, greedy and random, equation 15.

    python -m benchmarks.placement      # no compiler and no GPU

The models are the four of `arena-wikitext2`, in turn. Bytes are given here and not compiled: what XLA's compiler said
for an A100 with 40 GB (benchmarks/results/plan.md, 2026-11-28, equal shares), beside the model's own parameters,
gradients and moments; they are taken for the other kinds, too. Seconds of a step are the roofline's, from
`arena_jax/runtime/gpus.toml`, so rates are upper bounds; gradients are exchanged at the links of `KINDS`. Nothing here
has run on a GPU.

Each cluster has as many of each kind as `CLUSTERS` says. The models' shares λ are drawn from a flat Dirichlet
distribution, `SHARES` times. Beside the integer program's optimum stand what greedy reaches, and the mean and the best
of `DRAWS` random placements: the weighted geometric mean of the models' examples per second, by the optimum's.
"""

from __future__ import annotations

import math
import statistics
import time

import numpy as np

from arena_jax import models
from arena_jax.arena.placement import Need, Solver, place
from arena_jax.arena.pool import Kind
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.gpus import gpu
from arena_jax.runtime.memory import tree_bytes
from arena_jax.training.objectives import head_positions
from benchmarks.measure import machine, table

# Of each model its task, examples of a batch, and the bytes that such a step takes beside what is resident.
MODELS = {
    "bert-base": ("masked-lm", 96, 5.97e9),
    "gpt2": ("causal-lm", 96, 5.63e9),
    "gpt2-medium": ("causal-lm", 32, 5.52e9),
    "roberta-base": ("masked-lm", 96, 5.70e9),
}
LENGTH = 128
# Bytes per second that a GPU exchanges with others of its kind: NVLink's in each direction; of a part of a GPU, which
# has none, a share of PCIe, assumed.
KINDS = {"a100-40gb": 3.0e11, "h100": 4.5e11, "h100-mig-1g": 1.0e10}
# GPUs of each kind, and models.
CLUSTERS = (
    ((4, 2, 2), 4),
    ((8, 4, 4), 6),
    ((16, 8, 8), 8),
    ((32, 16, 16), 12),
    ((64, 32, 32), 16),
    ((128, 64, 64), 24),
    ((256, 128, 128), 32),
)
SHARES, DRAWS = 10, 20


def needs_of(model: str) -> list[Need]:
    """What a model's step takes on each kind of GPU."""
    task, batch, working = MODELS[model]
    network = models.abstract(models.preset(model), task)
    parameters = tree_bytes(models.split(network)[1])
    flops = batch * models.training_flops(network.config, task, LENGTH, head_positions(task, LENGTH))
    moved = 2 * 3 * parameters  # parameters and two moments, read and written once
    return [
        Need(
            model,
            gpu(name).title,
            batch,
            int(4 * parameters + working),  # with a gradient
            parameters,
            max(flops / gpu(name).peak("bfloat16"), moved / gpu(name).bandwidth),
        )
        for name in KINDS
    ]


def cluster(counts: tuple[int, ...], count: int, planned: list[Need], seed: int) -> dict[str, float]:
    """One draw of shares on one cluster."""
    pool = [
        Kind(gpu(name).title, number, int(0.9 * gpu(name).memory), link)
        for (name, link), number in zip(KINDS.items(), counts, strict=True)
    ]
    names = [f"{list(MODELS)[i % len(MODELS)]}-{i // len(MODELS)}" for i in range(count)]
    needs = [need._replace(model=name) for name in names for need in planned if need.model == name.rpartition("-")[0]]
    weights = dict(zip(names, np.random.default_rng(seed).dirichlet(np.ones(count)).tolist(), strict=True))

    def value(solver: Solver, draw: int = 0) -> float:
        try:
            return place(needs, pool, weights, solver=solver, seed=draw).value
        except ArenaError:  # it walked into a corner
            return math.nan

    start = time.perf_counter()
    best = place(needs, pool, weights)
    seconds = time.perf_counter() - start
    draws = [value("random", draw) for draw in range(DRAWS)]
    possible = [draw for draw in draws if not math.isnan(draw)]
    return {
        "seconds": seconds,
        "rate": sum(spot.rate for spot in best.places),
        "used": sum(spot.devices for spot in best.places) / sum(counts),
        "greedy": math.exp(value("greedy") - best.value),
        "random": math.exp(statistics.fmean(possible) - best.value) if possible else math.nan,
        "luckiest": math.exp(max(possible) - best.value) if possible else math.nan,
        "possible": len(possible) / DRAWS,
    }


def main() -> None:
    """Print the tables."""
    planned = [need for model in MODELS for need in needs_of(model)]
    print(f"{machine()}\n")
    print(
        table(
            ("model", "GPU", "batch per GPU", "GB", "step at least, ms"),
            [(n.model, n.kind, n.batch_size, f"{n.bytes / 1e9:.1f}", f"{1e3 * n.seconds:.1f}") for n in planned],
        )
    )
    rows = []
    for counts, number in CLUSTERS:
        results = [cluster(counts, number, planned, seed) for seed in range(SHARES)]
        mean = {key: statistics.fmean(r[key] for r in results) for key in results[0]}
        worst = min(r["greedy"] for r in results)
        rows.append(
            (
                sum(counts),
                " + ".join(map(str, counts)),
                number,
                f"{mean['used']:.0%}",
                f"{mean['rate']:,.0f}",
                f"{mean['greedy']:.3f} ({worst:.3f})",
                f"{mean['random']:.3f}",
                f"{mean['luckiest']:.3f}",
                f"{mean['possible']:.0%}",
                f"{mean['seconds']:.2f}",
            )
        )
        print(rows[-1], flush=True)
    header = (
        "GPUs",
        "of each kind",
        "models",
        "in use",
        "examples/s at most",
        "greedy (worst)",
        "random",
        f"best of {DRAWS}",
    )
    print("\n" + table((*header, "of them possible", "solver s"), rows))


if __name__ == "__main__":
    main()
