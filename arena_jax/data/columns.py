"""Which column of a table plays which part: named by the user, else by its usual names; what is left is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, few, nearest
from arena_jax.data.dataset import CLASSIFICATION, LANGUAGE, QUESTIONS, TAGGING
from arena_jax.data.label_columns import label_columns
from arena_jax.data.table import Table
from arena_jax.data.word_rows import TAGS, WORDS, sentence_columns

# What each part is usually called, in the order in which it is looked for; case, blanks and marks do not matter.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    LANGUAGE: {"text": ("text", "content", "sentence", "document")},
    CLASSIFICATION: {
        "text": (
            *("text", "sentence", "content", "review", "document", "comment", "comment_text", "tweet", "utterance"),
            "body",
        ),
        "label": ("label", "labels", "class", "category", "target", "sentiment", "gold_label", "is_duplicate"),
        "text_pair": (),
    },
    TAGGING: {
        "words": ("words", "tokens", *WORDS),
        "label": ("tags", "ner_tags", "labels", "label", "pos_tags", "upos", *TAGS),
    },
    QUESTIONS: {"question": ("question",), "context": ("context",), "answers": ("answers",), "id": ("id",)},
}
# Names that are a label where the task is said, but too common to tell a task by.
_MORE_LABELS = (
    *(
        "score",
        "similarity",
        "similarity_score",
        "relatedness_score",
        "quality",
        "rating",
        "stars",
        "intent",
        "emotion",
    ),
    *("topic", "polarity", "stance", "entailment_judgment", "label_id", "class_id", "y"),
)
# Two texts of one example, and the first of two whose second is counted on: sentence1 and sentence2, text_a and text_b.
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("texta", "textb"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
    ("headline", "body"),
    ("question", "answer"),
)
SEVERAL = "problem_type=multi_label_classification"
_OPTIONAL = {"text_pair", "id"}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def _column(table: Table, names: Sequence[str]) -> str | None:
    """The column that goes by one of the names."""
    exact = next((name for name in names if name in table.columns), None)
    if exact is not None:
        return exact
    plain: dict[str, str] = {}
    for column in table.columns:
        plain.setdefault(_plain(column), column)
    return next((plain[_plain(name)] for name in names if _plain(name) in plain), None)


def text_columns(table: Table) -> tuple[str | None, str | None]:
    """The column of the text, and that of the second text where there are two."""
    names = PARTS[CLASSIFICATION]["text"]
    single = _column(table, names[:1])
    for first, second in PAIRS if single is None else ():
        columns = _column(table, (first,)), _column(table, (second,))
        if None not in columns:
            return columns
    single = single or _column(table, names[1:])
    if single is not None:
        return single, _column(table, (f"{single}_pair", f"{single}2", f"{single}_b"))
    counted = {_plain(column): column for column in table.columns}
    for plain, column in counted.items():
        for partner in _partners(plain):
            if partner in counted and _texts(table, column) and _texts(table, counted[partner]):
                return column, counted[partner]
    return _column(table, [first for first, _ in PAIRS]), None


def _partners(name: str) -> Iterator[str]:
    """The names that a name's second may have: text2 for text1, textb for texta, secondtext for firsttext."""
    for first, second in (("1", "2"), ("a", "b"), ("first", "second")):
        if name.endswith(first):
            yield name.removesuffix(first) + second
        if name.startswith(first):
            yield second + name.removeprefix(first)


def _texts(table: Table, column: str) -> bool:
    """Whether a column holds texts, and not the numbers of rows."""
    values: Sequence[Any] = [value for value in table.columns[column][:100] if value is not None]
    return all(isinstance(value, str) for value in values) and not all(value.strip().isdigit() for value in values)


def guess_task(table: Table, columns: Mapping[str, str]) -> str:
    """The task, from the columns that there are, or that were named.

    Args:
        table: the examples.
        columns: part to column, as given.

    Returns:
        One of the four kinds of examples.
    """
    for task in (QUESTIONS, TAGGING, CLASSIFICATION):
        parts = PARTS[task]
        if task == TAGGING and "words" not in columns and not _holds_sentences(table):
            continue
        if set(columns) <= set(parts) and all(
            part in _OPTIONAL
            or part in columns
            or _column(table, names) is not None
            or (task == CLASSIFICATION and part == "text" and text_columns(table)[0] is not None)
            for part, names in parts.items()
        ):
            return task
    return LANGUAGE


def _holds_sentences(table: Table) -> bool:
    """Whether words are there by a name that is of several, or numbered by sentence."""
    return _column(table, ("words", "tokens")) is not None or bool(sentence_columns(table))


def check_parts(task: str, columns: Mapping[str, str]) -> None:
    """Refuse columns for parts that the task does not have.

    Args:
        task: one of the four kinds of examples.
        columns: part to column, as given.

    Raises:
        ArenaError: an unknown part, with the nearest name.

    Example:
        >>> check_parts("sequence-classification", {"txt": "sentence"})
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: sequence-classification has no part 'txt' for a column; did you mean 'text'?
    """
    for part in columns:
        if part not in PARTS[task]:
            raise ArenaError(f"{task} has no part '{part}' for a column; {nearest(part, PARTS[task])}")


def find_columns(table: Table, task: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Decide which column plays which part.

    Args:
        table: the examples.
        task: one of the four kinds of examples.
        columns: part to column, as far as given; the rest is found by its usual names.

    Returns:
        Part to column.

    Raises:
        ArenaError: a part without column, with the nearest name.
    """
    check_parts(task, columns)
    parts: dict[str, str] = {}
    for part, names in PARTS[task].items():
        if part in columns:
            table.column(columns[part])
            parts[part] = columns[part]
            continue
        name = _column(table, names)
        if task == CLASSIFICATION and part == "text":
            name, pair = text_columns(table)
            if pair is not None and "text_pair" not in columns:
                parts["text_pair"] = pair
        elif task == CLASSIFICATION and part == "label" and name is None:
            name = _column(table, _MORE_LABELS)
        if name is not None and name not in parts.values():
            parts[part] = name
        elif part not in _OPTIONAL:
            several = few(label_columns(table, columns)) if task == CLASSIFICATION and part == "label" else ""
            hint = f"; {several} hold 0 and 1: {SEVERAL} learns several labels per text" if several else ""
            raise ArenaError(
                f"{table.where} has no column for '{part}' ({' or '.join(names)}); "
                f"name it as {part}=COLUMN, its columns are: {', '.join(map(str, table.columns))[:200]}"
                f"{hint}{_unnamed(table)}"
            )
    return parts


def has_label(table: Table) -> bool:
    """Whether a column has the usual name of a label."""
    return _column(table, PARTS[CLASSIFICATION]["label"]) is not None


def _unnamed(table: Table) -> str:
    """A hint, where the first line of a table of separated values is probably an example."""

    def is_data(name: str) -> bool:
        return len(name.split()) > 4 or len(name) > 60 or bool(re.fullmatch(r"[-+]?\d+(\.\d+)?", name.strip()))

    if not any(is_data(name) for name in table.columns):
        return ""
    return "; its first line seems to be an example: put a line above it that names the columns"


def unused_note(table: Table, columns: Mapping[str, str], beside: Sequence[str] = ()) -> list[str]:
    """Which columns play no part, in a line; nothing where all do."""
    used = {*columns.values(), *beside}
    rest = [name for name in table.columns if name not in used and not re.fullmatch(r"field \d+", name)]
    return [f"columns not used: {few(rest, 8)}"] if rest else []
