"""Text and tables from files, with every defect told by file and line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, nearest

TABLES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json")
TEXTS = (".txt", ".text", ".raw", ".tokens")
TAGGED = (".conll", ".bio", ".iob", ".iob2", ".annotated")


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of equal length, and where each row stands.

    Args:
        columns: name to values, as they were read.
        where: the file or data set, for errors.
        rows: what to call row i in an error, such as "line 7".
        class_names: names of the classes of a column of numbers, where the source says them.
    """

    columns: Mapping[str, Sequence[Any]]
    where: str
    rows: Sequence[str]
    class_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def column(self, name: str) -> Sequence[Any]:
        """Give a column by its name.

        Args:
            name: of the column.

        Returns:
            Its values.

        Raises:
            ArenaError: there is none, with the nearest name.
        """
        if name not in self.columns:
            raise ArenaError(f"{self.where} has no column '{name}'; {nearest(name, self.columns)}")
        return self.columns[name]


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark; line ends become "\\n".

    Args:
        path: of the file.

    Returns:
        Its text.

    Raises:
        ArenaError: it cannot be read, is empty, binary or not UTF-8; with line and byte.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArenaError(f"cannot read {path}: {error.strerror or error}") from None
    if not content.strip():
        raise ArenaError(f"{path} is empty; give a file with examples")
    zero = content.find(b"\0")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (len(content) - len(error.object))
        line = content.count(b"\n", 0, start) + 1
        kind = "is binary or UTF-16" if zero >= 0 else "is not UTF-8"
        raise ArenaError(
            f"{path} {kind}: byte {start} in line {line} is 0x{content[start]:02x}; convert it to UTF-8 text"
        ) from None
    if zero >= 0:
        line = content.count(b"\n", 0, zero) + 1
        raise ArenaError(f"{path} is binary: byte {zero} in line {line} is zero; give a UTF-8 text file")
    return text.replace("\r\n", "\n")


def read_table(path: Path) -> Table:
    """Read a table: .tsv (no quoting), .csv (quoted), .jsonl, or .json (a list of objects, or SQuAD's form).

    Args:
        path: of the file; its ending says what it is. Tables of separated values begin with their column names.

    Returns:
        The table. Values are text, or whatever JSON says.

    Raises:
        ArenaError: any defect, with its line.
    """
    text, ending = read_text(path), path.suffix.lower()
    if ending == ".tsv":
        # Quotes are ordinary characters: in SST-2 they are not balanced.
        lines = text.split("\n")
        rows = [(number, line.rstrip("\r").split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
        return _separated(path, rows)
    if ending == ".csv":
        return _separated(path, _csv_rows(path, text))
    if ending in (".jsonl", ".ndjson"):
        numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        return _records(path, [(f"line {n}", _json(line, f"{path} line {n}")) for n, line in numbered])
    value = _json(text, str(path))
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
        if value and all(isinstance(article, dict) and "paragraphs" in article for article in value):
            value = _squad(path, value)
    if not isinstance(value, list):
        raise ArenaError(f'{path} must hold a JSON list of objects, {{"data": [objects]}}, or SQuAD\'s form')
    return _records(path, [(f"item {index}", item) for index, item in enumerate(value)])


def _csv_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    limit = csv.field_size_limit(max(len(text) + 1, 1))  # a whole document may be one field
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        while True:
            before = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return rows
            if row:
                rows.append((before, row))
    except csv.Error as error:
        raise ArenaError(f"{path} line {reader.line_num}: {error}; check its quotes, or save it as .tsv") from None
    finally:
        csv.field_size_limit(limit)


def _separated(path: Path, rows: list[tuple[int, list[str]]]) -> Table:
    names = [name.strip() for name in rows[0][1]]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ArenaError(f"{path} names the column '{twice}' twice in line {rows[0][0]}; rename one")
    for number, row in rows[1:]:
        if len(row) != len(names):
            raise ArenaError(
                f"{path} line {number} has {len(row)} fields, but line {rows[0][0]} names {len(names)} columns"
                f" ({', '.join(names)[:80]}); the first line must hold the column names"
            )
    _check_names(path, names)
    columns = {name: [row[index] for _, row in rows[1:]] for index, name in enumerate(names)}
    return Table(columns, str(path), [f"line {number}" for number, _ in rows[1:]])


def _records(path: Path, items: list[tuple[str, Any]]) -> Table:
    names: dict[str, None] = {}
    for row, item in items:
        if not isinstance(item, dict):
            raise ArenaError(f'{path} {row} is not a JSON object, such as {{"text": …}}')
        names.update(dict.fromkeys(item))
    _check_names(path, names)
    columns = {name: [item.get(name) for _, item in items] for name in names}
    return Table(columns, str(path), [row for row, _ in items])


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if not name.isprintable():
            raise ArenaError(f"{path}: the column name {name[:40]!r} holds control characters; rename it")


def _json(text: str, where: str) -> Any:
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


def read_documents(path: Path) -> list[str]:
    """Divide a text into documents: WikiText's articles, else paragraphs with blank lines between them.

    Args:
        path: of a text file.

    Returns:
        Documents; joined together they are the file's text.

    Raises:
        ArenaError: as `read_text`.
    """
    return split_documents(read_text(path))


def split_documents(text: str) -> list[str]:
    """Divide a text into documents: WikiText's articles if it begins with " = Title = ", else paragraphs.

    Args:
        text: the whole text.

    Returns:
        Documents; joined together they are the text.

    Example:
        >>> split_documents("one\\ntwo\\n\\nthree\\n")
        ['one\\ntwo\\n\\n', 'three\\n']
        >>> split_documents(" = A = \\n x\\n = = part = = \\n = B = \\n y\\n")
        [' = A = \\n x\\n = = part = = \\n', ' = B = \\n y\\n']
    """
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    first = next((line for line in lines if line.strip()), "")
    articles = _is_title(first)
    documents: list[str] = []
    current: list[str] = []
    blank = False
    for line in lines:
        begins = _is_title(line) if articles else blank and bool(line.strip())
        if begins and any(part.strip() for part in current):
            documents.append("".join(current))
            current = []
        current.append(line)
        blank = not line.strip()
    documents.append("".join(current))
    return [document for document in documents if document]


def _is_title(line: str) -> bool:
    return line.startswith(" = ") and line.rstrip().endswith(" =") and not line.startswith(" = = ")


def read_tagged(path: Path) -> Table:
    """Read words with tags, one word a line, a blank line between sentences (CoNLL's form).

    Args:
        path: of the file; the first field of a line is the word, the last one its tag.

    Returns:
        A table with "words" and "tags", lists of text.

    Raises:
        ArenaError: a line without a tag, and as `read_text`.
    """
    words: list[list[str]] = []
    tags: list[list[str]] = []
    rows: list[str] = []
    inside = False
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            inside = False
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if fields[0] == "-DOCSTART-":
            continue
        if len(fields) < 2 or not fields[-1].strip():
            raise ArenaError(f"{path} line {number}: {line[:40]!r} has no tag; each line needs a word, a tab and a tag")
        if not inside:
            words.append([])
            tags.append([])
            rows.append(f"sentence at line {number}")
            inside = True
        words[-1].append(fields[0])
        tags[-1].append(fields[-1].strip())
    return Table({"words": words, "tags": tags}, str(path), rows)
