"""Runs killed by SIGKILL, a few times: `benchmarks/chaos.py` in its short form; 50 kills are in its results."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_killed_runs_go_on_to_the_bit():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--kills", "4", "--seed", "2"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "4 of 4 kills left nothing behind" in told.stdout
