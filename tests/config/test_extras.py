"""Packages and extras: every import is of what pyproject.toml brings, and the table that names them says which."""

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

import arena_jax
from arena_jax.config.extras import EXTRAS, MissingPackage

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Packages of others that jax itself asks for, and those of trackers, which are named by the option that asks for them.
OF_JAX = {"jaxlib", "ml_dtypes", "scipy"}


def distributions(texts):
    return {re.split(r"[<>=\[;]", text)[0].lower().replace("_", "-") for text in texts}


def test_every_import_is_of_a_package_that_is_brought():
    imported = set()
    for file in (ROOT / "arena_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"arena_jax"} - OF_JAX
    assert others - set(EXTRAS) == distributions(PROJECT["dependencies"])


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_the_extra_brings_what_the_table_says(name):
    by_package = importlib.metadata.packages_distributions()
    if name not in by_package:
        pytest.skip(f"{name} is not installed")
    of_package = distributions(by_package[name])
    assert of_package & distributions(PROJECT["optional-dependencies"][EXTRAS[name]])


def test_one_error_for_the_library_and_the_command_line(monkeypatch):
    assert sum(type(finder).__name__ == "_Extras" for finder in sys.meta_path) == 1
    arena_jax.config.extras.name_missing_packages()
    assert sum(type(finder).__name__ == "_Extras" for finder in sys.meta_path) == 1
    monkeypatch.setitem(EXTRAS, "a_package_that_is_not_there", "train")
    code = compile("import a_package_that_is_not_there", "x", "exec")
    with pytest.raises(
        MissingPackage, match=r"^a_package_that_is_not_there is not installed: pip install 'arena-jax\[train\]'$"
    ):
        exec(code, {"__name__": "arena_jax.models.x"})
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        exec(code, {"__name__": "transformers"})
    assert importlib.util.find_spec("a_package_that_is_not_there") is None
