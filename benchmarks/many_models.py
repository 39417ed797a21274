"""Do 16 and 64 small models compete as well as a few? Memory, programs and the stall of a reallocation.

    python benchmarks/many_models.py            # 4, 16 and 64 models, each in a process of its own
    python benchmarks/many_models.py --models 16

All models are alike but for their name and seed: a GPT-2 of one layer, 32 wide, on the synthetic sentiment set, with a
policy that moves the shares at every reallocation. What is measured:

- *MB*: how far the process grew from before the competition to its end; each further model must take no more than those
  before it did, between the first two numbers of models and between the last two;
- *programs*: of gradients and evaluations, those compiled and those that were alive already, as equal shapes share
  theirs;
- *stall*: what the loop spends on a reallocation outside its steps, in steps of all models; the median and the longest
  of those for which nothing was compiled. It may be 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import machine, process_bytes, table, verdict

from arena_jax.arena import competition
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.runs.records import read

COUNTS = (4, 16, 64)
SIZES: dict[str, Any] = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "vocab_size": 300}
FLAT = 1.1  # bytes of a further model, by those of one between the first two numbers
STALL = 1.0


def configuration(count: int, rounds: int) -> RunConfig:
    """A competition of equal models."""
    return RunConfig(
        preset=f"many-{count}",
        task="sequence-classification",
        models=tuple(ModelConfig(f"model-{i:02}", preset="gpt2-tiny", **SIZES) for i in range(count)),
        data=DataConfig(name="synthetic-sentiment", max_length=16, validation_limit=32),
        optimizer=OptimizerConfig(share_alpha=0.0, synchronize_beta=0.0, convergence_window=0),
        training=TrainingConfig(
            steps=rounds,
            batch_size=4,
            evaluation_batch_size=32,
            log_every=rounds,
            evaluate_every=5,
            figures=False,
            tensorboard=False,
        ),
        arena=ArenaConfig(
            memory_budget="2GB",
            reallocate_every=5,
            swap_after=1,
            batch_sizes=(4, 8),
            round_scale=count,
            policy="static",
        ),
    )


def measure(count: int, rounds: int) -> dict[str, Any]:
    """One competition."""
    turns = iter(range(10**6))
    stalls: list[float] = []
    steps: list[float] = []
    clock = {"step": 0.0, "reallocation": 0.0}
    busy = [False]

    def policy(history: Any) -> np.ndarray:
        weights = 1 + 0.2 * np.sin(np.arange(count) + next(turns))
        return weights / weights.sum()

    def observe(moment: str, number: int, setup: Any, state: Any) -> None:
        compiling = setup.executables.searching() or any(not p.search.done() for p in state.pending.values())
        if moment == "round":
            jax.block_until_ready(state.train.params)
            clock["step"] = time.perf_counter()
        elif moment == "step":
            jax.block_until_ready(state.train.params)
            now = time.perf_counter()
            if len(state.stepping) == count and not compiling:
                steps.append(now - clock["step"])
            clock["step"] = now
        elif moment == "before reallocation":
            busy[0] = compiling
            clock["reallocation"] = time.perf_counter()
        elif moment == "after reallocation" and not busy[0] and not compiling:
            stalls.append(time.perf_counter() - clock["reallocation"])

    before = process_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        run = competition.train(configuration(count, rounds), Path(folder) / "run", policy=policy, observe=observe)
        records = read(run)
    compiled = [r for r in records if r["kind"] == "compile" and r["step"] >= 0]
    step = statistics.median(steps)
    return {
        "models": count,
        "bytes": process_bytes("VmRSS") - before,
        "compiled": sum(not r["cached"] for r in compiled),
        "shared": sum(bool(r["cached"]) for r in compiled),
        "compile_seconds": sum(r["seconds"] for r in compiled),
        "step": step,
        "stall": statistics.median(stalls) / step,
        "longest": max(stalls) / step,
        "reallocations": len(stalls),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--alone", action="store_true", help="measure here, and print JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.models[0], arguments.rounds)))
        return
    print(machine())
    results = []
    for count in arguments.models:
        command = [sys.executable, __file__, "--alone", "--models", str(count), "--rounds", str(arguments.rounds)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output.splitlines()[-1]))
        print(results[-1], flush=True)
    header = ("models", "MB", "compiled", "shared", "compiling s", "step ms", "stall, steps", "longest", "of")
    print(
        table(
            header,
            [
                (
                    r["models"],
                    f"{r['bytes'] / 1e6:.1f}",
                    r["compiled"],
                    r["shared"],
                    f"{r['compile_seconds']:.1f}",
                    f"{1e3 * r['step']:.1f}",
                    f"{r['stall']:.2f}",
                    f"{r['longest']:.2f}",
                    r["reallocations"],
                )
                for r in results
            ],
        )
    )
    each = [(b["bytes"] - a["bytes"]) / (b["models"] - a["models"]) for a, b in itertools.pairwise(results)]
    flat, stall = (each[-1] / each[0] if each else 1.0), max(r["stall"] for r in results)
    more = max(r["compiled"] for r in results) - min(r["compiled"] for r in results)
    print(
        f"\nmemory of a further model: {', '.join(f'{b / 1e6:.2f} MB' for b in each)}; "
        f"{flat:.2f} {verdict(flat, FLAT, at_least=False)}"
    )
    print(f"programs compiled for more models beside those for the fewest: {more} {verdict(more, 0, at_least=False)}")
    print(f"stall of a reallocation, median: {stall:.2f} steps of all models {verdict(stall, STALL, at_least=False)}")
    raise SystemExit(not (flat <= FLAT and stall <= STALL and not more))


if __name__ == "__main__":
    main()
