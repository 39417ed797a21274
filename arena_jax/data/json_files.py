"""JSON: a line per record, a list of records, or SQuAD's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.data.table import Table, check_names, from_records


def read_json_lines(path: Path, text: str, first: int = 1) -> Table:
    """Read one JSON object per line; a line that is none is left out and counted.

    Args:
        path: of the file, for errors.
        text: its content.
        first: number of its first line.

    Returns:
        The table.
    """
    items, rejected = [], {}
    for number, line in enumerate(text.split("\n"), first):
        if line.strip():
            row = f"line {number}"
            try:
                items.append((row, _parse(line, row)))
            except ArenaError as error:
                rejected[row] = str(error)
    return from_records(str(path), items, rejected)


def read_json(path: Path, text: str) -> Table:
    """Read a list of objects, ``{"data": [objects]}``, ``{"text": […], …}``, SQuAD's form, or an object per line.

    Args:
        path: of the file, for errors.
        text: its content.

    Returns:
        The table.

    Raises:
        ArenaError: it is no JSON, or JSON of another form.
    """
    try:
        value = _parse(text, str(path))
    except ArenaError:
        first = text.lstrip().split("\n", 1)[0]
        if not (first.startswith("{") and _is_object(first)):
            raise
        return read_json_lines(path, text)  # as pandas and datasets write .json
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
        if value and all(isinstance(article, dict) and "paragraphs" in article for article in value):
            value = _squad(path, value)
    if isinstance(value, dict) and value and all(isinstance(part, list) for part in value.values()):
        sizes = {len(part) for part in value.values()}
        if len(sizes) == 1 and not any(isinstance(item, dict) for part in value.values() for item in part[:1]):
            check_names(path, value)
            return Table(value, str(path), [f"item {index}" for index in range(sizes.pop())])
    if not isinstance(value, list):
        raise ArenaError(f'{path} must hold a JSON list of objects, {{"data": [objects]}}, or SQuAD\'s form')
    return from_records(str(path), [(f"item {index}", item) for index, item in enumerate(value)])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ArenaError(f"{where} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except (RecursionError, ValueError):
        raise ArenaError(f"{where} is not JSON that can be read: nested too deeply, or a number too long") from None


def _squad(path: Path, articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    rows.append(
                        {
                            "id": question["id"],
                            "question": question["question"],
                            "context": paragraph["context"],
                            "answers": question.get("answers", []),
                        }
                    )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArenaError(
            f"{path} is not in SQuAD's form after question {len(rows)} ({type(error).__name__}: {error}): "
            'it needs "paragraphs" with "context" and "qas" with "id", "question", "answers"'
        ) from None
    return rows
