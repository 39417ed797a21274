"""What only a GPU can show: `benchmarks/gpu.py` in its small form, so that it works when there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_part_works_and_says_what_it_could_not_measure(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--small", "--output", str(tmp_path / "gpu.json")],
        # One device, as elsewhere than in tests, and programs that are compiled sooner.
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text())
    parts = {}
    for row in content["rows"]:
        parts.setdefault(row["part"], []).append(row)
    assert list(parts) == ["planned", "memory", "largest", "peak", "torch", "attention", "competition"]
    assert len(parts["planned"]) == 6
    assert "5 steps of 64" in parts["memory"][0]["what"]
    assert [row["value"] for row in parts["attention"]].count("not here") == 2, "cuDNN's"
    assert parts["competition"][0]["value"] == "6"
    table = (tmp_path / "gpu.md").read_text()
    assert all(f"| {row['part']} | {row['what']} |" in table for row in content["rows"])
