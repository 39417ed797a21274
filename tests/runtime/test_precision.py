"""Which precision `--dtype auto` is, by the devices' own facts."""

import dataclasses
from types import SimpleNamespace

import pytest

from arena_jax.config import TrainingConfig, presets
from arena_jax.runtime.gpus import gpu
from arena_jax.runtime.precision import computation_dtype
from arena_jax.training import plan


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [
        ({"platform": "cpu"}, "float32"),
        ({"platform": "tpu"}, "bfloat16"),
        ({"platform": "gpu", "compute_capability": "7.0"}, "float32"),
        ({"platform": "gpu", "compute_capability": "8.0"}, "bfloat16"),
        ({"platform": "gpu", "compute_capability": "10.0"}, "bfloat16"),
        ({"platform": "gpu", "compute_capability": "gfx90a"}, "float32"),
        ({"platform": "gpu"}, "float32"),
    ],
)
def test_auto_is_what_the_device_has(facts, dtype):
    assert computation_dtype("auto", SimpleNamespace(**facts)) == dtype
    assert computation_dtype("float32", SimpleNamespace(**facts)) == "float32"


@pytest.mark.parametrize(("name", "dtype"), [("a100-40gb", "bfloat16"), ("v100", "float32")])
def test_a_plan_takes_the_targets(name, dtype):
    config = dataclasses.replace(presets.joint_synthetic(), training=TrainingConfig(steps=1, dtype="auto"))
    assert plan.for_target(config, SimpleNamespace(gpu=gpu(name))).training.dtype == dtype
    assert {model.config.dtype for model in plan.abstract_models(config).values()} == {"float32"}, "here is a CPU"
