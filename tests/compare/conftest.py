"""Plans whose runs are planted."""

from pathlib import Path

import pytest

from arena_jax.compare import plan_from

TRAIN = f"{Path(__file__).with_name('planted.py')}:train"
BROKEN = f"{Path(__file__).with_name('planted.py')}:broken"


@pytest.fixture
def values():
    """A plan as dictionaries: eight seeds, two learning rates, steps to 90 %."""
    return {
        "name": "planted",
        "base": "joint-synthetic",
        "change": {"models": ["bert"]},
        "seeds": 8,
        "baseline": "slow",
        "arms": {
            "slow": {"train": TRAIN, "optimizer.learning_rate": 1e-3},
            "fast": {"train": TRAIN, "optimizer": {"learning_rate": 2e-3}},
        },
        "outcome": {"kind": "steps", "metric": "accuracy", "target": 0.9},
    }


@pytest.fixture
def plan(values):
    return plan_from(values)
