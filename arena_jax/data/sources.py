"""`load`: one function for every source of examples."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, few, nearest
from arena_jax.config.tasks import PROBLEM_TYPES
from arena_jax.data.columns import SEVERAL, check_parts, find_columns, guess_task, has_label
from arena_jax.data.content import PACKED
from arena_jax.data.corpus import corpus_table, is_large
from arena_jax.data.dataset import (
    CLASSIFICATION,
    LANGUAGE,
    MULTI_LABEL,
    QUESTIONS,
    TAGGING,
    Dataset,
    data_task,
    held_out_rows,
)
from arena_jax.data.examples import examples_of
from arena_jax.data.files import read_file
from arena_jax.data.folders import ENDINGS, Splits, pattern_files, split_files, split_of
from arena_jax.data.hub import DATA_SETS, hub_tables, saved_tables
from arena_jax.data.label_columns import LABELS, gathered, label_columns
from arena_jax.data.labels import Classes
from arena_jax.data.memory import tables_in_memory
from arena_jax.data.records import LIMIT, Rejected
from arena_jax.data.sentence_hold_out import sentence_hold_out
from arena_jax.data.stdlib_text import python_docs
from arena_jax.data.streamed_text import is_stream
from arena_jax.data.synthetic import synthetic_sentiment
from arena_jax.data.table import Table, joined
from arena_jax.data.word_rows import sentences

BUILT_IN = {"synthetic-sentiment": CLASSIFICATION, "python-docs": LANGUAGE}
SPLITS = ("train", "validation", "test", "all")
HOLD_OUTS = ("rows", "sentences")
_KNOWN_TASK = {"sst2": CLASSIFICATION, "wikitext2": LANGUAGE, "wnut17": TAGGING, "squad": QUESTIONS}
_KNOWN_FOLDER = {"sst2": "sst2", "wikitext2": "wikitext", "wnut17": "wnut17", "squad": "squad"}


def load(
    source: Any,
    labels: Sequence[Any] | None = None,
    *,
    task: str | None = None,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    label_names: Sequence[str] = (),
    problem_type: str | None = None,
    validation_fraction: float = 0.1,
    hold_out: str = "rows",
    max_bad_records: float = LIMIT,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Load one split of a data set, from wherever it is.

    Sources, in the order in which a name is understood:
        "synthetic-sentiment", "python-docs": built in.
        "sst2", "wikitext2", "wnut17", "squad": from the folder sst2, wikitext, wnut17 or squad under $ARENA_DATA
            if that is set, else from the Hugging Face Hub.
        a file: .tsv (no quoting), .csv, .jsonl, .json (list of objects, SQuAD's form, or lines), .parquet, .arrow,
            .txt/.raw/.tokens (text: WikiText's articles, else paragraphs), .conll and its kin (word and tag per line);
            any of them packed by gzip, bzip2, xz or zstd.
        a folder: one such file per split, or its shards, told by a word in its name or its folder's: train or training;
            dev, val, valid or validation; test. Or a folder that `datasets` saved.
        a pattern, such as "data/train-*.jsonl".
        anything else: a data set's id on the Hub. No script is ever run.
    Or examples in memory: a ``datasets.Dataset`` or ``DatasetDict``, a pandas frame, a pyarrow table, a dictionary of
    columns or of splits, a list of dictionaries, or a list of texts with their labels.

    Where there is no validation split, rows of the training split are held out, chosen by `seed` (questions on one
    context stay together); the notes say how many. Labels and tags are numbered by the training split, as
    docs/guides/data.md says. A record that cannot be used is left out, counted and named.

    Args:
        source: a name, path, pattern or id, or examples.
        labels: of a list of texts, one each; of a list of lists of words, a tag for each word.
        task: of a model or of the examples; None tells it from the source.
        split: "train", "validation", "test", or "all" (the training split with nothing held out).
        columns: part to column, for parts not under their usual name: "text", "text_pair", "label" (classification),
            "text" (language model), "words", "label" (tagging), "question", "context", "answers", "id" (questions).
        subset: configuration of a data set on the Hub, or folder below the one that is given.
        label_names: names of class 0, 1, …, where the data hold numbers, or their order, where they hold names.
        problem_type: what the labels of classification are: "regression" (a number each), "multi_label_classification"
            (any of the classes), or "single_label_classification" (None: one class each).
        validation_fraction: share of the rows held out, in (0, 1).
        hold_out: "sentences" holds whole sentences of the training split out, drops every text contained in one of
            them, and leaves a validation split alone that is there (`arena_jax.data.sentence_hold_out`); of
            classification of single texts. "rows" holds examples out, where there is no validation split.
        max_bad_records: largest fraction of the records that may be left out because they cannot be used.
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
        >>> load(["a good film", "a bad film"], ["good", "bad"], split="all").columns["label"]
        [1, 0]
    """
    task_kind = None if task is None else data_task(task)
    columns = dict(columns or {})
    if split not in SPLITS:
        raise ArenaError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ArenaError(f"unknown problem_type '{problem_type}'; {nearest(str(problem_type), PROBLEM_TYPES)}")
    if problem_type == "single_label_classification":
        problem_type = None
    if hold_out not in HOLD_OUTS:
        raise ArenaError(f"unknown hold_out '{hold_out}'; {nearest(hold_out, HOLD_OUTS)}")
    if not 0 <= max_bad_records < 1:
        raise ArenaError(f"max_bad_records is {max_bad_records}: give a fraction from 0 to below 1")
    if task_kind is not None:
        check_parts(task_kind, columns)
    if isinstance(label_names, str) or not all(isinstance(name, str) for name in label_names):
        raise ArenaError(f"label_names is {label_names!r}: give a list of names, of class 0, 1, …")
    if len(set(label_names)) < len(label_names):
        raise ArenaError(f"label_names holds a name twice: {few(label_names)}")
    classes = Classes(tuple(label_names), True) if label_names else None
    if isinstance(source, str | Path):
        name = str(source)
        if not name.strip():
            raise ArenaError(f"a data set's name, file, folder or Hub id is needed, not {source!r}")
        if labels is not None:
            raise ArenaError(f"labels go with a list of texts; '{name[:60]}' has a column for them: columns=")
        if is_stream(name):
            raise ArenaError(
                f"{name} is read as it is trained on, by `arena-jax train` with a language model and --steps; here a "
                "file or data set is needed that can be read whole"
            )
        if name in BUILT_IN:
            _check_task(name, task_kind, BUILT_IN[name])
            if hold_out == "sentences":
                raise ArenaError(f"hold_out sentences is of texts with their phrases, and '{name}' has none; remove it")
            if name == "python-docs":
                data = python_docs(split, validation_fraction=validation_fraction, seed=seed)
            else:
                data = synthetic_sentiment(split)
            return data if limit is None else data.take(limit)
        if name in DATA_SETS:
            _check_task(name, task_kind, _KNOWN_TASK[name])
            task_kind = _KNOWN_TASK[name]
        tables, provenance = _tables(name, task_kind, subset, columns)
    else:
        name, provenance = "in memory", type(source).__name__
        in_memory = tables_in_memory(source, labels, split_of)
        tables = {key: partial(_same, table) for key, table in in_memory.items()}
    if Path(name).name == "sst2" and classes is None:
        classes = Classes(("negative", "positive"), True)
    reading = Reading(task_kind, columns, classes, problem_type, max_bad_records)
    data = _split(name, tables, reading, split, validation_fraction, seed, hold_out)
    data = dataclasses.replace(data, provenance=provenance)
    return data if limit is None else data.take(limit)


