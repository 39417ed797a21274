"""Tables of separated values: .tsv without quoting, .csv as spreadsheets and programs write it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from arena_jax.config.errors import ArenaError
from arena_jax.data.table import Table, check_names

_SEPARATORS = (",", ";", "\t", "|")
_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}

Row = tuple[int, list[str]]  # line, fields


def read_tsv(path: Path, text: str) -> Table:
    """Read values between tabs; quotation marks are ordinary characters, as in GLUE's files.

    Args:
        path: of the file, for errors.
        text: its content; the first line holds the column names.

    Returns:
        The table, all values text.

    Raises:
        ArenaError: no usable first line.
    """
    lines = text.split("\n")
    rows = [(number, line.rstrip("\r").split("\t")) for number, line in enumerate(lines, 1) if line.strip("\r\n ")]
    notes = []
    quoted = [
        number
        for number, row in rows
        if any(len(field) > 1 and field[0] == field[-1] == '"' and '""' in field for field in row)
    ]
    if quoted:
        notes.append(
            f"{len(quoted):,} lines have quoted fields (first: line {quoted[0]}): quotation marks are read as they "
            "stand; save the file as .csv where they only enclose"
        )
    return _table(path, rows, tuple(notes))


def read_csv(path: Path, text: str) -> Table:
    """Read values between commas, or whatever separates them, perhaps in quotation marks.

    The separator is what a first line ``sep=;`` says; else the one of comma, semicolon, tab and bar that divides the
    first line and gives every line the same number of fields; where several do, the first of them.

    Args:
        path: of the file, for errors.
        text: its content; the first line holds the column names.

    Returns:
        The table, all values text.

    Raises:
        ArenaError: quotation marks that do not close, or no usable first line.
    """
    stated = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    if stated:
        separator = stated[1]
        return _table(
            path, _rows(path, text[stated.end() :], separator, 1), (f"the first line says sep={separator!r}",)
        )
    header = text.lstrip("\r\n").split("\n", 1)[0]
    candidates = [separator for separator in _SEPARATORS if separator in header]
    most, best = 0.9, None
    for separator in candidates:
        try:
            candidate = _rows(path, text, separator, 0)
        except ArenaError:
            continue
        width = len(candidate[0][1])
        share = sum(len(row) == width for _, row in candidate) / len(candidate)
        if width > 1 and share > most:
            most, best = share, (separator, candidate)
    separator, rows = best or (",", _rows(path, text, ",", 0))
    notes = () if separator == "," else (f"values are separated by {_WORDS[separator]}",)
    return _table(path, rows, notes)


def _rows(path: Path, text: str, separator: str, skipped: int) -> list[Row]:
    limit = csv.field_size_limit(max(len(text) + 1, 1))  # a whole document may be one field
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows: list[Row] = []
        while True:
            before = reader.line_num + 1 + skipped
            row = next(reader, None)
            if row is None:
                break
            if len(row) > 1 or (row and row[0].strip()):
                rows.append((before, row))
        if not rows:
            raise ArenaError(f"{path} is empty; give a file with examples")
        return rows
    except (csv.Error, TypeError) as error:
        raise ArenaError(
            f"{path} line {reader.line_num + skipped}: {error}; check its quotes, or save it as .tsv"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _table(path: Path, rows: list[Row], notes: tuple[str, ...]) -> Table:
    rows, empty = _without_empty(rows)
    if not rows:
        raise ArenaError(f"{path} holds separators alone; give a file with examples")
    notes = (*notes, *empty)
    names = [name.strip().strip("\ufeff") for name in rows[0][1]]
    body = rows[1:]
    width = len(names)
    # Spreadsheets leave separators behind the last column that was ever touched.
    while width > 1 and not names[width - 1] and all(not "".join(row[width - 1 :]).strip() for _, row in body):
        width -= 1
    if width < len(names):
        notes = (*notes, f"{len(names) - width} empty columns left out")
    names = names[:width]
    complete: list[Row] = []
    rejected: dict[str, str] = {}
    for number, row in body:
        if len(row) > width and not "".join(row[width:]).strip():
            row = row[:width]
        if len(row) != width:
            rejected[f"line {number}"] = (
                f"line {number} has {len(row)} fields, but line {rows[0][0]} names {width} columns"
                f" ({', '.join(names)[:80]}); the first line must hold the column names"
            )
        else:
            complete.append((number, row))
    names = [name or f"column {index + 1}" for index, name in enumerate(names)]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ArenaError(f"{path} names the column '{twice}' twice in line {rows[0][0]}; rename one")
    check_names(path, names)
    columns = {name: [row[index] for _, row in complete] for index, name in enumerate(names)}
    return Table(columns, str(path), [f"line {number}" for number, _ in complete], rejected=rejected, notes=notes)


def _without_empty(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Leave lines of separators alone out, and count them."""
    filled = [row for row in rows if any(field.strip() for field in row[1])]
    empty = [number for number, fields in rows if not any(field.strip() for field in fields)]
    return filled, [f"{len(empty):,} empty lines left out (first: line {empty[0]})"] if empty else []
