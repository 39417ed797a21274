"""`load`: one function for every source of examples."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import CLASSIFICATION, LANGUAGE, QUESTIONS, TAGGING, Dataset, data_task, held_out
from arena_jax.data.examples import check_parts, examples_of, find_columns, guess_task
from arena_jax.data.files import TABLES, TAGGED, TEXTS, Table, read_documents, read_table, read_tagged
from arena_jax.data.hub import KNOWN, hub_tables, saved_tables
from arena_jax.data.stdlib_text import python_docs
from arena_jax.data.synthetic import synthetic_sentiment

BUILT_IN = {"synthetic-sentiment": CLASSIFICATION, "python-docs": LANGUAGE}
SPLITS = ("train", "validation", "test", "all")
_KNOWN_TASK = {"sst2": CLASSIFICATION, "wikitext2": LANGUAGE, "wnut17": TAGGING, "squad": QUESTIONS}
_KNOWN_FOLDER = {"sst2": "sst2", "wikitext2": "wikitext", "wnut17": "wnut17", "squad": "squad"}
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    "test": "test",
}


def load(
    source: str | Path,
    *,
    task: str | None = None,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Load one split of a data set, from wherever it is.

    Sources, in the order in which a name is understood:
        "synthetic-sentiment", "python-docs": built in.
        "sst2", "wikitext2", "wnut17", "squad": from the folder of that name under $ARENA_DATA if that is set,
            else from the Hugging Face Hub.
        a file: .tsv (no quoting), .csv, .jsonl, .json (list of objects, or SQuAD's form), .txt/.raw/.tokens (text:
            WikiText's articles, else paragraphs), .conll/.annotated (word and tag per line).
        a folder: one such file per split, told by a word in its name: train or training; dev, val, valid or
            validation; test. So sst2/{train,dev,test}.tsv, wikitext/raw/{train_prefix,valid,test}.raw,
            wnut17/{wnut17train.conll,emerging.dev.conll,emerging.test.annotated} and squad/{train,dev}.json are
            understood as they are. Or a folder that `datasets` saved.
        anything else: a data set's id on the Hub. No script is ever run.

    Where there is no validation split, rows of the training split are held out, chosen by `seed` (questions on one
    context stay together); the notes say how many. Labels and tags are numbered by the training split.

    Args:
        source: a name, path or id.
        task: of a model or of the examples; None tells it from the source.
        split: "train", "validation", "test", or "all" (the training split with nothing held out).
        columns: part to column, for parts not under their usual name: "text", "text_pair", "label" (classification),
            "text" (language model), "words", "label" (tagging), "question", "context", "answers", "id" (questions).
        subset: configuration of a data set on the Hub.
        validation_fraction: share of the rows held out, in (0, 1).
        seed: of the choice of rows held out.
        limit: examples at most.

    Returns:
        The examples, with label names, provenance and notes.

    Raises:
        ArenaError: nothing there, not readable, columns or labels missing or wrong, no example left.

    Example:
        >>> data = load("synthetic-sentiment", split="validation", limit=10)
        >>> data.task, len(data), data.label_names
        ('sequence-classification', 10, ('negative', 'positive'))
    """
    if not isinstance(source, str | Path) or not str(source).strip():
        raise ArenaError(f"a data set's name, file, folder or Hub id is needed, not {source!r}")
    name, wanted = str(source), None if task is None else data_task(task)
    columns = dict(columns or {})
    if split not in SPLITS:
        raise ArenaError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
    if wanted is not None:
        check_parts(wanted, columns)
    if name in BUILT_IN:
        _check_task(name, wanted, BUILT_IN[name])
        if name == "python-docs":
            data = python_docs(split, validation_fraction=validation_fraction, seed=seed)
        else:
            data = synthetic_sentiment(split)
        return data if limit is None else data.take(limit)
    if name in KNOWN:
        _check_task(name, wanted, _KNOWN_TASK[name])
        wanted = _KNOWN_TASK[name]
    tables, provenance = _tables(name, wanted, subset)
    data = _split(name, tables, wanted, split, columns, validation_fraction, seed)
    data = dataclasses.replace(data, provenance=provenance)
    if Path(name).name == "sst2" and data.label_names == ("0", "1"):
        data = dataclasses.replace(data, label_names=("negative", "positive"))
    return data if limit is None else data.take(limit)


Reader = Callable[[], Table]


def _same(table: Table) -> Table:
    return table


