"""Real runs: a study that is killed twice ends with the scores, steps and verdicts of one that was not."""

import json
import os
import signal
import time

import pytest

from arena_jax import config
from arena_jax.compare import Ledger, all_cells, final_cells, plan_from, results, run_cells
from arena_jax.config import presets
from arena_jax.config.change import change
from arena_jax.runs.records import read
from tests.arena.tiny import tiny
from tests.compare.test_engine import cells_in, command, timeless

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "vocab_size": 300}
PLAN = """
base = "base.json"
seeds = 6
baseline = "slow"
arms.slow.optimizer.learning_rate = 1e-3
arms.fast.optimizer.learning_rate = 4e-3
[outcome]
kind = "steps"
metric = "loss"
target = 0.6931
"""


@pytest.mark.slow
def test_a_study_killed_twice_is_the_same_to_the_bit(tmp_path):
    base = change(presets.get("joint-synthetic"), {"models": {"bert": SIZES}})
    short = {"steps": 40, "evaluate_every": 2, "devices": 1}
    base = change(base, {"models": ["bert"], "training": short, "data": {"train_limit": 100, "validation_limit": 60}})
    config.save(base, tmp_path / "base.json")
    (tmp_path / "rates.toml").write_text(PLAN)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for least, number in ((2, signal.SIGKILL), (5, signal.SIGKILL), (8, signal.SIGINT)):
        process = command("compare", tmp_path / "rates.toml", "--output", killed)
        deadline = time.monotonic() + 300
        while cells_in(killed) < least and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.3)  # into the next run
        os.killpg(process.pid, number)
        printed, errors = process.communicate(timeout=300)
        if number == signal.SIGINT:  # what is at work is saved, and gone on with
            assert process.returncode == 130, errors
            assert "the same command goes on" in printed
        assert least <= cells_in(killed) < 12
    for folder in (killed, whole):
        process = command("compare", tmp_path / "rates.toml", "--output", folder)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    results = [json.loads((folder / "result.json").read_text()) for folder in (killed, whole)]
    for place in ("cells", "comparisons"):
        assert timeless(results[0][place]) == timeless(results[1][place])
    curves = [record["curve"] for record in results[0]["cells"]["slow"]]
    assert all(len(curve) == 20 for curve in curves)
    assert len({curve[-1]["models"]["bert"]["loss"] for curve in curves}) == 6  # seeds differ


@pytest.mark.slow
def test_competitions_are_cells(tmp_path):
    """Judged at equal device-seconds, as the competition itself counts them."""
    plan = plan_from(
        {
            "name": "policies",
            "base": tiny(),
            "seeds": 2,
            "baseline": "static",
            "arms": {"static": {"arena.policy": "static"}, "modelarena": {"arena.policy": "modelarena"}},
            "outcome": {"kind": "score", "metric": "loss", "over": "best"},
        }
    )
    ledger = Ledger(tmp_path)
    assert run_cells(plan, ledger, all_cells(plan), keep_runs=True).complete
    cell = final_cells(plan)[0]
    record, run = ledger.read(cell), tmp_path / "work" / cell.name / "run"
    evaluations = [record for record in read(run) if record["kind"] == "evaluation"]
    assert [point["step"] for point in record["curve"]] == [evaluation["step"] for evaluation in evaluations]
    last = evaluations[-1]
    assert record["outcome"] == min(scores["loss"] for scores in last["models"].values())
    assert record["seconds"] == sum(account["seconds"] for account in last["accounts"].values()) > 0
    assert results(plan, ledger)["comparisons"][0]["pairs"] == 2
