"""Jobs: what is refused before anything is submitted, and a study by submitit's local executor."""

import json

import pytest

from arena_jax.cli.main import main
from arena_jax.compare import Share, all_cells, plan_from
from arena_jax.compare.launch import ShareOfPlan, read_settings
from arena_jax.compare.plan_file import plan_to_dict
from arena_jax.config.errors import ArenaError
from tests.compare.conftest import TRAIN

TOML = f"""
name = "planted"
base = "joint-synthetic"
seeds = 8
baseline = "slow"
change.models = ["bert"]
arms.slow = {{ train = "{TRAIN}", optimizer.learning_rate = 1e-3 }}
arms.fast = {{ train = "{TRAIN}", optimizer.learning_rate = 2e-3 }}
[outcome]
kind = "steps"
metric = "accuracy"
target = 0.9
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PLAN", "--jobs", "2"], "give --launcher slurm or local, too"),
        (["PLAN", "--launcher", "local"], "--launcher needs --jobs N"),
        (["PLAN", "--launcher", "local", "--jobs", "0"], "1 or more"),
        (["PLAN", "--launcher", "local", "--jobs", "2", "--cells", "1/2"], "give one of the two"),
        (["PLAN", "--launcher", "local", "--jobs", "2", "--null"], "without --power and --null"),
        (["PLAN", "--launcher", "local", "--jobs", "2", "--job-option", "partition"], "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_submitted_is_refused(words, said, tmp_path, capsys):
    (tmp_path / "planted.toml").write_text(TOML)
    words = [str(tmp_path / "planted.toml") if word == "PLAN" else word for word in words]
    assert main(["compare", *words, "--output", str(tmp_path / "study")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "study" / "cells").exists()


def test_settings_are_texts_or_whole_numbers():
    assert read_settings(["timeout_min=60", "slurm_mem=8G"]) == {"timeout_min": 60, "slurm_mem": "8G"}
    with pytest.raises(ArenaError, match="write NAME=VALUE"):
        read_settings(["a b=3"])


def test_the_shares_of_all_jobs_are_every_cell(plan, tmp_path):
    """A job is data: what it holds makes the same plan, and its share of the cells."""
    jobs = [ShareOfPlan(plan_to_dict(plan), str(tmp_path), Share(number, 3), False) for number in (1, 2, 3)]
    cells = [cell for job in jobs for cell in job.share.of(all_cells(plan_from(dict(job.plan))))]
    assert sorted(cells) == sorted(all_cells(plan))
    assert [job() for job in jobs][-1] == "all 16 runs are over"


@pytest.mark.slow
def test_a_study_is_run_by_jobs_and_judged_when_they_are_over(tmp_path, capsys):
    pytest.importorskip("submitit", reason="submitit is not installed")
    (tmp_path / "planted.toml").write_text(TOML)
    folder = tmp_path / "study"
    words = [str(tmp_path / "planted.toml"), "--output", str(folder), "--launcher", "local", "--jobs", "2"]
    assert main(["compare", *words]) == 0
    assert "arm fast needs" in capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    assert result["comparisons"][0]["verdict"] == "better"
    printed = [file.read_text() for file in (folder / "jobs").glob("*_log.out")]
    assert len(printed) == 2
    assert sum(text.count("finished") for text in printed) == 16, "the jobs ran them, each once"
    assert main(["compare", *words, "--job-option", "no_such_setting=1"]) == 2
    assert "submitit cannot submit to local" in capsys.readouterr().err
