"""Many reallocations: `benchmarks/reallocation.py` in its short form, judged by what no clock says."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_programs_are_few_and_the_update_is_compiled_once():
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "reallocation.py"),
            "--quick",
            "--run",
            "ladder",
            "--reallocations",
            "6",
        ],
        # One device, as elsewhere than in tests, and programs that are compiled sooner.
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines()}
    for what in (
        "programs alive of any model, most",
        "times the update was compiled",
        "blocked by a cold size, longest",
    ):
        assert ": met" in rows[what], rows[what]
    assert "| 6 |" in rows["reallocations"]
