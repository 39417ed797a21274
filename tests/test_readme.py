"""What README shows is run: its Python as it stands, its commands as far as the command line understands them."""

import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import pytest

from arena_jax.cli.main import parser
from arena_jax.config import presets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_library_example_runs():
    tree = {"mlp": {"kernel": jnp.ones((3, 3))}}
    names = {
        "params": {"bert": tree, "gpt2": tree},
        "gradients": {"bert": tree, "gpt2": tree},
        "losses": {"bert": 1.0, "gpt2": 2.0},
    }
    transforms, _ = blocks("python")
    exec(transforms, names)
    assert float(names["params"]["bert"]["mlp"]["kernel"][0, 0]) < 1.0


def test_the_memory_oracle_example_runs(capsys):
    _, oracle = blocks("python")
    names = {}
    exec(oracle, names)
    assert names["choice"].estimate.total <= 1_000_000
    assert capsys.readouterr().out == names["choice"].reason + "\n"


def commands():
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line.split("#")[0].removeprefix("$ ").strip() for line in lines if line.startswith("$ ")]


def test_the_two_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    assert commands()[:2] == ["make demo", "make test"]
    assert re.search(r"^demo:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("arena-jax ")])
def test_each_command_is_understood(command):
    """Parsed with the strict parser: an option or command that does not exist raises."""
    words = shlex.split(command)[1:]
    arguments = parser().strictly(words)
    assert arguments.command == words[0]
    if getattr(arguments, "preset", None):
        assert arguments.preset in presets.PRESETS


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_each_link_leads_somewhere(link):
    assert (ROOT / link).exists()
