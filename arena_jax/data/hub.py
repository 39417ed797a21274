"""Data sets of the `datasets` library: from the Hugging Face Hub, or saved in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, first_line
from arena_jax.config.hub_access import near_here, stay_offline_if_unreachable
from arena_jax.data.documents import split_documents
from arena_jax.data.table import Table

# name: (id, subset, revision). WNUT-17's own repository holds a script, which is never run; its Parquet copy does.
DATA_SETS: dict[str, tuple[str, str | None, str | None]] = {
    "sst2": ("stanfordnlp/sst2", None, None),
    "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1", None),
    "wnut17": ("leondz/wnut_17", None, "refs/convert/parquet"),
    "squad": ("rajpurkar/squad", None, None),
}


def hub_tables(name: str, subset: str | None) -> tuple[dict[str, Table], str]:
    """Load all splits of a data set from the Hub, or from its cache when offline.

    Args:
        name: a known name or an id such as "stanfordnlp/imdb".
        subset: name of the configuration inside the data set.

    Returns:
        (split to table, provenance).

    Raises:
        ArenaError: no connection, no such data set, or one that exists only as a script.
    """
    stay_offline_if_unreachable()
    import datasets

    place, known_subset, revision = DATA_SETS.get(name, (name, None, None))
    subset = subset or known_subset
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(place, subset, revision=revision)
    except Exception as error:  # whatever the network, the Hub or a parser raises
        raise ArenaError(
            f"cannot load '{place}' from the Hugging Face Hub ({type(error).__name__}: {first_line(error)[:160]}); "
            f"check the name and the connection, or give a local file or folder instead{near_here(name)}"
        ) from None
    provenance = f"Hugging Face Hub, {place}" + (f", subset {subset}" if subset else "")
    return tables_of(loaded, place, articles=name == "wikitext2"), provenance


def saved_tables(folder: Path) -> dict[str, Table]:
    """Load all splits of a data set that `datasets` saved in a folder.

    Args:
        folder: what `save_to_disk` wrote.

    Returns:
        Split to table.

    Raises:
        ArenaError: the folder is damaged.
    """
    import datasets

    try:
        return tables_of(datasets.load_from_disk(str(folder)), str(folder))
    except ArenaError:
        raise
    except Exception as error:  # whatever a damaged file makes the library raise
        raise ArenaError(
            f"cannot read the saved data set {folder} ({type(error).__name__}: {first_line(error)[:160]}); save it anew"
        ) from None


def tables_of(loaded: Any, where: str, *, articles: bool = False) -> dict[str, Table]:
    """The splits of what `datasets` loaded.

    Args:
        loaded: a ``Dataset`` or ``DatasetDict``; the former becomes the split "train".
        where: its name, for errors.
        articles: join lines of text to WikiText's articles.

    Returns:
        Split to table.
    """
    import datasets

    if isinstance(loaded, datasets.Dataset):
        loaded = {"train": loaded}
    return {str(split): dataset_table(part, f"{where} ({split})", articles=articles) for split, part in loaded.items()}


def dataset_table(part: Any, where: str, *, articles: bool = False) -> Table:
    """One ``datasets.Dataset`` as a table.

    Args:
        part: of `datasets`.
        where: its name, for errors.
        articles: join lines of text to WikiText's articles.

    Returns:
        The table, with the names of its classes.
    """
    import datasets

    names = {}
    for column, feature in part.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            names[column] = tuple(inner.names)
    columns = {column: part[column][:] for column in part.column_names}
    if articles:  # the Hub keeps WikiText line by line
        columns = {"text": split_documents("".join(columns["text"]))}
    count = len(next(iter(columns.values()), []))
    return Table(columns, where, [f"row {row}" for row in range(count)], names)
