"""What the documents say is run and looked up: README and every page under docs.

- Python blocks of a page run from top to bottom in one namespace. A block in a comment, `<!-- python … -->`, runs too
  and is not shown: it makes what the page takes as given. A block marked `text` right behind one is what it prints.
- Commands, in console blocks and in tables, are parsed by the command line's own strict parser; the tutorial's are run.
- Options, names of `arena_jax` and files of this repository that a page names exist; links lead somewhere.
"""

import argparse
import contextlib
import doctest
import functools
import importlib
import io
import re
import shlex
from pathlib import Path

import jax
import pytest

from arena_jax.cli import main as cli
from arena_jax.cli.options import apply
from arena_jax.cli.train import base

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
PACKAGES = "config|transforms|models|data|runtime|runs|training|equilibria|arena|game|compare|reports|cli"


def on(page, pattern):
    """Each match on the page once."""
    return sorted(set(re.findall(pattern, PAGES[page])))


# What makes a run of joint-synthetic one of a second: one smaller model.
SIZES = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "vocab_size": 300}
TINY = [word for field, value in SIZES.items() for word in ("--model", f"bert.{field}={value}")]
TINY += ["--models", "bert", "--devices", "1", "--no-figures", "--no-tensorboard"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that holds the run the pages speak of, runs/joint-synthetic-1: two steps of one smaller model."""
    folder = tmp_path_factory.mktemp("documents")
    words = [*TINY, "--steps", "2", "--output", str(folder / "runs/joint-synthetic-1")]
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


def console(page):
    """What follows `$ ` in console blocks, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", PAGES[page], re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line.split(" #")[0].strip() for line in lines]


def commands(page):
    """Those of console blocks, and `arena-jax …` in code within a line; without comments."""
    lines = console(page)
    lines += [code for code in re.findall(r"`(arena-jax [^`]+)`", PAGES[page]) if "…" not in code]
    return [line.split(" #")[0].strip() for line in lines]


def test_the_two_commands_come_first_and_exist():
    assert commands("README.md")[:2] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for page in OF_TODAY:
        for command in commands(page):
            if command.startswith("make "):
                assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), (page, command)


@pytest.mark.parametrize("page", [page for page in OF_TODAY if any("arena-jax" in c for c in commands(page))])
def test_each_command_is_understood(page):
    """Parsed with the strict parser, and a preset's configuration made: what does not exist or fit raises."""
    for command in commands(page):
        words = shlex.split(command.split("arena-jax ", 1)[1]) if "arena-jax " in command else ["--help"]
        if words[-1] == "--help":
            continue
        arguments = cli.parser().strictly(words)
        assert arguments.command == words[0]
        if words[0] == "train" and arguments.preset:
            apply(base(arguments.preset, None), vars(arguments))


@pytest.mark.slow
def test_the_tutorial_runs(workplace, monkeypatch, capsys):
    """Its commands one after the other, in one folder, as they stand there; those that train with a smaller model."""
    monkeypatch.chdir(workplace)
    for code, _ in BLOCK.findall(PAGES["docs/tutorial.md"]):
        exec(compile(code, "tutorial", "exec"), {})
    count = 0
    for command in console("docs/tutorial.md"):
        program, *words = shlex.split(command)
        if program == "arena-jax":
            short = [*TINY, "--train-limit", "40"] if words[0] == "train" else []
            assert cli.main([*words, *short]) == 0, (command, capsys.readouterr().err)
            count += 1
    assert count >= 10
    for file in ("page.html", "both.html", "exported/bert/model.safetensors", "runs/mine/records.jsonl"):
        assert (workplace / file).stat().st_size > 0


@functools.cache
def options():
    """Every option of the command line, of parity and of the benchmarks, and those of other programs on the pages."""
    known = {"--help", "--nodes", "--ntasks-per-node", "--gpus-per-task"}  # the last three are Slurm's
    parsers = [cli.parser()]
    while parsers:
        for action in parsers.pop()._actions:
            known.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    for script in (*(ROOT / "benchmarks").glob("*.py"), ROOT / "parity/__main__.py"):
        known.update(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', script.read_text()))
    return known


@pytest.mark.parametrize("page", OF_TODAY)
def test_each_option_exists(page):
    unknown = set(on(page, r"(?<![\w-])(--[a-z][a-z-]+)")) - options() - {"--xla"}
    assert not unknown


def exists(name):
    thing, path = importlib.import_module("arena_jax"), "arena_jax"
    for word in name.removeprefix("arena_jax.").split("."):
        path = f"{path}.{word}"
        try:
            thing = getattr(thing, word) if hasattr(thing, word) else importlib.import_module(path)
        except ImportError:
            return False
    return True


@pytest.mark.parametrize("page", OF_TODAY)
def test_each_name_exists(page):
    names = on(page, rf"`((?:arena_jax\.)?(?:{PACKAGES})\.(?!py\b|json\b)\w[\w.]*)[(`]")
    assert not [name for name in names if not exists(name)]


@pytest.mark.parametrize("page", OF_TODAY)
def test_each_file_exists(page):
    folders = "benchmarks|deploy|examples|parity|studies|tests|docs|arena_jax"
    paths = on(page, rf"`(?:python )?((?:{folders})/[\w/.-]+\.\w+)[^`]*`")
    assert not [path for path in paths if not (ROOT / path).exists()]


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    return target.exists() and (not anchor or anchor in anchors(target.read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_somewhere(page):
    links = [link for link in on(page, r"\]\(([^)\s]+)\)") if not link.startswith("http")]
    assert not [link for link in links if not leads_somewhere(page, link)]


def test_no_page_holds_both_sides_of_a_merge():
    assert not [page for page, text in PAGES.items() if re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.MULTILINE)]


def test_the_site_leads_to_each_page():
    """Those under docs; `make docs` builds it, and there a link that leads nowhere is an error, too."""
    navigation = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(set(navigation)) == len(navigation)
    assert not [page for page in PAGES if page.startswith("docs/") and page not in navigation]
    packages = {f"docs/reference/api/{path.parent.name}.md" for path in ROOT.glob("arena_jax/*/__init__.py")}
    made = packages - {"docs/reference/api/cli.md"} | {"docs/reference/commands.md"}
    assert set(navigation) - set(PAGES) == made


def test_the_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 200


def test_each_page_is_found():
    """From README or another page of docs; a page of results from the table, whose rows are whole."""
    linked = {(ROOT / page).parent / link.split("#")[0] for page in PAGES for link in on(page, r"\]\(([^)\s]+)\)")}
    linked = {path.resolve() for path in linked}
    assert not [page for page in PAGES if page != "README.md" and (ROOT / page).resolve() not in linked]
    rows = [line for line in PAGES["benchmarks/RESULTS.md"].splitlines() if line.startswith("| ")]
    assert not [row for row in rows if len(re.split(r"(?<!\\)\|", row)) != 10]
