"""Texts too large to be held: read once from their files, record by record, and kept so that any part can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data import store
from arena_jax.data.columnar import COLUMNAR, arrow_table, columnar_batches
from arena_jax.data.columns import find_columns, unused_note
from arena_jax.data.content import PACKED, ending_of
from arena_jax.data.dataset import LANGUAGE
from arena_jax.data.documents import documents_of
from arena_jax.data.files import TEXTS
from arena_jax.data.json_files import read_json_lines
from arena_jax.data.records import Rejected
from arena_jax.data.stored_documents import BLOCK, Documents, Places
from arena_jax.data.table import Table
from arena_jax.data.text_blocks import open_unpacked, text_blocks

LARGE = 16 * 2**20  # bytes of text from which it is kept on disk: about 5 s of tokenising
LONGEST = 2**20  # characters of a document; a longer one is divided, since a tokenizer holds all of it at once
_NAMED = 100  # records left out that are named; the others are counted
_PACKING = 4  # a packed file is taken for this many times its size


def is_large(paths: Sequence[Path], task: str | None) -> bool:
    """Whether the files of a split are read into the store: text for a language model, of 16 MiB or more.

    Args:
        paths: of the files.
        task: of the examples, if it is known.

    Returns:
        Whether; files that can only be read whole, such as .json and .csv, never are.
    """
    endings = {ending_of(path) for path in paths}
    if (task is None and not endings <= set(TEXTS)) or task not in (None, LANGUAGE):
        return False
    if not endings <= {*TEXTS, *COLUMNAR, ".jsonl", ".ndjson"}:
        return False
    size = 0
    for path in paths:
        packed = path.suffix.lower() in PACKED
        if packed and ending_of(path) in COLUMNAR:
            return False
        try:
            size += path.stat().st_size * (_PACKING if packed or ending_of(path) == ".parquet" else 1)
            if ending_of(path) in (".jsonl", ".ndjson"):
                with open_unpacked(path) as file:
                    if file.read(4096).lstrip()[:1] == b"[":
                        return False  # one list of all records
        except (OSError, EOFError, ValueError):
            return False  # whoever reads it says why
    return size >= LARGE


def corpus_table(paths: Sequence[Path], columns: Mapping[str, str], where: str) -> Table:
    """The texts of large files.

    Args:
        paths: of the files, in order.
        columns: part to column, as given.
        where: what they are called, for errors.

    Returns:
        A table whose column "text" is `Documents`.

    Raises:
        ArenaError: a file that cannot be read, or has no column of texts.
    """
    files = []
    for path in paths:
        status = path.stat()
        # Whoever writes to a file, or puts another in its place, changes one of these: ctime cannot be set by hand.
        files.append([str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino])
    key = store.key_of({"files": files, "columns": dict(columns), "longest": LONGEST})

    def make(folder: Path) -> dict[str, Any]:
        return _write(folder, paths, columns, where)

    entry, new = store.get("text", key, make)
    facts = entry.facts
    try:
        documents = Documents(entry)
        notes = [*map(str, facts["notes"])]
        rejected = {str(row): str(reason) for row, reason in facts["rejected"].items()}
        more = entry.number("more_rejected")
        table = Table({str(facts["column"]): documents}, where, Places(len(documents)), rejected=rejected)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.damaged(entry.folder, f"{type(error).__name__}: {error}") from None
    notes.append(f"read {'into' if new else 'before, kept in'} {entry.folder}")
    return Table(table.columns, where, table.rows, rejected=rejected, notes=tuple(notes), more_rejected=more)


def _write(folder: Path, paths: Sequence[Path], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    rejected, notes = Rejected(where), dict[str, None]()
    column = ""
    divided = empty = 0
    with (folder / "text.bin").open("wb") as text_file, (folder / "starts.bin").open("wb") as starts_file:
        writer = _Writer(text_file, starts_file)
        for path in paths:
            prefix = f"{path.name} " if len(paths) > 1 else ""
            for row, value, goes_on, name, note in _records(path, columns):
                column = column or name
                if note:
                    notes[note] = None
                if name != column:
                    raise ArenaError(
                        f"{path} and {paths[0]} are parts of one split, but only one has the column '{column}': give "
                        "files with the same columns"
                    )
                divided += goes_on
                if isinstance(value, str) and not isinstance(value, _Reason):
                    if not value or value.isspace():
                        empty += 1
                        continue
                    try:
                        writer.add(value.encode())
                        continue
                    except UnicodeEncodeError as error:
                        why = f": character {error.start} is half of a surrogate pair, which is no text; remove it"
                elif isinstance(value, _Reason):
                    why = value
                else:
                    what = "has no text" if value is None else f"has {type(value).__name__} instead of text"
                    why = f"{what} in column '{name}'"
                rejected.add(prefix + row, why, most=_NAMED)
        writer.finish()
    if empty:
        notes[f"{empty:,} empty documents left out"] = None
    if divided:
        notes[f"documents of more than {LONGEST:,} characters are divided: {divided:,} more of them"] = None
    if len(paths) > 1:
        notes[f"{len(paths)} files"] = None
    return {
        "arrays": {"text": ["uint8", [writer.bytes]], "starts": ["int64", [writer.count + 1]]},
        "column": column or "text",
        "content": writer.digest(),
        "rejected": rejected.reasons,
        "more_rejected": rejected.more,
        "notes": list(notes),
        "description": f"{writer.count:,} documents of {where}",
    }


class _Reason(str):
    """Why a line is no record, in the place of its value."""


class _Writer:
    """Texts one after the other, and where each begins."""

    def __init__(self, text: BinaryIO, starts: BinaryIO) -> None:
        self._text, self._starts_file = text, starts
        self._waiting: list[bytes] = []
        self._starts: list[int] = [0]
        self._size = 0
        self.bytes = self.count = 0
        self._digests = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)

    def add(self, text: bytes) -> None:
        self._waiting.append(text)
        self.bytes += len(text)
        self._size += len(text)
        self.count += 1
        self._starts.append(self.bytes)
        if self._size >= BLOCK:
            self.finish()

    def finish(self) -> None:
        text = b"".join(self._waiting)
        starts = np.asarray(self._starts, np.int64).tobytes()
        self._text.write(text)
        self._starts_file.write(starts)
        self._digests[0].update(text)
        self._digests[1].update(starts)
        self._waiting, self._starts, self._size = [], [], 0

    def digest(self) -> str:
        return "-".join(digest.hexdigest() for digest in self._digests)


_Record = tuple[str, Any, bool, str, str]  # its place, its text, whether it goes on in the next, its column, a note


def _records(path: Path, columns: Mapping[str, str]) -> Iterator[_Record]:
    ending = ending_of(path)
    if ending in COLUMNAR:
        yield from _of_tables(columnar_tables(path), columns)
    elif ending in (".jsonl", ".ndjson"):
        yield from _of_tables(_json_tables(path), columns)
    else:
        for index, (text, goes_on) in enumerate(documents_of(text_blocks(path), LONGEST)):
            yield f"document {index}", text, goes_on, columns.get("text", "text"), ""


def _of_tables(tables: Iterator[Table], columns: Mapping[str, str]) -> Iterator[_Record]:
    name = note = ""
    for table in tables:
        if not name and table.rows:
            name = find_columns(table, LANGUAGE, columns)["text"]
            note = "".join(unused_note(table, {"text": name}))
        for row, reason in table.rejected.items():
            yield row, _Reason(reason.removeprefix(row).lstrip()), False, name, ""
        values: Sequence[Any] = table.columns.get(name, [None] * len(table.rows))
        for row, value in zip(table.rows, values, strict=True):
            pieces = _pieces(value) if isinstance(value, str) and len(value) > LONGEST else [value]
            for index, piece in enumerate(pieces):
                yield row, piece, index + 1 < len(pieces), name, note
                note = ""


def _pieces(text: str) -> list[str]:
    """A long text, divided after the last line end or space before each limit."""
    pieces = []
    while len(text) > LONGEST:
        end = text.rfind("\n", 0, LONGEST) + 1 or text.rfind(" ", 0, LONGEST) + 1 or LONGEST
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]


def columnar_tables(path: Path) -> Iterator[Table]:
    """A Parquet or Arrow file as tables of some rows each."""
    import pyarrow

    first = 0
    for batch in columnar_batches(path):
        table = arrow_table(pyarrow.Table.from_batches([batch]), str(path))
        yield Table(table.columns, table.where, [f"row {first + row}" for row in range(batch.num_rows)])
        first += batch.num_rows


def _json_tables(path: Path) -> Iterator[Table]:
    first = 1
    for block in text_blocks(path, whole_lines=True):
        yield read_json_lines(path, block, first)
        first += block.count("\n")
