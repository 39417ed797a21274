"""Studies whose runs are planted: killed, resumed, shared out, tuned, judged, disputed."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from arena_jax import ArenaError
from arena_jax.cli.main import main
from arena_jax.compare import (
    Cell,
    Ledger,
    Share,
    all_cells,
    compare,
    estimate,
    null_cells,
    plan_from,
    plan_to_dict,
    results,
    run_cells,
)
from arena_jax.compare.null import null
from arena_jax.compare.verdict import decide, pair
from arena_jax.reports.comparison import describe
from arena_jax.runs import document
from tests.compare.conftest import BROKEN, TRAIN

ROOT = Path(__file__).parents[2]


def timeless(result):
    """A result without what no two runs share: seconds, bytes, and when it began."""
    content = json.loads(json.dumps(result, default=str))

    def strip(value):
        if isinstance(value, dict):
            names = ("begun", "wall", "bytes", "seconds", "compile_seconds", "machine")
            return {key: strip(item) for key, item in value.items() if key not in names}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(content)


def test_a_difference_that_was_planted_is_found(values, tmp_path):
    result = compare(values, tmp_path / "study")
    (comparison,) = result["comparisons"]
    assert comparison["verdict"] == "better"
    assert comparison["success"]
    assert comparison["low"] <= 2**-0.5 * 1.05
    assert comparison["high"] >= 2**-0.5 * 0.95
    assert comparison["sentence"].startswith("arm fast needs 0.7")
    assert comparison["sentence"].endswith("of the steps of baseline slow to 90 % accuracy (8 paired seeds)")
    point = result["cells"]["slow"][0]["curve"][0]
    assert point["compile_seconds"] == 3.0
    assert point["seconds"] == 0.5
    assert not (tmp_path / "study" / "work").exists()


def test_the_cells_of_a_plan_are_found_again(plan, tmp_path):
    ledger = Ledger(tmp_path)
    shown = []
    first = run_cells(plan, ledger, all_cells(plan)[:5], show=shown.append)
    assert first.complete
    assert estimate(plan, ledger)["over"] == 5
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    whole = run_cells(plan, ledger, all_cells(plan))
    assert whole.over == 16
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())


def test_no_verdict_before_all_runs_are_over(plan, tmp_path):
    ledger = Ledger(tmp_path)
    progress = run_cells(plan, ledger, all_cells(plan), share=Share(1, 2))
    assert progress.over == 8
    with pytest.raises(ArenaError, match="verdicts are given when all are"):
        results(plan, ledger)


def test_another_plan_is_another_study(values, plan, tmp_path):
    ledger = Ledger(tmp_path)
    run_cells(plan, ledger, all_cells(plan)[:1])
    values["arms"]["fast"]["optimizer"]["learning_rate"] = 3e-3
    other = plan_from(values)
    with pytest.raises(ArenaError, match="holds another study: since its first run the plan changed"):
        run_cells(other, ledger, all_cells(other))


def test_a_run_does_not_land_in_a_study_that_took_the_folder_meanwhile(values, plan, tmp_path):
    ledger = Ledger(tmp_path)
    values["seeds"] = 9
    other = plan_from(values)

    def take_the_folder(line):
        if line.endswith("1 of 1: slow.0") and not ledger.read(Cell("slow", 1)):
            run_cells(other, Ledger(tmp_path), [Cell("slow", 1)])

    with pytest.raises(ArenaError, match="holds another study"):
        run_cells(plan, ledger, [Cell("slow", 0)], show=take_the_folder)
    assert ledger.read(Cell("slow", 0)) is None


def test_the_source_of_a_function_is_part_of_the_study(values, tmp_path):
    own = tmp_path / "own.py"
    own.write_text((ROOT / "tests/compare/planted.py").read_text())
    values["arms"]["fast"]["train"] = f"{own}:train"
    plan = plan_from(values)
    ledger = Ledger(tmp_path / "study")
    run_cells(plan, ledger, all_cells(plan)[:1])
    own.write_text(own.read_text() + "\n# changed\n")
    with pytest.raises(ArenaError, match="the source of its functions changed"):
        run_cells(plan, ledger, all_cells(plan))


def test_a_folder_of_something_else_is_left_alone(plan, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ArenaError, match="is not empty, and holds no study"):
        run_cells(plan, Ledger(tmp_path), all_cells(plan))


@pytest.fixture
def plan_file(plan, tmp_path):
    """The planted plan as a file that other processes can read."""
    text = f"""
