"""The wheel, built and used in environments that hold what it asks for, and nothing else.

They are made without a network: of the distributions that the suite itself runs with, those that the wheel's
requirements name are linked into an empty virtual environment, and pip installs the wheel there against them.
"""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
QUIET = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy: setuptools would leave its own files in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("arena_jax", "parity"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    pip(sys.executable, "wheel", *options, str(folder / "source"))
    (built,) = folder.glob("*.whl")
    return built


def pip(python: str | Path, *words: str) -> str:
    command = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), *words]
    # Without PYTHONPATH: what lies there would count as installed.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUIET
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def requirements(texts: Iterable[str], extras: frozenset[str], seen: set[str]) -> Iterator[str]:
    """The distributions that requirements name, and those that these ask for, and so on."""
    for text in texts:
        requirement = Requirement(text)
        marker = requirement.marker
        here = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})
        if here and str(requirement) not in seen:
            seen.add(str(requirement))
            yield requirement.name
            asked = importlib.metadata.requires(requirement.name) or ()
            yield from requirements(asked, frozenset(requirement.extras), seen)


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(entry))


def environment(folder: Path, wheel: Path, extras: str = "") -> Path:
    """An environment with the wheel; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    asked = [text for text in metadata(wheel).get_all("Requires-Dist", []) if not text.startswith("arena-jax[")]
    for name in set(requirements(asked, frozenset(extras.split(",")), set())):
        top = {file.parts[0] for file in importlib.metadata.files(name) or () if file.parts[0] not in ("..", "/")}
        for entry in top - {"__pycache__"}:
            place = Path(str(importlib.metadata.distribution(name).locate_file(entry)))
            if not (site / entry).exists():
                (site / entry).symlink_to(place, target_is_directory=place.is_dir())
    python = folder / "bin" / "python"
    # With its dependencies: what it asks for must be there.
    pip(python, "install", "--no-index", f"{wheel}[{extras}]" if extras else str(wheel))
    return python


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command outside the checkout, with nothing but the environment's own packages."""
    return subprocess.run([str(word) for word in words], cwd=folder, env=QUIET, capture_output=True, text=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of an environment with `pip install arena-jax`, and nothing else."""
    return environment(tmp_path_factory.mktemp("alone"), wheel)


def test_it_asks_for_little(wheel: Path) -> None:
    asked = map(Requirement, metadata(wheel).get_all("Requires-Dist", []))
    assert {requirement.name for requirement in asked if requirement.marker is None} == {"jax", "optax", "numpy"}


@pytest.mark.slow
def test_transformations_work_in_an_empty_environment(alone: Path) -> None:
    """The README's block, as it stands there, from the installed package."""
    readme = (ROOT / "README.md").read_text()
    setup, block = re.findall(r"<!-- python\n(.*?)-->\n\n```python\n(.*?)```", readme, re.DOTALL)[0]
    place = "import arena_jax; print(arena_jax.__file__)"
    done = run(alone.parent, alone, "-W", "error", "-c", f"{setup}\n{block}\n{place}")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(alone.parents[1])


def test_what_is_missing_is_named_with_its_extra(alone: Path) -> None:
    library = run(alone.parent, alone, "-c", "import arena_jax.training")
    assert library.stderr.splitlines()[-1].endswith("is not installed: pip install 'arena-jax[train]'"), library.stderr
    command = run(alone.parent, alone.parent / "arena-jax", "train", "joint-synthetic")
    assert (command.returncode, command.stdout) == (2, "")
    assert re.fullmatch(
        r"arena-jax: error: \w+ is not installed: pip install 'arena-jax\[train\]'\n", command.stderr
    ), command.stderr
    parity = run(alone.parent, alone, "-m", "parity")
    assert (parity.returncode, parity.stderr.count("\n")) == (2, 1), parity.stderr
    assert "arena-jax[parity]" in parity.stderr
    # Others ask for the same packages and do without: for them nothing has changed.
    asked = "import arena_jax, importlib.util; print(importlib.util.find_spec('flax'))"
    assert run(alone.parent, alone, "-c", asked).stdout == "None\n"


@pytest.mark.slow
def test_parity_works_from_the_wheel(tmp_path: Path, wheel: Path) -> None:
    python = environment(tmp_path / "parity", wheel, "train,parity")
    quick = ["--layer", "convergence rate", "--dtype", "float64"]
    (tmp_path / "elsewhere").mkdir()
    done = run(tmp_path / "elsewhere", python, "-m", "parity", *quick)
    assert done.returncode == 0, done.stderr
    assert ", 0 failed," in done.stdout
    words = ["-q", "-p", "no:cacheprovider", "--pyargs", "parity", "-k", "convergence and rate and float64"]
    suite = run(tmp_path / "elsewhere", python, "-m", "pytest", *words)
    assert suite.returncode == 0, suite.stdout + suite.stderr
    assert re.search(r"\b[1-9]\d* passed", suite.stdout)
