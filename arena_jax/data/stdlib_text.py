"""A language-model text that every Python brings along: its own documentation."""

from __future__ import annotations

import ast
import functools
import inspect
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import LANGUAGE, Dataset, held_out

# Tests are not documentation, installed packages differ between machines, and vendored code is not Python's own.
_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions, in the order in which they are written."""
    body = getattr(node, "body", [])
    if not isinstance(body, list):
        return
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            text = first.value.value
            if isinstance(text, str) and text.strip():
                name = "" if isinstance(node, ast.Module) else f"{node.name}\n\n"
                yield name + inspect.cleandoc(text) + "\n"
    for child in body:
        yield from _docstrings(child)
    for branch in ("orelse", "finalbody", "handlers"):
        for child in getattr(node, branch, []):
            yield from _docstrings(child)


def _parse(file: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence in somebody's file is not ours to report
            return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _topics(file: Path) -> list[str]:
    """The reference manual's topics (`help("topics")`): the values of the one dictionary in the file."""
    tree = _parse(file)
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            values = [ast.literal_eval(value) for value in node.value.values]
            return [value if value.endswith("\n") else value + "\n" for value in values if isinstance(value, str)]
    return []


@functools.cache
def _documents(root: Path) -> tuple[str, ...]:
    texts: list[str] = []
    files = [path for path in root.rglob("*.py") if not _SKIPPED & set(path.relative_to(root).parts)]
    for file in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        if file.parent.name == "pydoc_data":
            texts += _topics(file)
            continue
        tree = _parse(file)
        text = "\n".join(_docstrings(tree)) if tree else ""
        if text:
            texts.append(text)
    return tuple(dict.fromkeys(texts))


def python_docs(split: str = "train", *, validation_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """Read the documentation that ships with Python: the manual's topics and the library's docstrings.

    About 2 MB of English with code examples. The files are parsed, never imported. A document is one topic of
    the manual, or all docstrings of one module in the order in which they are written. The split is by document.

    Args:
        split: "train", "validation" or "all".
        validation_fraction: share of the documents held out, in (0, 1).
        seed: of the choice of held-out documents.

    Returns:
        A data set for language models. It depends on the version of Python, which its provenance names.

    Raises:
        ArenaError: an unknown split, or a Python installed without the sources of its library.

    Example:
        >>> text = python_docs("validation")
        >>> text.task, len(text) > 20
        ('language-model', True)
    """
    if split not in ("train", "validation", "all"):
        raise ArenaError(f"python-docs has no split '{split}'; {nearest(split, ['train', 'validation', 'all'])}")
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = _documents(root)
    if len(texts) < 2:
        raise ArenaError(f"python-docs: no documentation under {root}; name a text file as the data instead")
    rows = list(range(len(texts)))
    if split != "all":
        rows = held_out(len(texts), validation_fraction, seed, "python-docs")[split == "validation"]
    return Dataset(
        name="python-docs",
        task=LANGUAGE,
        split=split,
        columns={"text": [texts[row] for row in rows]},
        provenance=f"documentation of Python {platform.python_version()}, split by document with seed {seed}",
    )
