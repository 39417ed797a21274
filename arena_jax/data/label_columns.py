"""Several labels per text in columns of their own, a 0 or 1 each, as one column of lists."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.config.errors import few
from arena_jax.data.table import Table

LABELS = "labels in columns"  # what the column that is made is called
_NUMBERS_OF_ROWS = re.compile(r"id|idx|index|guid|uid|no|nr|#|.*[_ ]id|unnamed.*|column \d+|field \d+", re.IGNORECASE)
_TRUTH = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def label_columns(table: Table, columns: Mapping[str, str]) -> list[str]:
    """The columns that hold a 0 or 1 for a class each; none where there are fewer than two.

    Args:
        table: the examples of the training split.
        columns: part to column, as given: "label" may name the columns with + between them, else they are those that
            hold 0 and 1 alone, but for numbers of rows.

    Returns:
        Names, in the table's order.
    """
    stated = columns.get("label")
    if stated is not None:
        names = [name.strip() for name in stated.split("+")]
        return names if stated not in table.columns and len(names) > 1 and set(names) <= set(table.columns) else []
    names = [
        name
        for name, values in table.columns.items()
        if name not in columns.values() and not _NUMBERS_OF_ROWS.fullmatch(name) and _is_truth(values)
    ]
    return names if len(names) > 1 else []


def gathered(table: Table, names: Sequence[str]) -> Table:
    """The table with its columns of 0 and 1 as one column: the list of those that hold 1.

    Args:
        table: the examples of a split.
        names: of the columns, which are the classes.

    Returns:
        A table with the column ``LABELS`` in their place; records with another value in one of them are left out.

    Raises:
        ArenaError: a column is missing.

    Example:
        >>> table = Table({"text": ["a", "b"], "up": ["1", "0"], "down": ["1", "?"]}, "t", ["line 2", "line 3"])
        >>> lists = gathered(table, ["up", "down"])
        >>> lists.columns[LABELS], lists.rejected
        ([['up', 'down']], {'line 3': "line 3 has '?' in column 'down': a 0 or 1 is needed"})
    """
    read = {name: [_truth(value) for value in table.column(name)] for name in names}
    rejected, keep = dict(table.rejected), []
    for index, row in enumerate(table.rows):
        wrong = next((name for name in names if read[name][index] is None), None)
        if wrong is None:
            keep.append(index)
        else:
            value = str(table.columns[wrong][index])[:40]
            rejected[row] = f"{row} has '{value}' in column '{wrong}': a 0 or 1 is needed"
    rest = {name: [values[index] for index in keep] for name, values in table.columns.items() if name not in set(names)}
    rest[LABELS] = [[name for name in names if read[name][index]] for index in keep]
    return dataclasses.replace(
        table,
        columns=rest,
        rows=[table.rows[index] for index in keep],
        rejected=rejected,
        class_names={**table.class_names, LABELS: tuple(names)},
        notes=(*table.notes, f"classes are the columns {few(names, 8)}"),
    )


def _is_truth(values: Sequence[Any]) -> bool:
    """Whether a column holds 0 and 1, and nothing else but gaps."""
    read = [_truth(value) for value in values if value is not None and value != ""]
    return bool(read) and None not in read


def _truth(value: Any) -> int | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return int(value) if value in (0, 1) else None
    return _TRUTH.get(value.strip()) if isinstance(value, str) else None
