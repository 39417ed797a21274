"""The pages of the site, as a hook of mkdocs: the repository's Markdown in its own places, and three kinds made here.

Made here: a page for each package, of its docstrings; one of every command's help; one for each script, its source.
"""

import argparse
import ast
import json
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
TEXTS = ("*.md", "docs/**/*.md", "benchmarks/**/*.md")
PICTURES = ("docs/**/*.png", "docs/**/*.svg")
SOURCES = ("examples/*.py", "benchmarks/*.py", "arena_jax/runtime/gpus.toml")
LINK = re.compile(r"(\]\([^)\s#:]+\.(?:py|toml|ipynb))\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what lies in docs/ by the whole repository's pages, and keep what the theme brings."""
    pages = [
        file for file in files if not file.abs_src_path or not Path(file.abs_src_path).is_relative_to(ROOT / "docs")
    ]
    for path in (path for pattern in (*TEXTS, *PICTURES) for path in sorted(ROOT.glob(pattern))):
        pages.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    for path in (path for pattern in SOURCES for path in sorted(ROOT.glob(pattern))):
        name = str(path.relative_to(ROOT))
        pages.append(File.generated(config, f"{name}.md", content=_code(name, path.read_text(encoding="utf-8"))))
    for path in sorted(ROOT.glob("examples/*.ipynb")):
        name = str(path.relative_to(ROOT))
        pages.append(File.generated(config, f"{name}.md", content=_notebook(name, path.read_text(encoding="utf-8"))))
    for path in sorted(ROOT.glob("arena_jax/*/__init__.py")):
        if (name := path.parent.name) != "cli":
            pages.append(File.generated(config, f"docs/reference/api/{name}.md", content=_package(path)))
    pages.append(File.generated(config, "docs/reference/commands.md", content=_commands()))
    return Files(pages)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A link to a source leads to its page."""
    here = posixpath.dirname(page.file.src_uri)

    def to_page(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[1].removeprefix("](")))
        return f"{match[1]}.md)" if files.get_file_from_path(f"{target}.md") else match[0]

    return LINK.sub(to_page, markdown)


def _code(name: str, text: str) -> str:
    return f"# {name}\n\n````{name.rpartition('.')[2]}\n{text}````\n"


def _notebook(name: str, text: str) -> str:
    """A notebook's cells, with what they printed and drew when it was run."""
    parts = [f"`{name}`"]
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", ()):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text'])}```")
            elif "image/png" in output.get("data", {}):
                picture = "".join(output["data"]["image/png"].split())
                parts.append(f'<img alt="what the cell draws" src="data:image/png;base64,{picture}">')
    return "\n\n".join(parts) + "\n"


def _package(path: Path) -> str:
    """A package's public names in their order, each by the module that has it: some are named like it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    origins = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assignments = (node for node in tree.body if isinstance(node, ast.Assign))
    names = next((ast.literal_eval(node.value) for node in assignments if node.targets[0].id == "__all__"), [])
    package = f"arena_jax.{path.parent.name}"
    about = f"# {package}\n\n{ast.get_docstring(tree).split('Example:')[0]}\n"
    return "\n".join([about, *(f"::: {origins.get(name, f'{package}.{name}')}\n" for name in names)])


def _commands() -> str:
    """What every command's `--help` says."""
    os.environ["COLUMNS"] = "110"
    sys.path.insert(0, str(ROOT))
    from arena_jax.cli.main import parser

    parts = [f"## {command.prog}\n\n```text\n{command.format_help()}```\n" for command in _each(parser())]
    return "\n".join(["# Commands\n\nWhat `--help` prints.\n", *parts])


def _each(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _each(command)
