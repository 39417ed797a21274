"""Several devices: the same step, the batch spread over a mesh, the same numbers as on one device.

    python examples/several_devices.py                                                    # all devices there are
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/several_devices.py  # 8 devices of one CPU

Takes about 30 seconds on 2 cores. Prints how a batch lies on the devices, and the losses on one device and on all: they
agree to float32's rounding.
"""

import argparse

import jax
import numpy as np
import optax

from arena_jax import models, runtime, training

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--steps", type=int, default=5, help="updates (default 5)")
steps = options.parse_args().steps

# ---- models and batches: 4 examples for each device ----
made = {
    "gpt2": models.create("gpt2-tiny", task="causal-lm", seed=0),
    "roberta": models.create("roberta-tiny", task="sequence-classification", seed=0),
}
random = np.random.default_rng(0)
rows = 4 * len(jax.devices())
batches = {
    name: {
        "input_ids": random.integers(5, 250, (rows, 24)).astype(np.int32),
        "attention_mask": np.ones((rows, 24), np.int32),
    }
    for name in made
}
batches["roberta"]["labels"] = random.integers(0, 2, rows).astype(np.int32)

# ---- the same run on one device and on all ----
for mesh in (runtime.make_mesh(1), runtime.make_mesh()):
    step = training.make_step(made, optax.sgd(0.1), mesh=mesh, accumulation=2, seed=0)
    state = step.init()
    placed = step.place(batches)["gpt2"]["input_ids"]
    print(
        f"{mesh.shape['data']} device(s): {rows} examples as {placed.shape[0]} microbatches, "
        f"{placed.addressable_shards[0].data.shape[1]} examples each on a device"
    )
    for number in range(1, steps + 1):
        state, metrics = step(state, batches)
        print(f"  step {number}  " + "  ".join(f"{name} loss {float(metrics[name]['loss']):.6f}" for name in made))
