"""What a study has computed so far: a line per cell, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError


class Ledger:
    """Remembers results by what they are results of.

    A study is a fixed programme over ``once``: whatever was computed before is read, not computed again.

    Args:
        path: a file of JSON lines; made if it is not there. A last line that a kill cut off is dropped.

    Attributes:
        pausing: is called before each result is computed; what it raises ends the study between two cells.

    Raises:
        ArenaError: a file that cannot be read or is no ledger.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "cells.jsonl"
        >>> Ledger(file).once("square", {"of": 3}, lambda: {"is": 9})
        {'is': 9}
        >>> Ledger(file).once("square", {"of": 3}, lambda: {"is": "not asked"})
        {'is': 9}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pausing: Callable[[], Any] = lambda: None
        self.results: dict[str, dict[str, Any]] = {}
        try:
            content = path.read_bytes() if path.exists() else b""
            lines = content[: content.rfind(b"\n") + 1]
            if lines != content:
                os.truncate(path, len(lines))
            for line in lines.decode().splitlines():
                entry = json.loads(line)
                self.results[_name(entry["kind"], entry["key"])] = entry["result"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArenaError(f"'{path}' is no ledger of a study ({error}); give another folder") from None

    def once(self, kind: str, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a result, computed now only if it never was."""
        name = _name(kind, key)
        if name not in self.results:
            self.pausing()
            result = compute()
            line = json.dumps({"kind": kind, "key": dict(key), "result": result})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self.results[name] = json.loads(line)["result"]  # as a later start reads it
        return self.results[name]


def _name(kind: str, key: Mapping[str, Any]) -> str:
    return json.dumps([kind, dict(key)], sort_keys=True)
