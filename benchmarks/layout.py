"""The layout in figures: packages, the imports between them, lengths of the loops and of files, words of the README.

    python benchmarks/layout.py                     # the working tree
    python benchmarks/layout.py 697c8c7 HEAD        # two commits side by side
    python benchmarks/layout.py 697c8c7 97c8bfc HEAD --page docs/reference/layout.md  # and between the page's marks

Prints a Markdown table; takes about 5 seconds. Nothing is imported: the sources are parsed, those of a commit as git
has them. An arrow is a pair of packages of which one imports the other anywhere, inside functions and for types too. A
module that lies directly in `arena_jax` counts as a package of its own; `arena_jax` itself is the root. Arrows that go
round are the fewest without which the packages could be put in an order in which none imports a later one.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import table

ROOT = Path(__file__).resolve().parent.parent
# The packages in the order of the layout; `make lint` checks it.
ORDER = (
    *("config", "transforms", "models", "data", "runtime", "runs"),
    *("training", "equilibria", "arena", "game", "compare", "reports", "cli"),
)

# The two loops under the names that they have had: (file, function).
LOOPS = {
    "joint training": (("training/train.py", "train"), ("training/loop.py", "train")),
    "competition": (("arena/competition.py", "_Competition.run"), ("arena/competition.py", "train")),
}


def sources(commit: str | None) -> dict[str, str]:
    """Each file of the package and the README, by its path from the root, as a commit or the working tree has it."""
    if commit is None:
        paths = [*sorted((ROOT / "arena_jax").rglob("*.py")), ROOT / "README.md"]
        return {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    names = _git("ls-tree", "-r", "--name-only", commit, "arena_jax", "README.md").splitlines()
    return {name: _git("show", f"{commit}:{name}") for name in names if name.endswith((".py", ".md"))}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def package_of(path: str) -> str:
    """The top-level package or module that a file belongs to, "" for the root.

    Example:
        >>> package_of("arena_jax/models/huggingface/load.py"), package_of("arena_jax/errors.py")
        ('models', 'errors')
        >>> package_of("arena_jax/__init__.py")
        ''
    """
    first = path.split("/")[1]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(tree: ast.AST, packages: set[str]) -> Iterator[str]:
    """The packages that a module imports; the root where it imports a name that is no package."""
    for node in ast.walk(tree):
        names: Iterable[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            words = name.split(".")
            if words[0] == "arena_jax":
                yield words[1] if len(words) > 1 and words[1] in packages else ""


def arrows(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Which packages each package imports."""
    modules = {path: text for path, text in files.items() if path.endswith(".py")}
    packages = {package_of(path) for path in modules}
    edges: dict[str, set[str]] = {package: set() for package in packages}
    for path, text in modules.items():
        edges[package_of(path)].update(set(imports_of(ast.parse(text), packages)) - {package_of(path)})
    return edges


def going_round(edges: Mapping[str, set[str]]) -> int:
    """The fewest arrows whose removal leaves no circle.

    Example:
        >>> going_round({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "c"}})
        1
    """
    graph = {package: set(targets) for package, targets in edges.items()}
    while True:  # what imports nothing, or is imported by nobody, is on no circle
        targets = {target for each in graph.values() for target in each}
        free = {package for package, each in graph.items() if not each or package not in targets}
        if not free:
            break
        graph = {package: each - free for package, each in graph.items() if package not in free}
    if len(graph) > 8:
        raise ValueError(f"{len(graph)} packages import one another in circles: too many to try every order of")
    orders = permutations(graph)
    return min(
        sum(order.index(target) > order.index(package) for package, each in graph.items() for target in each)
        for order in orders
    )


def lines_of(text: str, name: str) -> int | None:
    """Lines of a function, "name" or "Class.name", its docstring left out; None if it is not there.

    Example:
        >>> lines_of("def f(x):\\n    'Doc.'\\n    return x", "f")
        2
    """
    body: list[ast.stmt] = ast.parse(text).body
    for word in name.split("."):
        nodes = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == word]
        if not nodes:
            return None
        body = nodes[0].body
    first = body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return span(nodes[0]) - (span(first) if has_docstring else 0)


def span(node: ast.stmt) -> int:
    """Lines from a node's first to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def loop(files: Mapping[str, str], candidates: Iterable[tuple[str, str]]) -> str:
    """Lines of the first of these functions that exists, with its place."""
    for path, name in candidates:
        text = files.get(f"arena_jax/{path}")
        length = None if text is None else lines_of(text, name)
        if length is not None:
            return f"{length} (`{name}` in {path})"
    return "not there"


def figures(files: Mapping[str, str]) -> dict[str, str]:
    """What is counted, as texts."""
    edges = arrows(files)
    lengths = {path: text.count("\n") for path, text in files.items() if path.endswith(".py") and text}
    largest = max(lengths, key=lambda path: lengths[path])
    return {
        "packages, beside the root": str(len(edges) - ("" in edges)),
        "imports between them (arrows)": str(sum(len(targets - {""}) for name, targets in edges.items() if name)),
        "arrows that go round": str(going_round(edges)),
        **{f"lines of the loop: {kind}": loop(files, candidates) for kind, candidates in LOOPS.items()},
        "Python files": str(len(lengths)),
        "lines of a file, median": f"{statistics.median(lengths.values()):g}",
        "lines of the largest file": f"{lengths[largest]} ({largest.removeprefix('arena_jax/')})",
        "words of README.md": f"{len(files['README.md'].split()):,}",
        "lines of README.md": str(files["README.md"].count("\n")),
    }


def imports(files: Mapping[str, str]) -> str:
    """Each package with those that it imports, both in the order of the layout; as a table."""
    edges = arrows(files)
    packages = [*(name for name in ORDER if name in edges), *sorted(set(edges) - {"", *ORDER})]
    listed = {name: ", ".join(f"`{target}`" for target in packages if target in edges[name]) for name in packages}
    return table(("package", "imports"), [(f"`{name}`", text or "none of these") for name, text in listed.items()])


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs="*", metavar="COMMIT", help="commits to compare; else the working tree")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table between the layout marks of a page")
    arguments = parser.parse_args()
    commits: list[str | None] = [*arguments.commits] or [None]
    columns = [figures(sources(commit)) for commit in commits]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    names = ["working tree" if commit is None else _git("rev-parse", "--short", commit).strip() for commit in commits]
    tables = {"layout": table(("", *names), rows), "imports": imports(sources(commits[-1]))}
    print("\n\n".join(tables.values()))
    if arguments.page:
        for mark, text in tables.items():
            write_between(arguments.page, mark, text)


if __name__ == "__main__":
    main()
