"""Does learning together help? The synthetic preset with each mechanism on and off, same seeds, same data.

    python benchmarks/forms.py                # 5 seeds; about 10 minutes on 2 cores
    python benchmarks/forms.py --seeds 3

Prints validation accuracy after each epoch: the mean over models and seeds with the 95 % t-interval over seeds, and the
paired difference after 3 epochs to the arm that an arm differs from in one thing: both clip alike, decay alike and warm
up alike. (The last two rows are whole forms, and differ in several things.) It is the paper's Table 1, measured here.
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
from arena_jax.compare.confidence import confidence_interval
from arena_jax.config import presets
from arena_jax.runs.records import read

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import machine, table

# Everything that is not named in an arm is equal in all of them: each model's gradient is clipped to norm 1, weight
# decay is 0.01, the warm-up and the learning rate are the preset's.
EQUAL = {"max_gradient_norm": 1.0, "weight_decay": 0.01, "synchronize_beta": 0.1, "convergence_window": 0}
ALONE = {"share_alpha": 0.0, "synchronize_beta": 0.0}
# name: (what differs from which arm, the optimizer's fields).
ARMS: dict[str, tuple[str, dict]] = {
    "alone": ("", ALONE),
    "sharing": ("alone", {"synchronize_beta": 0.0}),
    "synchronisation": ("alone", {"share_alpha": 0.0}),
    "default (both)": ("alone", {}),
    "sum, not mean": ("default (both)", {"share_reduce": "sum"}),
    "by kind, not by role": ("default (both)", {"correspondence": "by_kind"}),
    "rates by absolute slope": (
        "default (both)", {"convergence_window": 20, "convergence_slope": "absolute"}
    ),
    "paper's form, clipped": ("default (both)", {"form": "paper", "convergence_window": 100}),
    "published form, clipped": ("default (both)", {"form": "published", "synchronize_beta": 0.0}),
}  # fmt: skip


def run(optimizer: dict, seed: int) -> np.ndarray:
    """Validation accuracy (epochs, models)."""
    config = presets.get("joint-synthetic")
    config = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, **{**EQUAL, **optimizer}),
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
    accuracies: dict[str, np.ndarray] = {}
    for arm, (_, optimizer) in ARMS.items():
        accuracies[arm] = np.array([run(optimizer, seed) for seed in seeds]).mean(axis=2)
        print(f"{arm}: seeds {np.round(100 * accuracies[arm][:, -1], 1).tolist()} % at the end", flush=True)
    rows = []
    for arm, (other, _) in ARMS.items():
        epochs = [confidence_interval(column).plus_minus(".1f", 100) for column in accuracies[arm].T]
        median = f"{100 * np.median(accuracies[arm][:, 2]):.1f}"
        difference = ""
        if other:
            third = accuracies[arm][:, 2] - accuracies[other][:, 2]
            difference = f"{confidence_interval(third).plus_minus('+.1f', 100)} (to {other})"
        rows.append((arm, *epochs, median, difference))
    heads = [f"epoch {epoch + 1}" for epoch in range(accuracies["alone"].shape[1])]
    print(table(("validation accuracy, %", *heads, "epoch 3, median", "epoch 3, difference"), rows))


if __name__ == "__main__":
    main()