name = "planted"
base = "joint-synthetic"
seeds = 8
baseline = "slow"
change.models = ["bert"]
[arms.slow]
train = {TRAIN!r}
optimizer.learning_rate = 1e-3
[arms.fast]
train = {TRAIN!r}
optimizer.learning_rate = 2e-3
[outcome]
kind = "steps"
metric = "accuracy"
target = 0.9
"""
    (tmp_path / "planted.toml").write_text(text)
    return tmp_path / "planted.toml"


def command(*words, slow="0"):
    # A shell that starts tests in the background has them ignore Ctrl-C.
    call = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    call += "import sys; from arena_jax.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", call, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PLANTED_SLOW": slow, "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def cells_in(folder):
    return len(list((folder / "cells").glob("*.json"))) if (folder / "cells").is_dir() else 0


@pytest.mark.slow
def test_killed_studies_go_on_to_the_bit(plan, plan_file, tmp_path):
    """Two processes at a time, killed twice: nothing is lost but what was at work, and nothing is different."""
    study = tmp_path / "killed"
    for least in (3, 9):
        both = [command("compare", plan_file, "--output", study, slow="0.2") for _ in range(2)]
        deadline = time.monotonic() + 120
        while cells_in(study) < least and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in both:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert least <= cells_in(study) < 16
    last = command("compare", plan_file, "--output", study)
    printed, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    assert "arm fast needs" in printed.lower()
    result = json.loads((study / "result.json").read_text())
    whole = compare(plan, tmp_path / "whole")
    for place in ("comparisons", "cells"):
        assert timeless(result[place]) == timeless(whole[place])
    names = {path.name for path in study.iterdir() if path.name[0] != "."}
    assert names == {"study.json", "cells", "curves.png", "pairs.png", *(f"result.{e}" for e in ("json", "md", "html"))}


@pytest.mark.slow
def test_shares_of_several_processes_lose_nothing(plan, plan_file, tmp_path):
    study = tmp_path / "shared"
    shares = [command("compare", plan_file, "--output", study, "--cells", f"{k}/3") for k in (1, 2, 3)]
    for process in shares:
        assert process.communicate(timeout=180)
        assert process.returncode == 0
    assert cells_in(study) == 16
    assert timeless(results(plan, Ledger(study))["comparisons"]) == timeless(
        compare(plan, tmp_path / "whole")["comparisons"]
    )


def test_runs_that_never_arrive_and_runs_that_diverge_count(values, tmp_path):
    values["arms"]["wild"] = {"train": TRAIN, "optimizer.learning_rate": 5.0}
    values["arms"]["stuck"] = {"train": TRAIN, "optimizer.learning_rate": 1e-5}
    result = compare(values, tmp_path / "study")
    fast, wild, stuck = result["comparisons"]
    assert (fast["verdict"], wild["verdict"], stuck["verdict"]) == ("better", "worse", "worse")
    assert fast["p_holm"] > fast["p"]
    assert {record["status"] for record in result["cells"]["wild"]} == {"diverged"}
    assert math.isinf(wild["estimate"])
    assert math.isinf(stuck["high"])
    assert "8 of 16 runs diverged" in wild["sentence"]
    assert "8 of 16 runs did not reach the target" in stuck["sentence"]
    assert stuck["sentence"].startswith("no run of arm stuck arrives at 90 % accuracy")
    page = document.markdown(describe(plan_from(values), result))
    assert "| stuck / slow | worse | no | no run of arm stuck arrives |" in page
    assert "[∞, ∞)" not in page


def test_a_run_that_fails_is_in_the_table_and_tried_again(values, tmp_path):
    values["arms"]["fast"]["train"] = BROKEN
    plan = plan_from(values)
    ledger = Ledger(tmp_path)
    for _ in range(2):
        progress = run_cells(plan, ledger, all_cells(plan))
        assert len(progress.failed) == 8
        assert progress.recorded
        assert not progress.complete
        assert "KeyError" in progress.text()
    (comparison,) = results(plan, ledger)["comparisons"]
    assert comparison["verdict"] == "not shown"
    assert "8 of 16 runs failed" in comparison["sentence"]


def test_tuning_chooses_on_its_own_seeds_the_baseline_too(values, tmp_path):
    values["tuning"] = {"seeds": 2, "grid": {"optimizer.learning_rate": [5e-4, 1e-3, 2e-3]}}
    values["arms"] = {"slow": {"train": TRAIN}, "fast": {"train": TRAIN, "optimizer.share_alpha": 0.3}}
    plan = plan_from(values)
    ledger = Ledger(tmp_path)
    half = run_cells(plan, ledger, all_cells(plan), share=Share(1, 2))
    assert half.waiting > 0  # final runs wait for the trials of the other share
    assert run_cells(plan, ledger, all_cells(plan)).complete
    result = results(plan, ledger)
    for arm in ("slow", "fast"):
        assert result["tuning"][arm]["settings"] == {"optimizer.learning_rate": 2e-3}
        assert result["tuning"][arm]["edge"] == ["optimizer.learning_rate"]
        assert len(result["tuning"][arm]["trials"]) == 3
    assert result["comparisons"][0]["verdict"] == "not shown"
    seeds = {record["cell"]["seed"] for record in result["trials"]}
    assert seeds.isdisjoint(plan.seeds)


def test_null_comparisons_of_recorded_runs_claim_at_most_three_in_twenty(values, tmp_path):
    values["seeds"] = 10
    plan = plan_from(values)
    ledger = Ledger(tmp_path)
    run_cells(plan, ledger, null_cells(plan))
    outcomes = np.array([ledger.read(cell)["outcome"] for cell in null_cells(plan)])
    assert len(set(outcomes)) > 10
    answer = null(plan, outcomes[::2], outcomes[1::2])
    assert answer["verdict"] == "not shown"
    assert answer["claims"] <= 3
    # The same of a score's test, and over many more splits than twenty.
    values["outcome"] = {"kind": "score", "metric": "accuracy"}
    score = plan_from(values)
    random, claims = np.random.default_rng(0), {"steps": 0, "score": 0}
    for _ in range(400):
        a, b = np.split(random.permutation(outcomes), 2)
        for kind, of in (("steps", plan), ("score", score)):
            result = pair(of.outcome, a.tolist(), b.tolist())
            claims[kind] += decide(of.outcome, result, result.p) != "not shown"
    assert max(claims.values()) / 400 <= 0.07


def test_correction_can_take_a_verdict_away(plan, tmp_path):
    ledger = Ledger(tmp_path)
    run_cells(plan, ledger, all_cells(plan))
    (comparison,) = results(plan, ledger)["comparisons"]
    assert (comparison["verdict"], comparison["p"]) == ("better", 2 * 0.5**8)
    (corrected,) = results(plan, ledger, others=[comparison["p"]] * 9)["comparisons"]
    assert corrected["verdict"] == "not shown"
    assert corrected["sentence"].startswith("not shown: arm fast needs")
    assert corrected["sentence"].endswith("p = 0.078 after Holm's correction for 10 comparisons")


def test_a_loss_arrives_at_its_target_from_above(values, tmp_path):
    values["outcome"] = {"kind": "steps", "metric": "loss", "target": 0.3}  # planted: 1 − accuracy
    loss = compare(values, tmp_path / "loss")["comparisons"][0]
    values["outcome"] = {"kind": "steps", "metric": "accuracy", "target": 0.7}
    accuracy = compare(values, tmp_path / "accuracy")["comparisons"][0]
    assert min(accuracy["outcomes"][1]) > 10
    assert loss["outcomes"] == accuracy["outcomes"]


def test_scores_at_steps_and_seconds(values, tmp_path):
    outcomes = {}
    values["change"]["training"] = {"steps": 240, "evaluate_every": 2}
    for name, extra in {"end": {}, "step": {"at_step": 60}, "seconds": {"at_seconds": 15.0}}.items():
        values["outcome"] = {"kind": "score", "metric": "accuracy", **extra}
        outcomes[name] = compare(copy.deepcopy(values), tmp_path / name)["comparisons"][0]
    assert outcomes["end"]["verdict"] == "not shown"  # both are at 100 %
    assert outcomes["step"]["verdict"] == outcomes["seconds"]["verdict"] == "better"
    assert outcomes["step"]["estimate"] == pytest.approx(outcomes["seconds"]["estimate"])  # 60 steps are 15 seconds
    assert "points of accuracy after 60 steps (8 paired seeds)" in outcomes["step"]["sentence"]


def test_the_command_prints_a_page_and_writes_all_forms(plan_file, tmp_path, capsys):
    study = tmp_path / "study"
    assert main(["compare", str(plan_file), "--output", str(study), "--dry-run"]) == 0
    assert "16 runs (slow 8, fast 8), of which 0 are over" in capsys.readouterr().out
    assert not study.exists()
    assert main(["compare", str(plan_file), "--output", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "Arm fast needs" in printed
    page = (study / "result.html").read_text()
    assert page.count("data:image/png;base64") == 2
    assert "learning_rate" in page
    assert "## The plan" in (study / "result.md").read_text()
    assert main(["compare", str(plan_file), "--output", str(study), "--null"]) == 0
    assert "slow against itself, 8 pairs of seeds" in capsys.readouterr().out
    assert main(["compare", str(plan_file), "--output", str(study), "--power"]) == 2
    assert "success.effect" in capsys.readouterr().err


def test_power_is_asked_of_the_baseline_alone(plan_file, tmp_path, capsys):
    plan_file.write_text(plan_file.read_text() + "[success]\neffect = 0.7\n")
    assert main(["compare", str(plan_file), "--output", str(tmp_path / "study"), "--power"]) == 0
    assert "paired seeds (by the spread of 8 runs of slow; the plan has 8" in capsys.readouterr().out
    assert {file.name.split(".")[0] for file in (tmp_path / "study" / "cells").iterdir()} == {"slow"}


def test_a_dispute_is_judged_by_the_same_plan(plan, tmp_path, capsys, monkeypatch):
    from arena_jax.reports import comparison

    ledger = Ledger(tmp_path / "published")
    run_cells(plan, ledger, all_cells(plan))
    comparison.write(plan, results(plan, ledger), ledger.folder)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pathlib import Path\nimport dataclasses\n"
        f"exec(Path({str(ROOT / 'tests/compare/planted.py')!r}).read_text().replace('/ 1e-3', '/ 1e-4'))\n"
    )
    words = ["compare", "dispute", str(ledger.folder), "--arm", f"{mine}:train", "--output", str(tmp_path / "dispute")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Arm mine needs" in printed
    assert "published: arm fast needs" in printed
    result = json.loads((tmp_path / "dispute" / "result.json").read_text())
    assert result["others"] == [results(plan, ledger)["comparisons"][0]["p"]]
    assert result["comparisons"][0]["p_holm"] == 2 * result["comparisons"][0]["p"]
    assert timeless(result["cells"]["slow"]) == timeless(results(plan, ledger)["cells"]["slow"])
    assert main(["compare", "dispute", str(tmp_path / "nowhere"), "--arm", str(mine)]) == 2
    assert main(["compare", "dispute", str(ledger.folder)]) == 2


def test_a_plan_is_written_back(plan, tmp_path):
    run_cells(plan, Ledger(tmp_path), [Cell("slow", 0)])
    study = json.loads((tmp_path / "study.json").read_text())
    assert plan_from(study["plan"]) == plan
    assert study["plan"] == plan_to_dict(plan)
    assert len(study["identity"]["source"]) == 64


@pytest.mark.parametrize("text", ["0/3", "4/3", "a/b", "3", "1/-2", "1/" + "9" * 30])
def test_a_bad_share_is_refused(plan_file, text, capsys):
    assert main(["compare", str(plan_file), "--cells", text]) == 2
    assert "--cells" in capsys.readouterr().err


@pytest.mark.slow
def test_where_compiling_counts_every_run_compiles_for_itself(values, tmp_path):
    values["outcome"] = {"kind": "seconds", "metric": "accuracy", "target": 0.9, "compiling": True}
    plan = plan_from(values)
    run_cells(plan, Ledger(tmp_path), [Cell("slow", 0)])
    record = Ledger(tmp_path).read(Cell("slow", 0))
    training = next(point for point in record["curve"] if point["models"]["bert"]["accuracy"] >= 0.9)["seconds"]
    assert record["outcome"] == training + 3.0  # planted: what the step took to compile
    values["outcome"]["compiling"] = False
    run_cells(plan_from(values), Ledger(tmp_path / "other"), [Cell("slow", 0)])
    other = Ledger(tmp_path / "other").read(Cell("slow", 0))
    assert (other["outcome"], other["compile_seconds"]) == (training, 3.0)
