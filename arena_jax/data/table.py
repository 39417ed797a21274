"""A table of records as they were read, before anybody knows which column plays which part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, nearest


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of equal length, and where each row stands.

    Args:
        columns: name to values, as they were read.
        where: the file or data set, for errors.
        rows: what to call row i in an error, such as "line 7".
        class_names: names of the classes of a column of numbers, where the source says them.
        rejected: records that could not be read, such as "line 9", each with a sentence that says why.
        notes: what a person should know of how it was read.
        more_rejected: records that could not be read beside those that are named.
    """

    columns: Mapping[str, Sequence[Any]]
    where: str
    rows: Sequence[str]
    class_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    rejected: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    more_rejected: int = 0

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


def from_records(where: str, items: Iterable[tuple[str, Any]], rejected: Mapping[str, str] | None = None) -> Table:
    """A table from one object per record; a key that a record lacks is None there.

    Args:
        where: the file or data set, for errors.
        items: (what to call the record, the object) of each.
        rejected: records that could not be read.

    Returns:
        The table.

    Raises:
        ArenaError: a column name that cannot be shown.
    """
    refused = dict(rejected or {})
    names: dict[str, None] = {}
    complete = []
    for row, item in items:
        if not isinstance(item, dict):
            refused[row] = f'{row} is not a JSON object, such as {{"text": …}}'
            continue
        complete.append((row, item))
        names.update(dict.fromkeys(item))
    check_names(where, names)
    columns = {name: [item.get(name) for _, item in complete] for name in names}
    return Table(columns, where, [row for row, _ in complete], rejected=refused)


def check_names(where: str | Path, names: Iterable[Any]) -> None:
    """Refuse names of columns that cannot be shown.

    Raises:
        ArenaError: a name that is no text, or has control characters.
    """
    for name in names:
        if not isinstance(name, str):
            raise ArenaError(f"{where}: a column is called {str(name)[:40]}, which is no text; name it, such as 'text'")
        if not name.isprintable():
            raise ArenaError(f"{where}: the column name {name[:40]!r} holds control characters; rename it")


def joined(tables: Sequence[Table], where: str) -> Table:
    """The rows of several tables, one after the other: the shards of one split.

    Args:
        tables: of the same columns.
        where: what all of them are called.

    Returns:
        One table; rows carry the name of their own.

    Raises:
        ArenaError: columns or classes that differ.
    """
    if len(tables) == 1:
        return tables[0]
    first = next((table for table in tables if table.rows), tables[0])
    for table in tables:
        different = set(table.columns) ^ set(first.columns)
        if table.rows and different:
            raise ArenaError(
                f"{table.where} and {first.where} are parts of one split, but only one has the column "
                f"'{sorted(different)[0]}': give files with the same columns"
            )
        if table.class_names != first.class_names and table.rows:
            raise ArenaError(
                f"{table.where} and {first.where} are parts of one split, but name their classes otherwise"
            )
    columns = {
        name: [value for table in tables if table.rows for value in table.columns[name]] for name in first.columns
    }
    rows = [f"{Path(table.where).name} {row}" for table in tables for row in table.rows]
    rejected = {
        f"{Path(table.where).name} {row}": f"{Path(table.where).name} {reason}"
        for table in tables
        for row, reason in table.rejected.items()
    }
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    return Table(columns, where, rows, first.class_names, rejected, (f"{len(tables)} files", *notes))