Reader = Callable[[], Table]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How tables become examples: what the user said of them."""

    task: str | None
    columns: Mapping[str, str]
    classes: Classes | None
    problem_type: str | None
    max_bad_records: float


def _same(table: Table) -> Table:
    return table


def _split(
    name: str,
    tables: Mapping[str, Reader],
    reading: Reading,
    split: str,
    fraction: float,
    seed: int,
    hold_out: str = "rows",
) -> Dataset:
    """Choose, read and number the split; hold rows out where there is no validation split."""
    train = next((key for key in ("train", "all") if key in tables), None)
    by_sentence = hold_out == "sentences"
    holds_out = ("validation" not in tables or by_sentence) and split in ("train", "validation") and train is not None
    key = train if holds_out or split in ("train", "all") else split
    if key is None or key not in tables:
        raise ArenaError(f"data set '{name}' has no split '{split}'; it has: {', '.join(sorted(tables))}")
    table = tables[key]()
    first = table if train is None or train == key else tables[train]()
    for part in (table, first):
        if not part.rows:
            Rejected(part.where, dict(part.rejected), part.more_rejected).settle(
                len(part.rejected) + part.more_rejected, reading.max_bad_records
            )
            raise ArenaError(f"{part.where} has no examples; give at least one")
    problem_type = reading.problem_type
    kind = reading.task or guess_task(first, reading.columns)
    columns = dict(reading.columns)
    names = () if has_label(first) and "label" not in columns else label_columns(first, columns)
    if names and kind == LANGUAGE and reading.task is None:
        if problem_type != MULTI_LABEL:
            raise ArenaError(
                f"{first.where}: {few(names)} hold 0 and 1: {SEVERAL} learns several labels per text, "
                f"task={LANGUAGE} the text alone"
            )
        kind = CLASSIFICATION
    if names and kind == CLASSIFICATION and problem_type == MULTI_LABEL:
        same = first is table
        first = gathered(first, names)
        table = first if same else gathered(table, names)
        columns["label"] = LABELS
    if kind != CLASSIFICATION and problem_type is not None:
        raise ArenaError(f"problem_type={problem_type} is of {CLASSIFICATION}, not of {kind}")
    # Parts are found in the training split, and are the same columns in every split.
    parts = find_columns(first, kind, columns)
    if kind == TAGGING:
        same = first is table
        first = sentences(first, parts)
        table = first if same else sentences(table, parts)
    classes_before = reading.classes if kind in (CLASSIFICATION, TAGGING) else None

    def examples(of: Table, classes: Classes | None) -> Any:
        return examples_of(of, kind, parts, classes, problem_type=problem_type, max_bad_records=reading.max_bad_records)

    if first is not table and kind in (CLASSIFICATION, TAGGING):
        classes = examples(first, classes_before).classes
        # How labels were read is said of the training split.
        classes_before = dataclasses.replace(classes, notes=()) if classes.names else classes_before
    data_examples = examples(table, classes_before)
    data = Dataset(
        Path(name).name,
        kind,
        split,
        data_examples.columns,
        data_examples.classes.names,
        notes=tuple(data_examples.notes),
        numbered=data_examples.classes.numbered,
        problem_type=problem_type,
    )
    if not holds_out:
        return data
    if by_sentence:
        return _sentences_held_out(data, split, fraction, seed)
    others = sorted(set(tables) - {"train", "all", "test"})
    if others:
        data = dataclasses.replace(data, notes=(*data.notes, f"other splits, not used: {few(others)}"))
    groups = list(dict.fromkeys(data_examples.columns["context"])) if kind == QUESTIONS else None
    count = len(data) if groups is None else len(groups)
    indices: Sequence[int] | Any = held_out_rows(count, fraction, seed, name)[split == "validation"]
    if groups is not None:
        contexts = {groups[index] for index in indices}
        indices = [row for row, context in enumerate(data_examples.columns["context"]) if context in contexts]
    out = len(data) - len(indices) if split == "train" else len(indices)
    note = f"no validation split: {out:,} of {len(data):,} training examples held out (seed {seed})"
    return data.select(indices, note=note)


def _sentences_held_out(data: Dataset, split: str, fraction: float, seed: int) -> Dataset:
    if data.task != CLASSIFICATION or "text_pair" in data.columns:
        raise ArenaError("hold_out sentences is of classification of single texts; give hold_out rows")
    learnt, held_out = sentence_hold_out(data.columns["text"], fraction, seed, data.name)
    dropped = len(data) - len(learnt) - len(held_out)
    note = (
        f"{len(held_out):,} whole sentences of the training split held out (seed {seed}), and {dropped:,} of its "
        f"{len(data):,} texts dropped, which are contained in them"
    )
    return data.select(learnt if split == "train" else held_out, note=note)


def folder_of(name: str) -> Path | None:
    """The folder of one of `DATA_SETS` under ``$ARENA_DATA``; None where there is none."""
    root = os.environ.get("ARENA_DATA")
    local = Path(root) / _KNOWN_FOLDER[name] if root else None
    return local if local is not None and local.is_dir() else None


def _tables(
    name: str, task: str | None, subset: str | None, columns: Mapping[str, str]
) -> tuple[dict[str, Reader], str]:
    path = Path(name)
    if name in DATA_SETS:
        local = folder_of(name)
        if local is not None:
            return _folder(local, task, None, columns), f"folder {local}"
    elif path.is_dir():
        return _folder(path, task, subset, columns), f"folder {path}"
    elif path.exists():
        return _readers({"all": [path]}, task, columns), f"file {path}"
    elif any(mark in name for mark in "*?["):
        splits = pattern_files(name)
        return _readers(splits, task, columns), f"files {name}"
    elif _looks_like_path(name):
        beside = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        clause = nearest(path.name, beside) if len(beside) <= 20 or _close(path.name, beside) else "check the path"
        raise ArenaError(f"no data at {name}; {clause if beside else 'its folder does not exist either'}")
    elif _close(name, [*BUILT_IN, *DATA_SETS]) and "/" not in name:
        raise ArenaError(f"unknown data set '{name}'; {nearest(name, [*BUILT_IN, *DATA_SETS])}")
    tables, provenance = hub_tables(name, subset)
    return {split: partial(_same, table) for split, table in tables.items()}, provenance


def _close(name: str, names: list[str]) -> bool:
    return bool(difflib.get_close_matches(name, names, n=1))


def _looks_like_path(name: str) -> bool:
    has_ending = Path(name).suffix.lower() in (*ENDINGS, *PACKED)
    return has_ending or name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)


def _folder(folder: Path, task: str | None, subset: str | None, columns: Mapping[str, str]) -> dict[str, Reader]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return {split: partial(_same, table) for split, table in saved_tables(folder).items()}
    return _readers(split_files(folder, subset), task, columns)


def _readers(splits: Splits, task: str | None, columns: Mapping[str, str]) -> dict[str, Reader]:
    def read(paths: list[Path]) -> Table:
        where = str(paths[0] if len(paths) == 1 else paths[0].parent)
        if is_large(paths, task):
            return corpus_table(paths, columns, where)
        return joined([read_file(path, task) for path in paths], where)

    return {split: partial(read, paths) for split, paths in splits.items()}


def _check_task(name: str, task: str | None, data_kind: str) -> None:
    if task is not None and task != data_kind:
        raise ArenaError(f"data set '{name}' is for {data_kind}, not for {task}; choose another data set or task")
