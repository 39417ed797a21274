"""What the documents say is run and looked up: README and every page under docs.

- Python blocks of a page run from top to bottom in one namespace. A block in a comment, `<!-- python … -->`, runs too and is
  not shown: it makes what the page takes as given. A block marked `text` right behind one is what it prints.
- Commands, in console blocks and in tables, are parsed by the command line's own strict parser.
- Options, names of `arena_jax` and files of this repository that a page names exist; links lead somewhere.
"""

import argparse
import contextlib
import doctest
import importlib
import io
import re
import shlex
from pathlib import Path

import jax
import pytest

from arena_jax import cli
from arena_jax.config import presets

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "benchmarks").rglob("*.md")),
    )
}
# What was printed on a day of the past keeps the names of that day.
OF_TODAY = [page for page in PAGES if not page.startswith("benchmarks/results/") and page != "docs/scaling_study.md"]
BLOCK = re.compile(r"(?:```python|<!-- python)\n(.*?)(?:```|-->)\n(?:\n*```text\n(.*?)```)?", re.DOTALL)
SAME = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PACKAGES = "config|transforms|models|data|runtime|runs|training|equilibria|arena|game|reports|cli"


def everywhere(pattern, pages=tuple(PAGES)):
    """(page, match) for each match on each of the pages."""
    return [(page, match) for page in pages for match in sorted(set(re.findall(pattern, PAGES[page])))]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that holds the run the pages speak of, runs/joint-synthetic-1: two steps of smaller models."""
    folder = tmp_path_factory.mktemp("documents")
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "vocab_size": 300}
    models = [f"{name}.{field}={value}" for name in ("bert", "gpt2", "roberta") for field, value in sizes.items()]
    words = [word for model in models for word in ("--model", model)]
    words += ["--steps", "2", "--no-figures", "--no-tensorboard", "--output", str(folder / "runs/joint-synthetic-1")]
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["train", "joint-synthetic", *words]) == 0
    return folder


@pytest.mark.parametrize("page", [page for page in OF_TODAY if BLOCK.search(PAGES[page])])
def test_python_runs(page, request, monkeypatch, tmp_path):
    needs_run = "runs/joint-synthetic-1" in "".join(code for code, _ in BLOCK.findall(PAGES[page]))
    monkeypatch.chdir(request.getfixturevalue("workplace") if needs_run else tmp_path)
    names = {"__name__": "__main__"}
    for code, expected in BLOCK.findall(PAGES[page]):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        if expected:
            assert SAME.check_output(expected, printed.getvalue(), FLAGS), printed.getvalue()
    jax.clear_caches()


def commands(page):
    """What follows `$ ` in console blocks, and `arena-jax …` in code within a line; without comments."""
    consoles = re.findall(r"```console\n(.*?)```", PAGES[page], re.DOTALL)
    lines = [line.removeprefix("$ ") for block in consoles for line in block.splitlines() if line.startswith("$ ")]
    lines += [code for code in re.findall(r"`(arena-jax [^`]+)`", PAGES[page]) if "…" not in code]
    return [line.split(" #")[0].strip() for line in lines]


def test_the_two_commands_come_first_and_exist():
    assert commands("README.md")[:2] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for page in OF_TODAY:
        for command in commands(page):
            if command.startswith("make "):
                assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), (page, command)


@pytest.mark.parametrize(("page", "command"), [(p, c) for p in OF_TODAY for c in commands(p) if "arena-jax" in c])
def test_each_command_is_understood(page, command):
    """Parsed with the strict parser: an option or command that does not exist raises."""
    words = shlex.split(command[command.index("arena-jax") :].split("arena-jax", 1)[1].rstrip("&"))
    if words in ([], ["--help"]) or words[-1] == "--help":
        return
    arguments = cli.parser().strictly(words)
    assert arguments.command == words[0]
    if getattr(arguments, "preset", None):
        assert arguments.preset in presets.PRESETS


def options():
    """Every option of the command line, of parity and of the benchmarks, and those of other programs that pages name."""
    known = {"--help", "--no-figures", "--build-arg", "--nodes", "--ntasks-per-node", "--gpus-per-task"}
    parsers = [cli.parser()]
    while parsers:
        for action in parsers.pop()._actions:
            known.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    for script in (*(ROOT / "benchmarks").glob("*.py"), ROOT / "parity/__main__.py"):
        known.update(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', script.read_text()))
    return known


@pytest.mark.parametrize(("page", "option"), everywhere(r"(?<![\w-])(--[a-z][a-z-]+)", OF_TODAY))
def test_each_option_exists(page, option):
    assert option in options() or option.startswith("--xla")


@pytest.mark.parametrize(
    ("page", "name"), everywhere(rf"`((?:arena_jax\.)?(?:{PACKAGES})\.(?!py\b|md\b)\w[\w.]*)[(`]", OF_TODAY)
)
def test_each_name_exists(page, name):
    words = name.removeprefix("arena_jax.").split(".")
    thing = importlib.import_module("arena_jax")
    path = "arena_jax"
    for word in words:
        path = f"{path}.{word}"
        if not hasattr(thing, word):
            thing = importlib.import_module(path)
        else:
            thing = getattr(thing, word)


@pytest.mark.parametrize(
    ("page", "path"),
    everywhere(r"`(?:python )?((?:benchmarks|examples|parity|tests|docs|arena_jax)/[\w/.-]+\.\w+)[^`]*`", OF_TODAY),
)
def test_each_file_exists(page, path):
    assert (ROOT / path).exists()


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(("page", "link"), everywhere(r"\]\(([^)\s]+)\)"))
def test_each_link_leads_somewhere(page, link):
    if link.startswith("http"):
        return
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text())


def test_the_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 200
