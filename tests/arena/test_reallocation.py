"""Many reallocations: `benchmarks/reallocation.py` in its short form, judged by what no clock measures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_programs_are_few_and_the_update_is_compiled_once():
    """In short: `test_competition_options.test_of_many_sizes_four_live_and_the_evicted_are_compiled_again`."""
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "reallocation.py"),
            "--quick",
            "--run",
            "many",
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