def _split(
    name: str,
    tables: Mapping[str, Reader],
    task: str | None,
    split: str,
    columns: Mapping[str, str],
    fraction: float,
    seed: int,
) -> Dataset:
    """Choose, read and number the split; hold rows out where there is no validation split."""
    train = next((key for key in ("train", "all") if key in tables), None)
    holds_out = "validation" not in tables and split in ("train", "validation") and train is not None
    key = train if holds_out or split in ("train", "all") else split
    if key is None or key not in tables:
        raise ArenaError(f"data set '{name}' has no split '{split}'; it has: {', '.join(sorted(tables))}")
    table = tables[key]()
    if not table.rows:
        raise ArenaError(f"{table.where} has no examples; give at least one")
    kind = task or guess_task(table, columns)
    label_names: tuple[str, ...] | None = None
    if train is not None and key != train and kind in (CLASSIFICATION, TAGGING):
        first = tables[train]()
        label_names = examples_of(first, kind, find_columns(first, kind, columns))[1]
    values, label_names, notes = examples_of(table, kind, find_columns(table, kind, columns), label_names)
    data = Dataset(Path(name).name, kind, split, values, label_names, notes=tuple(notes))
    if not holds_out:
        return data
    groups = list(dict.fromkeys(values["context"])) if kind == QUESTIONS else None
    count = len(data) if groups is None else len(groups)
    chosen = held_out(count, fraction, seed, name)[split == "validation"]
    if groups is not None:
        contexts = {groups[index] for index in chosen}
        chosen = [row for row, context in enumerate(values["context"]) if context in contexts]
    out = len(data) - len(chosen) if split == "train" else len(chosen)
    note = f"no validation split: {out:,} of {len(data):,} training examples held out (seed {seed})"
    return data.select(chosen, note=note)


def _tables(name: str, task: str | None, subset: str | None) -> tuple[dict[str, Reader], str]:
    path = Path(name)
    if name in KNOWN:
        root = os.environ.get("ARENA_DATA")
        local = Path(root) / _KNOWN_FOLDER[name] if root else None
        if local is not None and local.is_dir():
            return _folder(local, task), f"folder {local}"
    elif path.is_dir():
        return _folder(path, task), f"folder {path}"
    elif path.exists():
        return {"all": partial(_read, path, task)}, f"file {path}"
    elif _looks_like_path(name):
        beside = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        clause = nearest(path.name, beside) if len(beside) <= 20 or _close(path.name, beside) else "check the path"
        raise ArenaError(f"no data at {name}; {clause if beside else 'its folder does not exist either'}")
    elif _close(name, [*BUILT_IN, *KNOWN]) and "/" not in name:
        raise ArenaError(f"unknown data set '{name}'; {nearest(name, [*BUILT_IN, *KNOWN])}")
    tables, provenance = hub_tables(name, subset)
    return {split: partial(_same, table) for split, table in tables.items()}, provenance


def _close(name: str, known: list[str]) -> bool:
    return bool(difflib.get_close_matches(name, known, n=1))


def _looks_like_path(name: str) -> bool:
    known = Path(name).suffix.lower() in (*TABLES, *TEXTS, *TAGGED)
    return known or name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)


def _folder(folder: Path, task: str | None) -> dict[str, Reader]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return {split: partial(_same, table) for split, table in saved_tables(folder).items()}
    files = _split_files(folder)
    if not files:  # WikiText's own layouts
        for below in ("raw", "wikitext-2-raw", "wikitext-2"):
            files = files or (_split_files(folder / below) if (folder / below).is_dir() else {})
    if not files:
        raise ArenaError(
            f"{folder} holds no data file with train, dev or test in its name "
            f"({', '.join((*TABLES, *TEXTS, *TAGGED))}); name one file, or rename them"
        )
    return {split: partial(_read, path, task) for split, path in files.items()}


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix.lower() not in (*TABLES, *TEXTS, *TAGGED):
            continue
        splits = {_WORDS[word] for word in re.findall("[a-z]+", path.name.lower()) if word in _WORDS}
        if len(splits) != 1:
            continue
        split = splits.pop()
        if split in found:
            raise ArenaError(
                f"{folder} holds two files for the split {split}: {found[split].name} and {path.name}; name one file"
            )
        found[split] = path
    return found


def _read(path: Path, task: str | None) -> Table:
    ending = path.suffix.lower()
    if ending in TABLES:
        return read_table(path)
    if ending in TAGGED or (task == TAGGING and ending not in TABLES):
        return read_tagged(path)
    if task in (None, LANGUAGE) and (ending in TEXTS or task == LANGUAGE):
        documents = read_documents(path)
        return Table({"text": documents}, str(path), [f"document {index}" for index in range(len(documents))])
    raise ArenaError(
        f"{path}: {ending or 'a file without ending'} is not known for {task or 'any task'}; "
        f"use {', '.join(TABLES)} with named columns"
    )


def _check_task(name: str, wanted: str | None, own: str) -> None:
    if wanted is not None and wanted != own:
        raise ArenaError(f"data set '{name}' is for {own}, not for {wanted}; choose another data set or task")
