"""Options have the names that people know where they mean the same, and shells complete them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from arena_jax.cli import options
from arena_jax.cli.main import COMMANDS, main, parser
from arena_jax.cli.train import base
from arena_jax.config.errors import ArenaError


def configured(*words):
    arguments = parser().parse_args(["train", "joint-synthetic", *words])
    return options.apply(base("joint-synthetic", None), vars(arguments))


def test_an_alias_is_its_option():
    flags = {"--num-train-epochs": "3", "--logging-steps": "7", "--max-grad-norm": "2.5", "--output-dir": "x"}
    other = {"--epochs": "3", "--log-every": "7", "--max-gradient-norm": "2.5", "--output": "x"}
    first, second = (configured(*(word for pair in words.items() for word in pair)) for words in (flags, other))
    assert first == second != configured()
    assert set(options.ALIASES) <= set(options.flags())
    aliases = [alias for names in options.ALIASES.values() for alias in names]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & (set(options.flags()) | set(options.OTHERWISE))


def test_what_means_something_else_is_not_an_alias(capsys):
    for flag, advice in options.OTHERWISE.items():
        assert main(["train", "joint-synthetic", flag, "8"]) == 2
        assert advice in " ".join(capsys.readouterr().err.split())


def test_underscores_are_hyphens(capsys):
    assert main(["train", "joint-synthetic", "--batch_size=33", "--accumulation", "2"]) == 2
    assert "batch_size 33 does not divide" in capsys.readouterr().err


def test_the_help_imports_no_jax():
    code = "import sys; from arena_jax.cli.main import parser; parser(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("arena-jax", "cl"), "clean"),
        (("arena-jax", "train", "joint-sst"), "joint-sst2"),
        (("arena-jax", "train", "--num-tr"), "--num-train-epochs"),
        (("arena-jax", "game", "an"), "analyze"),
    ],
)
def test_bash_completes(line, expected, capsys):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    quoted = " ".join(f"'{word}'" for word in line)
    script += f'\nCOMP_WORDS=({quoted}); COMP_CWORD={len(line) - 1}; _arena_jax; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert expected in done.stdout.split()
    assert all(word.startswith(line[-1]) for word in done.stdout.split())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: the script was not run")
    subprocess.run([shell, "-n", "-c" if shell == "zsh" else "/dev/stdin"], input=script, text=True, check=True)


def test_no_other_shell(capsys):
    assert main(["completion", "tcsh"]) == 2
    with pytest.raises(ArenaError):
        configured("--epochs", "soon")
