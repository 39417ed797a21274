"""Do learning rates that follow convergence act, and do they help? Algorithm 3's slopes against none.

    python benchmarks/convergence.py --seeds 4                                  # joint-synthetic
    python benchmarks/convergence.py --preset joint-sst2 --data FOLDER --seeds 2   # 6 400 sentences, 2 epochs

Prints, for each slope: the factor on the models' learning rates (least and greatest over models, seeds and records),
how far the models' rates are apart at most, the mean validation loss at the end, and its paired difference
to fixed rates with the 95 % t-interval over seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import training
from arena_jax.compare.confidence import confidence_interval
from arena_jax.config import RunConfig, presets
from arena_jax.runs.records import read

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import machine, table

SLOPES = ("none", "absolute", "studentized")  # signed differs from absolute where a loss rises, and there alone
WINDOWS = {"joint-synthetic": 20, "joint-sst2": 50}
SHORT: dict[str, dict[str, Any]] = {
    "joint-synthetic": {},
    "joint-sst2": {"train_limit": 6_400, "max_length": 32, "lengths": ()},
}


def configure(preset: str, data: str | None, slope: str, seed: int) -> RunConfig:
    config = presets.get(preset)
    changes: dict[str, Any] = {"convergence_window": 0}
    if slope != "none":
        changes = {"convergence_window": WINDOWS[preset], "convergence_slope": slope}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **SHORT[preset], **({"name": data} if data else {})),
        optimizer=dataclasses.replace(config.optimizer, **changes),
        training=dataclasses.replace(config.training, seed=seed, log_every=5, figures=False, tensorboard=False),
    )


def run(config: RunConfig) -> tuple[np.ndarray, float]:
    """Learning rates (records, models), and the mean validation loss at the end."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        records = read(training.train(config, Path(folder) / "run"))
    rates = [[m["learning_rate"] for m in r["models"].values()] for r in records if r["kind"] == "train"]
    last = [record for record in records if record["kind"] == "evaluation"][-1]["models"]
    return np.array(rates), float(np.mean([scores["loss"] for scores in last.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N−1 (default 5)")
    parser.add_argument("--preset", default="joint-synthetic", choices=WINDOWS)
    parser.add_argument("--data", help="folder of the preset's data")
    options = parser.parse_args()
    seeds = range(options.seeds)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {options.preset}, seeds 0–{len(seeds) - 1}, ", end="")
    print(f"window {WINDOWS[options.preset]}\n", flush=True)
    measured = {s: [run(configure(options.preset, options.data, s, seed)) for seed in seeds] for s in SLOPES}
    rows = []
    for slope, runs in measured.items():
        # The last record's base rate is 0.
        factors = np.concatenate([a[0][:-1] / b[0][:-1] for a, b in zip(runs, measured["none"], strict=True)])
        apart = float(np.max(factors.max(axis=1) / factors.min(axis=1)) - 1)
        losses = np.array([loss for _, loss in runs])
        difference = losses - [loss for _, loss in measured["none"]]
        rows.append(
            (
                slope,
                f"{factors.min():.4f} to {factors.max():.4f}",
                f"{100 * apart:.2f} %",
                confidence_interval(losses).plus_minus(".4f"),
                "" if slope == "none" else confidence_interval(difference).plus_minus("+.4f"),
                ", ".join(f"{loss:.4f}" for loss in losses),
            )
        )
    heads = ("slope", "factor on the rate", "models apart", "validation loss", "less that of fixed rates", "seeds")
    print(table(heads, rows))


if __name__ == "__main__":
    main()
