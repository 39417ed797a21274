"""Arms that train nothing: they write the records of runs whose scores are known, in a moment.

What a run needs to 90 % is 100 steps with the learning rate 1e-3, less with a higher one, and differs by seed.
"""

import os
import time
from pathlib import Path

import numpy as np

from arena_jax.runs.records import Records

EVERY, STEPS = 2, 240


def steps_to_target(rate, seed):
    """When accuracy passes 0.9: what a seed has drawn is the same in every arm, and so is most of the noise."""
    random = np.random.default_rng(seed)
    shared, own = random.normal(size=2)
    own *= 1 + rate  # not the same in two arms
    return 100 * (rate / 1e-3) ** -0.5 * np.exp(0.2 * shared + 0.03 * own)


def train(config, folder):
    """Write a run."""
    folder.mkdir(parents=True)
    rate, seed = config.optimizer.learning_rate, config.training.seed
    if os.environ.get("PLANTED_SLOW"):
        time.sleep(float(os.environ["PLANTED_SLOW"]))
    with Records(folder, tensorboard=False) as records:
        records.write("start", 0, devices=["planted"], models={})
        records.write("compile", 0, program="step", seconds=3.0, bytes=1)
        if rate > 1:
            records.write("trouble", 5, what="non-finite", text="planted", model="bert")
            raise_divergence()
        for step in range(EVERY, STEPS + 1, EVERY):
            records.write("train", step, seconds=0.5, models={})
            accuracy = float(np.clip(0.9 * step / steps_to_target(rate, seed), 0, 1))
            records.write(
                "evaluation", step, split="validation", models={"bert": {"loss": 1 - accuracy, "accuracy": accuracy}}
            )
        records.write("end", STEPS)
    return Path(folder)


def raise_divergence():
    from arena_jax import ArenaError

    raise ArenaError("bert: the loss or gradient was not finite")


def broken(config, folder):
    """A function with a bug."""
    del config, folder
    raise KeyError("planted")
