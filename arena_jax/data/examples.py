"""From a table to the examples of a task: which column plays which part, and what each label is called."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import CLASSIFICATION, LANGUAGE, QUESTIONS, TAGGING
from arena_jax.data.files import Table

# What each part is usually called, in the order in which it is looked for.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    LANGUAGE: {"text": ("text", "content", "sentence", "document")},
    CLASSIFICATION: {
        "text": ("text", "sentence", "sentence1", "premise", "question1", "content", "review"),
        "label": ("label", "labels", "class", "category", "target", "sentiment"),
        "text_pair": (),
    },
    TAGGING: {"words": ("words", "tokens"), "label": ("tags", "ner_tags", "labels", "label")},
    QUESTIONS: {"question": ("question",), "context": ("context",), "answers": ("answers",), "id": ("id",)},
}
_OPTIONAL = {"text_pair", "id"}

Columns = dict[str, list[Any]]


def guess_task(table: Table, columns: Mapping[str, str]) -> str:
    """Tell the task from the columns that there are, or that were named.

    Args:
        table: the examples.
        columns: part to column, as given.

    Returns:
        One of the four kinds of examples.
    """
    for task in (QUESTIONS, TAGGING, CLASSIFICATION):
        parts = PARTS[task]
        if all(
            part in _OPTIONAL or part in columns or set(names) & set(table.columns) for part, names in parts.items()
        ) and set(columns) <= set(parts):
            return task
    return LANGUAGE


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
    found = {}
    for part, names in PARTS[task].items():
        if part in columns:
            table.column(columns[part])
            found[part] = columns[part]
            continue
        name = next((name for name in names if name in table.columns), None)
        if name is not None:
            found[part] = name
        elif part not in _OPTIONAL:
            raise ArenaError(
                f"{table.where} has no column for '{part}' ({' or '.join(names)}); "
                f"name it as {part}=COLUMN, its columns are: {', '.join(map(str, table.columns))[:200]}"
            )
    return found


def examples_of(
    table: Table, task: str, columns: Mapping[str, str], label_names: Sequence[str] | None = None
) -> tuple[Columns, tuple[str, ...], list[str]]:
    """Read the examples out of a table, checking each.

    Args:
        table: the table.
        task: one of the four kinds of examples.
        columns: part to column, from `find_columns`.
        label_names: the classes or tags that there are; None takes those that occur.

    Returns:
        (columns as `Dataset` has them, label names, notes).

    Raises:
        ArenaError: a missing text or label, a label out of range, words without tags, an answer that is not in
            its context; each with its row.
    """
    values = {part: table.column(name) for part, name in columns.items()}
    notes: list[str] = []
    if task == QUESTIONS:
        out: Columns = {part: _texts(table, columns[part], values[part]) for part in ("question", "context")}
        given = values.get("id")
        out["id"] = [str(row) for row in (range(len(table.rows)) if given is None else given)]
        out["answers"], moved = _answers(table, values["answers"], out["context"])
        if moved:
            notes.append(f"{moved:,} answers do not begin where the data says; the nearest occurrence was taken")
        return out, (), notes
    if task == TAGGING:
        words = [_list_of_text(table, row, value) for row, value in zip(table.rows, values["words"], strict=True)]
        tags = list(values["label"])
        for row, text, labels in zip(table.rows, words, tags, strict=True):
            if not isinstance(labels, list | tuple) or len(labels) != len(text):
                count = len(labels) if isinstance(labels, list | tuple) else "no"
                raise ArenaError(f"{table.where} {row} has {len(text)} words but {count} tags in '{columns['label']}'")
        flat = [(row, tag) for row, labels in zip(table.rows, tags, strict=True) for tag in labels]
        names = tuple(label_names or table.class_names.get(columns["label"], ()))
        numbers, names = _label_numbers(table.where, flat, names, tags=True)
        out, at = {"words": words, "labels": []}, 0
        for labels in tags:
            out["labels"].append(numbers[at : at + len(labels)])
            at += len(labels)
        empty = [index for index, text in enumerate(words) if not text]
        if empty:
            notes.append(f"{len(empty):,} sentences without any word left out")
            out = {part: [value for value, text in zip(rows, words, strict=True) if text] for part, rows in out.items()}
        return out, names, notes
    out = {part: _texts(table, columns[part], values[part]) for part in ("text", "text_pair") if part in values}
    empty_rows = sum(not text.strip() for text in out["text"])
    if task == LANGUAGE:
        if empty_rows:
            notes.append(f"{empty_rows:,} empty documents left out")
            out["text"] = [text for text in out["text"] if text.strip()]
        return out, (), notes
    if empty_rows == len(out["text"]):
        raise ArenaError(f"{table.where}: every text in column '{columns['text']}' is blank; is it the right column?")
    if empty_rows:
        notes.append(f"{empty_rows:,} of {len(out['text']):,} texts are blank; kept with their label")
    names = tuple(label_names or table.class_names.get(columns["label"], ()))
    numbered = list(zip(table.rows, values["label"], strict=True))
    out["label"], names = _label_numbers(table.where, numbered, names)
    return out, names, notes


def _texts(table: Table, column: str, values: Iterable[Any]) -> list[str]:
    out = []
    for row, value in zip(table.rows, values, strict=True):
        if not isinstance(value, str):
            what = "has no text" if value is None else f"has {type(value).__name__} instead of text"
            raise ArenaError(f"{table.where} {row} {what} in column '{column}'")
        out.append(_encodable(table, row, value))
    return out


def _encodable(table: Table, row: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArenaError(
            f"{table.where} {row}: character {error.start} is half of a surrogate pair, which is no text; remove it"
        ) from None
    return value


def _list_of_text(table: Table, row: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ArenaError(f"{table.where} {row}: the words must be a list of texts")
    return [_encodable(table, row, word) for word in value]


def _answers(table: Table, values: Sequence[Any], contexts: Sequence[str]) -> tuple[list[list[tuple[str, int]]], int]:
    out, moved = [], 0
    for row, value, context in zip(table.rows, values, contexts, strict=True):
        if isinstance(value, dict):  # the Hub's form: lists side by side
            texts, starts = value.get("text"), value.get("answer_start")
            if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
                raise ArenaError(f'{table.where} {row}: answers need as many "text" as "answer_start"')
            pairs = list(zip(texts, starts, strict=True))
        elif isinstance(value, list) and all(isinstance(answer, dict) for answer in value):
            pairs = [(answer.get("text"), answer.get("answer_start")) for answer in value]
        else:
            raise ArenaError(f'{table.where} {row}: answers must be a list of {{"text": …, "answer_start": …}}')
        answers = []
        for text, start in pairs:
            if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
                raise ArenaError(f'{table.where} {row}: an answer needs a "text" and a whole number "answer_start"')
            if not text.strip() or start < 0 or context[start : start + len(text)] != text:
                places = list(_occurrences(context, text)) if text.strip() else []
                if not places:
                    raise ArenaError(f"{table.where} {row}: the answer {text[:40]!r} is not in its context")
                start = min((abs(at - start), at) for at in places)[1]
                moved += 1
            answers.append((text, start))
        out.append(answers)
    return out, moved


def _occurrences(context: str, text: str) -> Iterable[int]:
    at = context.find(text)
    while at >= 0:
        yield at
        at = context.find(text, at + 1)


def _label_numbers(
    where: str, labels: list[tuple[str, Any]], names: tuple[str, ...], *, tags: bool = False
) -> tuple[list[int], tuple[str, ...]]:
    """Number the labels: by given names, else as the numbers they are, else by the names that occur."""
    for row, label in labels:
        absent = label is None or (isinstance(label, str) and not label.strip())
        if absent or (isinstance(label, float) and not math.isfinite(label)):
            raise ArenaError(f"{where} {row} has no label; give one, or leave the row out")
        if not isinstance(label, str | int | float):
            raise ArenaError(f"{where} {row}: a label is a number or a name, not a {type(label).__name__}")
        if isinstance(label, str) and not label.strip().isprintable():
            raise ArenaError(f"{where} {row}: the label {label[:40]!r} holds control characters; is the column right?")
    numbers = [_whole(label) for _, label in labels]
    # Where classes have names of their own, only true numbers (the Hub's) count as numbers: text must be a name.
    as_numbers = not names or names == tuple(map(str, range(len(names)))) or _all_int(labels)
    if None not in numbers and as_numbers:
        found = [(row, number) for (row, _), number in zip(labels, numbers, strict=True) if number is not None]
        different = {number for _, number in found}
        bound = len(names) or min(max(different, default=-1) + 1, 10 * len(different) + 1000)
        for row, number in found:
            if not 0 <= number < bound:
                hidden = " (-1 often stands for labels kept secret: use another split)" if number == -1 else ""
                raise ArenaError(
                    f"{where} {row}: label {number} is out of range; labels are whole numbers "
                    f"from 0 to {bound - 1}{hidden}"
                )
        return [number for _, number in found], names or tuple(map(str, range(bound)))
    if not names:
        _check_no_measure(where, labels)
    texts = [str(label).strip() for _, label in labels]
    names = names or _order(set(texts), tags)
    index = {name: number for number, name in enumerate(names)}
    for (row, _), text in zip(labels, texts, strict=True):
        if text not in index:
            clause = nearest(text, names) if len(names) <= 20 else f"there are {len(names)} labels"
            raise ArenaError(f"{where} {row}: label {text[:40]!r} is not one of the training labels; {clause}")
    return [index[text] for text in texts], names


def _check_no_measure(where: str, labels: list[tuple[str, Any]]) -> None:
    """Refuse numbers that are no class numbers: each value would silently become a class of its own."""
    for row, label in labels:
        measured = isinstance(label, float) and not label.is_integer()
        if measured or (isinstance(label, str) and re.fullmatch(r"\s*[-+]?\d*\.\d+\s*", label)):
            raise ArenaError(
                f"{where} {row}: label {str(label).strip()[:40]} is no class: labels are whole numbers from 0,"
                " or names; measured values cannot be learnt"
            )


def _all_int(labels: list[tuple[str, Any]]) -> bool:
    return all(type(label) is int for _, label in labels)


def _whole(label: Any) -> int | None:
    if isinstance(label, float):
        return int(label) if label.is_integer() and abs(label) < 1e9 else None
    if isinstance(label, str):
        return int(label) if re.fullmatch(r"\s*-?[0-9]{1,9}\s*", label) else None
    return int(label)


def _order(names: set[str], tags: bool) -> tuple[str, ...]:
    if not tags:
        return tuple(sorted(names))
    kinds = {name[2:] for name in names if name[:2] in ("B-", "I-")}
    # Both tags of each type, also where the training split happens to lack one.
    names = names | {f"{prefix}-{kind}" for kind in kinds for prefix in "BI"}
    return tuple(sorted(names, key=lambda name: (name != "O", name[2:], name[:2])))
