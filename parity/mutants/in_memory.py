"""Faults that leave all numbers as they are, and take memory that was to be saved."""

from __future__ import annotations

from parity.mutants.fault import fault

MUTANTS = (
    fault(
        "parameters that are to be dealt out lie whole on every device",
        "models.shards:sharding_of",
        "if SHARD in mesh.shape",
        "if False",
        "trajectory/all/paper, parameters in shards on 4 devices/float64",
    ),
    fault(
        "blocks that are to keep their inputs alone keep their products, too",
        "models.transformer:_run_blocks",
        'if config.remat == "dots"',
        'if config.remat != "none"',
        "tests/training/test_remat.py::test_a_policy_that_keeps_less_takes_less_memory",
    ),
)
