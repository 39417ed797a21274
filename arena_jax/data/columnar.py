"""Parquet and Arrow files, read by pyarrow, with the class names that `datasets` writes into them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, first_line
from arena_jax.config.git_lfs import refuse_pointer
from arena_jax.data.content import read_bytes
from arena_jax.data.table import Table, check_names

COLUMNAR = (".parquet", ".arrow", ".feather")


def read_columnar(path: Path) -> Table:
    """Read a Parquet file, or an Arrow file in either of its two forms; the first bytes say which.

    Args:
        path: of the file, packed or not.

    Returns:
        The table.

    Raises:
        ArenaError: it is neither, or damaged.
    """
    import pyarrow
    import pyarrow.parquet

    content = read_bytes(path)
    source = pyarrow.BufferReader(content)
    try:
        if content.startswith(b"PAR1"):
            arrow = pyarrow.parquet.read_table(source)
        elif content.startswith(b"ARROW1"):
            arrow = pyarrow.ipc.open_file(source).read_all()
        else:
            arrow = pyarrow.ipc.open_stream(source).read_all()
    except (pyarrow.ArrowException, OSError, ValueError, EOFError) as error:
        raise _not_whole(path, error) from None
    return arrow_table(arrow, str(path))


def columnar_batches(path: Path, rows: int = 256) -> Iterator[Any]:
    """A Parquet or Arrow file that is not packed, some rows at a time.

    Args:
        path: of the file.
        rows: at a time, in Parquet; an Arrow file has its own batches.

    Yields:
        Batches of pyarrow.

    Raises:
        ArenaError: as `read_columnar`.
    """
    import pyarrow
    import pyarrow.parquet

    refuse_pointer(path)
    try:
        # Not mapped into memory: what was mapped and read would count as resident.
        with pyarrow.OSFile(str(path)) as source:
            start = source.read(6)
            source.seek(0)
            if start.startswith(b"PAR1"):
                yield from pyarrow.parquet.ParquetFile(source, pre_buffer=False).iter_batches(rows)
            elif start.startswith(b"ARROW1"):
                reader = pyarrow.ipc.open_file(source)
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
            else:
                yield from pyarrow.ipc.open_stream(source)
    except (pyarrow.ArrowException, OSError, ValueError, EOFError) as error:
        raise _not_whole(path, error) from None


def _not_whole(path: Path, error: Exception) -> ArenaError:
    first = first_line(error, type(error).__name__)
    return ArenaError(
        f"{path} is neither a whole Parquet nor a whole Arrow file ({first[:120]}): fetch or write it again"
    )


def arrow_table(arrow: Any, where: str) -> Table:
    """A table of pyarrow as one of ours.

    Args:
        arrow: of pyarrow.
        where: the file or data set, for errors.

    Returns:
        The table.

    Raises:
        ArenaError: two columns of one name, or values that cannot be read.
    """
    import pyarrow

    names = list(arrow.column_names)
    check_names(where, names)
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ArenaError(f"{where} has two columns '{twice}'; rename one")
    index = [name for name in names if name.startswith("__index_level_")]  # what pandas leaves
    try:
        columns = {name: arrow.column(name).to_pylist() for name in names if name not in index}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ArenaError(
            f"{where} holds values that cannot be read ({type(error).__name__}: {str(error)[:120]})"
        ) from None
    rows = [f"row {row}" for row in range(arrow.num_rows)]
    return Table(columns, where, rows, _class_names(arrow.schema.metadata))


def _class_names(metadata: Any) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, from what `datasets` keeps in a file's schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = {}
        for column, feature in features.items():
            inner = feature.get("feature", feature) if isinstance(feature, dict) else feature
            inner = inner[0] if isinstance(inner, list) and inner else inner
            if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
                names[column] = tuple(str(name) for name in inner["names"])
        return names
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
