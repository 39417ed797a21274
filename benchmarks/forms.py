"""Does learning together help? The synthetic preset with each mechanism on and off, same seeds, same data.

    python benchmarks/forms.py                # 5 seeds; about 10 minutes on 2 cores
    python benchmarks/forms.py --seeds 3

Prints validation accuracy after each epoch: the mean over models and seeds with the 95 % t-interval over seeds, and the
paired difference to training each model alone. It is the paper's Table 1 (ablation after 3 epochs), measured here.
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

import numpy as np

from arena_jax import training
from arena_jax.config import presets
from arena_jax.reports.confidence import confidence_interval
from arena_jax.runs.records import read

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import machine, table

ALONE = {"share_alpha": 0.0, "synchronize_beta": 0.0, "convergence_window": 0}
ARMS = {
    "each alone (AdamW)": ALONE,
    "default form": {},
    "default, sharing only": {"synchronize_beta": 0.0, "convergence_window": 0},
    "default, synchronisation only": {"share_alpha": 0.0, "convergence_window": 0},
    "paper's form": {"form": "paper"},
    "published code's form": {"form": "published"},
}


def run(optimizer: dict, seed: int) -> np.ndarray:
    """Validation accuracy (epochs, models)."""
    config = presets.get("joint-synthetic")
    config = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, **optimizer),
        training=dataclasses.replace(config.training, seed=seed, figures=False, tensorboard=False),
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        done = training.train(config, Path(folder) / "run")
        scores = [record["models"] for record in read(done) if record["kind"] == "evaluation"]
    return np.array(
        [[scores[epoch][name]["accuracy"] for name in sorted(scores[epoch])] for epoch in range(len(scores))]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N−1 (default 5)")
    seeds = range(parser.parse_args().seeds)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; joint-synthetic, seeds 0–{len(seeds) - 1}\n", flush=True)
    found = {arm: np.array([run(optimizer, seed) for seed in seeds]) for arm, optimizer in ARMS.items()}
    base = found["each alone (AdamW)"].mean(axis=2)
    rows = []
    for arm, accuracy in found.items():
        per_seed = accuracy.mean(axis=2)
        difference = (
            "" if arm.startswith("each") else confidence_interval(per_seed[:, 2] - base[:, 2]).plus_minus("+.1f", 100)
        )
        epochs = [confidence_interval(per_seed[:, epoch]).plus_minus(".1f", 100) for epoch in range(per_seed.shape[1])]
        rows.append((arm, *epochs, f"{100 * np.median(per_seed[:, 2]):.1f}", difference))
    heads = [f"epoch {epoch + 1}" for epoch in range(base.shape[1])]
    print(table(("validation accuracy, %", *heads, "epoch 3, median", "epoch 3 − alone"), rows))


if __name__ == "__main__":
    main()
