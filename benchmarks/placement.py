"""Placement on clusters of 8 to 512 GPUs that are not here: the integer program, greedy and random, equation 15.

    python -m benchmarks.placement --plan   # what each model's step takes on each kind: compiled, minutes; extra plan
    python -m benchmarks.placement          # the table, from benchmarks/placement_needs.json

Bytes are the compiler's for that GPU, of the step that a run compiles, in batches of `BATCH` rows of `LENGTH` tokens a
GPU. Seconds of a step are the roofline's, so rates are upper bounds, and gradients are exchanged at the links of
`KINDS`. Nothing here has run on a GPU.

Each cluster has as many of each kind as `CLUSTERS` says. Its models are of the sizes that were planned, in turn; their
shares λ are drawn from a flat Dirichlet distribution, 20 times. Beside the integer program's optimum stand what greedy
reaches, and the mean and the best of 100 random placements: the weighted geometric mean of the models' examples per
second, as a part of the optimum's.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np

from arena_jax.arena.placement import Need, Solver, place
from arena_jax.arena.pool import Kind
from arena_jax.config import ModelConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.gpus import gpu
from benchmarks.measure import machine, table

NEEDS = Path(__file__).with_name("placement_needs.json")
MODELS = ("bert-base", "bert-large", "gpt2", "gpt2-large")
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
SHARES, DRAWS, LENGTH, BATCH = 20, 100, 128, 32


def plan() -> None:
    """Write what each model's step takes on each kind; what is there already is kept."""
    from arena_jax import models, runtime
    from arena_jax.runtime.memory import device_bytes
    from arena_jax.training.objectives import head_positions
    from arena_jax.training.plan import abstract_models, for_target, step_and_arguments

    config = presets.get("joint-wikitext2")
    needs = json.loads(NEEDS.read_text()) if NEEDS.exists() else []
    for name, model in itertools.product(KINDS, MODELS):
        target = runtime.target(name)
        if any((need["model"], need["kind"]) == (model, target.gpu.title) for need in needs):
            continue
        run = dataclasses.replace(
            config,
            models=(ModelConfig(model, preset=model),),
            data=dataclasses.replace(config.data, max_length=LENGTH),
            training=dataclasses.replace(config.training, dtype="auto"),
        )
        run = for_target(run, target)
        networks = abstract_models(run, target)
        step, arguments_of = step_and_arguments(networks, run, target)
        arguments = arguments_of({model: BATCH})
        program = target.compile_program(step, *arguments)
        network = networks[model]
        flops = BATCH * models.training_flops(
            network.config, network.task, LENGTH, head_positions(network.task, LENGTH)
        )
        seconds = max(
            flops / target.gpu.peak(network.config.compute_dtype),
            (program.bytes.arguments + program.bytes.outputs) / target.gpu.bandwidth,
        )
        row = Need(model, target.gpu.title, BATCH, program.bytes.with_code, device_bytes(arguments[0].params), seconds)
        needs.append(row._asdict())
        NEEDS.write_text(json.dumps(needs, indent=1) + "\n")
        print(row, f"{program.seconds:.0f} s", flush=True)


def cluster(counts: tuple[int, ...], models: int, planned: list[Need], seed: int) -> dict[str, float]:
    """One draw of shares on one cluster."""
    pool = [
        Kind(gpu(name).title, count, int(0.9 * gpu(name).memory), link)
        for (name, link), count in zip(KINDS.items(), counts, strict=True)
    ]
    names = [f"{MODELS[i % len(MODELS)]}-{i // len(MODELS)}" for i in range(models)]
    needs = [need._replace(model=name) for name in names for need in planned if need.model == name.rpartition("-")[0]]
    weights = dict(zip(names, np.random.default_rng(seed).dirichlet(np.ones(models)).tolist(), strict=True))

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
    """Plan, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", action="store_true", help=f"compile, and write {NEEDS.name}")
    if parser.parse_args().plan:
        plan()
        return
    planned = [Need(**need) for need in json.loads(NEEDS.read_text())]
    print(f"{machine()}\n")
    print(
        table(
            ("model", "GPU", "batch per GPU", "GB", "step at least, ms"),
            [(n.model, n.kind, n.batch_size, f"{n.bytes / 1e9:.1f}", f"{1e3 * n.seconds:.1f}") for n in planned],
        )
    )
    rows = []
    for counts, models in CLUSTERS:
        results = [cluster(counts, models, planned, seed) for seed in range(SHARES)]
        mean = {key: statistics.fmean(r[key] for r in results) for key in results[0]}
        worst = min(r["greedy"] for r in results)
        rows.append(
            (
                sum(counts),
                " + ".join(map(str, counts)),
                models,
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
        "best of 100",
    )
    print("\n" + table((*header, "of them possible", "solver s"), rows))


if __name__ == "__main__":
    main()
