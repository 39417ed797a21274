"""Refuse names that are past participles or pronouns: a name says what the thing is (`config`, `batch_size`).

Looks at all that is bound in arena_jax/: variables, arguments, attributes, functions, classes. Prints each of these
names, and fails if there is one.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

WORDS = frozenset(
    {
        *("found", "told", "one", "wanted", "given", "made", "held", "said", "known", "own", "asked", "gone"),
        *("shown", "taken", "chosen", "kept", "seen", "got", "mine", "ours", "theirs"),
        *("everything", "nothing", "anything"),
    }
)


def bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each name that is bound, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name, node.lineno


def main() -> int:
    """Check every file; the exit status."""
    root = Path(__file__).parent.parent / "arena_jax"
    count = 0
    for path in sorted(root.rglob("*.py")):
        for name, line in bound(ast.parse(path.read_text(encoding="utf-8"))):
            if name.strip("_").lower() in WORDS:
                print(f"{path.relative_to(root.parent)}:{line}: '{name}' does not say what it is; name the thing")
                count += 1
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
