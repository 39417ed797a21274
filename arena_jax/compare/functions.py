"""Functions that a plan names by where they stand, so that every process can load them and their source can be kept."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, first_line, nearest


def reference(function: Callable[..., Any]) -> str:
    """Where a function stands, as ``FILE.py:NAME``.

    Raises:
        ArenaError: it is not at the top of a file, so that no other process could load it.
    """
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    name = getattr(function, "__qualname__", "")
    if file is None or not Path(file).is_file() or not name.isidentifier():
        raise ArenaError(f"{function!r} does not stand at the top of a file: write it in one, with a name")
    return f"{Path(file).resolve()}:{name}"


def absolute(text: str, folder: Path, name: str) -> str:
    """A reference with its file named absolutely.

    Args:
        text: ``FILE.py``, ``FILE.py:NAME`` or ``package.module:NAME``.
        folder: what a relative file is relative to.
        name: the function's name where the text has none.
    """
    place, colon, given_name = text.rpartition(":")
    if not colon or given_name.endswith(".py"):
        place, given_name = text, name
    if place.endswith(".py"):
        place = str((folder / place).resolve())
    return f"{place}:{given_name}"


def load(text: str) -> Callable[..., Any]:
    """Load a function.

    Args:
        text: as `reference` or `absolute` gives it.

    Raises:
        ArenaError: there is no such file, module or function, or running the file fails.
    """
    place, _, name = text.rpartition(":")
    file = source_file(text)
    try:
        if place.endswith(".py"):
            module_name = "arena_jax_plan_" + hashlib.sha256(str(file).encode()).hexdigest()[:12]
            module = sys.modules.get(module_name)
            if module is None:
                spec = importlib.util.spec_from_file_location(module_name, file)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules[module_name] = module
        else:
            module = importlib.import_module(place)
    except Exception as error:
        raise ArenaError(f"cannot load '{place}' ({type(error).__name__}: {first_line(error)}); mend it") from None
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ArenaError(f"'{place}' has no function '{name}'; {nearest(name, names)}")
    loaded: Callable[..., Any] = function
    return loaded


def source_file(text: str) -> Path:
    """The file that a function stands in.

    Raises:
        ArenaError: there is none.
    """
    place = text.rpartition(":")[0]
    if place.endswith(".py"):
        file = Path(place)
    else:
        try:
            spec = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise ArenaError(f"there is no module '{place}'; give FILE.py:NAME or package.module:NAME")
        file = Path(spec.origin)
    if not file.is_file():
        raise ArenaError(f"there is no file '{file}'; give FILE.py:NAME of a function")
    return file


def source(text: str) -> str:
    """The text of the file that a function stands in."""
    try:
        return source_file(text).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot read '{source_file(text)}': {first_line(error)}") from None
