"""A deliberate fault: a few characters of one function of the library, changed while the fault is on.

The function's source is rewritten, compiled anew and put in the place of the old code, so that a fault reads like
the typing error it stands for. Where the text to be changed is no longer there, the fault has to be written anew: that
is an error, never a caught fault.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import dataclasses
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault and who should notice it.

    Attributes:
        name: what is wrong, in words.
        where: "module:function" or "module:Class.method", inside arena_jax.
        edits: (text that stands there once, what stands there instead), each.
        checks: names of checks, asked in this order until one fails; or a pytest node, "tests/…/test_x.py::test_y",
            which is run in a process of its own with the fault in it.
    """

    name: str
    where: str
    edits: tuple[tuple[str, str], ...]
    checks: tuple[str, ...]


def fault(name: str, where: str, before: str, after: str, *checks: str) -> Mutant:
    """A fault of one edit."""
    return Mutant(name, where, ((before, after),), checks)


class OutdatedMutant(LookupError):
    """The library has changed and the fault no longer fits."""


def function_of(where: str) -> FunctionType:
    """The plain function behind a name, decorators taken off."""
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"arena_jax.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = inspect.unwrap(found.fget if isinstance(found, property) else found)
    if not isinstance(found, FunctionType):
        raise OutdatedMutant(f"arena_jax.{where} is no function")
    return found


def rewritten(function: FunctionType, edits: tuple[tuple[str, str], ...]) -> FunctionType:
    """The function with other text in it."""
    source = textwrap.dedent(inspect.getsource(function))
    for before, after in edits:
        if source.count(before) != 1:
            raise OutdatedMutant(f"{function.__qualname__} has {source.count(before)} times {before!r}, not once")
        source = source.replace(before, after)
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    flags = __future__.annotations.compiler_flag
    code = compile(tree, f"<fault in {function.__qualname__}>", "exec", flags=flags, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)
    new: FunctionType = made[function.__name__]
    if new.__code__.co_freevars != function.__code__.co_freevars:
        raise OutdatedMutant(f"{function.__qualname__} closes over other variables now")
    return new


def forget_compiled() -> None:
    """Nothing that was traced or planned before may answer for a changed function, nor the other way round."""
    from arena_jax.transforms import pools

    jax.clear_caches()
    pools.plan.cache_clear()


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The library with the fault in it."""
    function = function_of(mutant.where)
    new = rewritten(function, mutant.edits)
    old = function.__code__
    forget_compiled()
    function.__code__ = new.__code__
    try:
        yield
    finally:
        function.__code__ = old
        forget_compiled()
