"""Runs killed by SIGKILL: `benchmarks/chaos.py` in its short form, of both kinds; 50 kills are in its results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_runs_go_on_to_the_bit():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--seed", "2", "--kills", "4"],
        # Every process compiles anew, and what is compiled sooner is killed as well.
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 kills left nothing behind" in done.stdout
