"""Examples that are in memory already: of `datasets`, pandas, pyarrow, or plain lists and dictionaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, few
from arena_jax.data.columnar import arrow_table
from arena_jax.data.hub import dataset_table
from arena_jax.data.table import Table, check_names, from_records

_WHERE = "data in memory"


def tables_in_memory(source: Any, labels: Any, split_name: Callable[[str], str | None]) -> dict[str, Table]:
    """The splits of examples that are in memory.

    Args:
        source: a ``datasets.Dataset`` or ``DatasetDict``; a pandas frame; a pyarrow table; a dictionary of columns, or
            of splits each of which is one of these; a list of dictionaries; a list of texts, of pairs of texts, or of
            lists of words.
        labels: of a list of texts: a label each; of a list of lists of words: a tag for each word.
        split_name: the split that a name means, or None.

    Returns:
        Split to table; "all" where no splits are named.

    Raises:
        ArenaError: nothing that examples can be read from.
    """
    kind = type(source)
    package = kind.__module__.split(".")[0]
    if labels is not None and not isinstance(source, list | tuple) and not hasattr(source, "tolist"):
        raise ArenaError(f"labels go with a list of texts; a {kind.__name__} has a column for them")
    if package == "datasets":
        if kind.__name__ == "Dataset":
            return {"all": dataset_table(source, _WHERE)}
        if kind.__name__ != "DatasetDict":
            raise ArenaError(
                f"a {kind.__name__} is read as it comes; give a Dataset, such as Dataset.from_list(list(it))"
            )
    if not _holds_splits(source):
        return {"all": _table(source, labels, kind, package)}
    splits: dict[str, Table] = {}
    for name, part in source.items():
        key = split_name(str(name)) or str(name)
        if key in splits:
            raise ArenaError(f"two of {few(source, 8)} are the split {key}: leave one out")
        if _holds_splits(part):
            raise ArenaError(f"'{name}' of {few(source, 8)} holds splits itself: give one data set at a time")
        table = tables_in_memory(part, None, split_name)["all"]
        splits[key] = dataclasses.replace(table, where=f"{_WHERE} ({name})")
    return splits


def _holds_splits(source: Any) -> bool:
    """Whether examples come as a dictionary of splits."""
    return isinstance(source, Mapping) and bool(source) and all(map(_holds_examples, source.values()))


def _holds_examples(part: Any) -> bool:
    """Whether a value of a dictionary is a whole split, and not a column."""
    if isinstance(part, list | tuple):
        return bool(part) and all(isinstance(row, Mapping) for row in part)
    package = type(part).__module__.split(".")[0]
    framed = hasattr(part, "columns") or hasattr(part, "column_names")
    return isinstance(part, Mapping) or (package in ("pandas", "datasets", "pyarrow") and framed)


def _table(source: Any, labels: Any, kind: type, package: str) -> Table:
    if package == "pandas" and hasattr(source, "columns"):
        check_names(_WHERE, source.columns)
        return _from_columns({name: source[name].tolist() for name in source.columns})
    if package == "pyarrow" and hasattr(source, "column_names"):
        return arrow_table(source, _WHERE)
    if isinstance(source, Mapping):
        return _from_columns(source)
    if labels is None and isinstance(source, tuple) and len(source) == 2 and all(map(_is_list, source)):
        source, labels = source
    if hasattr(source, "tolist"):
        source = source.tolist()
    if not isinstance(source, list | tuple):
        raise ArenaError(
            "a data set's name, file, folder or Hub id is needed, or examples in memory, not "
            f"{kind.__name__} ({str(source)[:40]!r})"
        )
    if not source:
        raise ArenaError(f"{_WHERE} has no examples; give at least one")
    if all(isinstance(row, Mapping) for row in source):
        return from_records(_WHERE, [(f"item {index}", dict(row)) for index, row in enumerate(source)])
    if labels is None and any(isinstance(row, tuple) for row in source):
        raise ArenaError(
            f"{_WHERE}: a list of tuples may be pairs of texts, or texts with labels: give texts, or pairs, and labels "
            "apart, load(texts, labels)"
        )
    columns: dict[str, Any]
    if all(isinstance(row, str) for row in source):
        columns = {"text": list(source)}
    elif all(isinstance(row, tuple) and len(row) == 2 and all(isinstance(text, str) for text in row) for row in source):
        columns = {"text": [first for first, _ in source], "text_pair": [second for _, second in source]}
    elif all(isinstance(row, list | tuple) for row in source):
        columns = {"words": [list(row) for row in source]}
    else:
        odd = next(row for row in source if not isinstance(row, str))
        raise ArenaError(f"{_WHERE}: a list of texts is needed, but one of them is a {type(odd).__name__}")
    if labels is not None:
        columns["tags" if "words" in columns else "label"] = labels
    return _from_columns(columns)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or hasattr(value, "tolist")


def _from_columns(source: Mapping[Any, Any]) -> Table:
    check_names(_WHERE, source)
    columns: dict[str, Sequence[Any]] = {}
    for name, values in source.items():
        if not _is_list(values):
            raise ArenaError(f"{_WHERE}: column '{name}' must be a list, not a {type(values).__name__}")
        columns[name] = [_plain(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise ArenaError(f"{_WHERE}: columns of different lengths {sizes}")
    count = next(iter(sizes.values()), 0)
    return Table(columns, _WHERE, [f"row {index}" for index in range(count)])


def _plain(value: Any) -> Any:
    """A value as JSON has it: NumPy's scalars and arrays as Python's; what pandas calls missing as None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.tolist() if hasattr(value, "tolist") else value
