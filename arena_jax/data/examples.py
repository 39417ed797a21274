"""From a table to the examples of a task, each record checked: one that cannot be used is left out and named."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from arena_jax.config.errors import ArenaError, few_sentences
from arena_jax.data.columns import unused_note
from arena_jax.data.dataset import LANGUAGE, MULTI_LABEL, QUESTIONS, REGRESSION, TAGGING
from arena_jax.data.labels import Classes, number_labels, read_label
from arena_jax.data.list_texts import lists_of
from arena_jax.data.records import LIMIT, Rejected
from arena_jax.data.stored_documents import Documents
from arena_jax.data.table import Table

Columns = dict[str, Any]


class Examples(NamedTuple):
    """What a table holds for a task.

    Attributes:
        columns: as `Dataset` has them.
        classes: of the labels; no names where there are none.
        notes: what a person should know.
    """

    columns: Columns
    classes: Classes
    notes: list[str]


def examples_of(
    table: Table,
    task: str,
    columns: Mapping[str, str],
    classes_before: Classes | None = None,
    *,
    problem_type: str | None = None,
    max_bad_records: float = LIMIT,
) -> Examples:
    """Read the examples out of a table, checking each.

    Args:
        table: the table.
        task: one of the four kinds of examples.
        columns: part to column, from `find_columns`.
        classes_before: the classes or tags that there are; None takes those that occur.
        problem_type: "regression" or "multi_label_classification"; None: one class each.
        max_bad_records: largest fraction of the records that may be left out.

    Returns:
        The examples, without the records that cannot be used.

    Raises:
        ArenaError: more such records than allowed, each first one with its reason; labels that are no classes.
    """
    values = {part: table.column(name) for part, name in columns.items()}
    for part in ("words", "label") if task == TAGGING else ("label",) if problem_type == MULTI_LABEL else ():
        lists = lists_of(values[part])
        if lists is not None:
            values[part] = lists
    rejected = Rejected(table.where, dict(table.rejected), table.more_rejected)
    total = len(table.rows) + len(table.rejected) + table.more_rejected
    if isinstance(values.get("text"), Documents):  # each was checked when it was read
        left_out = rejected.settle(total, max_bad_records)
        return Examples({"text": values["text"]}, Classes((), True), [*table.notes, *left_out])
    notes = list(table.notes)
    beside: list[str] = []
    classes = Classes((), True)
    if task == QUESTIONS:
        out: Columns = {part: _texts(rejected, table, columns[part], values[part]) for part in ("question", "context")}
        ids = values.get("id")
        out["id"] = [str(row) for row in (range(len(table.rows)) if ids is None else ids)]
        out["answers"], more = _answers(rejected, table, values["answers"], out["context"])
        notes += more
    elif task == TAGGING:
        out, classes = _tagged(rejected, table, columns, values, classes_before)
    else:
        out = {
            part: _texts(rejected, table, columns[part], values[part])
            for part in ("text", "text_pair")
            if part in values
        }
        if task != LANGUAGE:
            if classes_before is None and columns["label"] in table.class_names:
                classes_before = Classes(table.class_names[columns["label"]], True)
            if classes_before is None and problem_type is None:
                classes_before, beside = _named_beside(table, columns["label"], values["label"])
            read = {REGRESSION: _measures, MULTI_LABEL: _several}.get(problem_type or "", _single)
            out["label"], classes = read(rejected, table, values["label"], classes_before)
    notes += classes.notes
    keep = [index for index, row in enumerate(table.rows) if row not in rejected.reasons]
    notes += rejected.settle(total, max_bad_records)
    if len(keep) < len(table.rows):
        out = {part: [rows[index] for index in keep] for part, rows in out.items()}
    out, blank = _blank(table, task, columns, out, [table.rows[index] for index in keep])
    notes += [*blank, *unused_note(table, columns, beside)]
    return Examples(out, classes, notes)


def _blank(
    table: Table, task: str, columns: Mapping[str, str], out: Columns, rows: list[str]
) -> tuple[Columns, list[str]]:
    """Leave examples without any text out where they mean nothing, and count them."""
    part = {TAGGING: "words", QUESTIONS: "question"}.get(task, "text")
    empty = [index for index, text in enumerate(out[part]) if not (text if task == TAGGING else text.strip())]
    if not empty or task == QUESTIONS:
        return out, []
    names = ", ".join(rows[index] for index in empty[:3])
    if task not in (TAGGING, LANGUAGE):
        if len(empty) == len(out["text"]):
            raise ArenaError(
                f"{table.where}: every text in column '{columns['text']}' is blank; is it the right column?"
            )
        return out, [f"{len(empty):,} of {len(out['text']):,} texts are blank ({names}); kept with their label"]
    left = set(empty)
    remaining = {
        part: [value for index, value in enumerate(values) if index not in left] for part, values in out.items()
    }
    what = "sentences without any word" if task == TAGGING else "empty documents"
    return remaining, [f"{len(empty):,} {what} left out"]


def _texts(rejected: Rejected, table: Table, column: str, values: Iterable[Any]) -> list[str]:
    out = []
    for row, value in zip(table.rows, values, strict=True):
        if isinstance(value, str):
            out.append(_encodable(rejected, row, value))
            continue
        absent = value is None or (isinstance(value, float) and math.isnan(value))
        what = "has no text" if absent else f"has {type(value).__name__} instead of text"
        rejected.add(row, f"{what} in column '{column}'")
        out.append("")
    return out


def _encodable(rejected: Rejected, row: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        rejected.add(row, f": character {error.start} is half of a surrogate pair, which is no text; remove it")
        return ""
    return value


def _tagged(
    rejected: Rejected,
    table: Table,
    columns: Mapping[str, str],
    values: Mapping[str, Sequence[Any]],
    classes_before: Classes | None,
) -> tuple[Columns, Classes]:
    words: list[list[str]] = []
    tags: list[list[Any]] = []
    for row, text, labels in zip(table.rows, values["words"], values["label"], strict=True):
        wrong = ""
        if not isinstance(text, list | tuple) or not all(isinstance(word, str) for word in text):
            wrong = ": the words must be a list of texts"
        elif not isinstance(labels, list | tuple) or len(labels) != len(text):
            count = len(labels) if isinstance(labels, list | tuple) else "no"
            wrong = f"has {len(text)} words but {count} tags in '{columns['label']}'"
        if wrong:
            rejected.add(row, wrong)
        words.append([] if wrong else [_encodable(rejected, row, word) for word in text])
        tags.append([] if wrong else list(labels))
    flat = [(row, tag) for row, labels in zip(table.rows, tags, strict=True) for tag in labels]
    if classes_before is None and columns["label"] in table.class_names:
        classes_before = Classes(table.class_names[columns["label"]], True)
    numbers, classes = number_labels(
        rejected, [row for row, _ in flat], [tag for _, tag in flat], classes_before, tags=True
    )
    out: Columns = {"words": words, "labels": []}
    at = 0
    for labels in tags:
        out["labels"].append(numbers[at : at + len(labels)])
        at += len(labels)
    return out, classes


def _single(
    rejected: Rejected, table: Table, values: Sequence[Any], classes_before: Classes | None
) -> tuple[list[Any], Classes]:
    """One class per record."""
    return number_labels(rejected, table.rows, values, classes_before)


def _named_beside(table: Table, column: str, values: Sequence[Any]) -> tuple[Classes | None, list[str]]:
    """Classes whose names stand in a column of their own, as label_text beside label."""
    name = next((f"{column}{end}" for end in ("_text", "_name", "_str") if f"{column}{end}" in table.columns), None)
    if name is None:
        return None, []
    pairs = set()
    for label, text in zip(values, table.columns[name], strict=True):
        kind, number = read_label(label)
        if kind not in ("number", "float") or not isinstance(text, str) or not text.strip().isprintable():
            return None, []
        pairs.add((int(number), text.strip()))
    ordered = sorted(pairs)
    if [number for number, _ in ordered] != list(range(len(ordered))) or len({text for _, text in pairs}) < len(pairs):
        return None, []
    return Classes(tuple(text for _, text in ordered), True, (f"classes are named by column '{name}'",)), [name]


def _measures(
    rejected: Rejected, table: Table, values: Sequence[Any], classes_before: Classes | None
) -> tuple[list[Any], Classes]:
    """One number per record."""
    out: list[float] = []
    for row, value in zip(table.rows, values, strict=True):
        number = math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1e300 else math.inf
        elif isinstance(value, str) and re.fullmatch(
            r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*", value
        ):
            number = float(value)
        if not math.isfinite(number) or abs(number) > 1e30:
            absent = value is None or (isinstance(value, str) and not value.strip())
            reason = "has no label" if absent else f": {str(value)[:40]!r} is no number to learn"
            rejected.add(row, reason)
            number = 0.0
        out.append(number)
    return out, Classes((), True)


def _several(
    rejected: Rejected, table: Table, values: Sequence[Any], classes_before: Classes | None
) -> tuple[list[Any], Classes]:
    """Any number of classes per record: lists of classes, lists of 0 and 1 per class, or names between , ; or |."""
    rows: list[list[Any]] = []
    notes: list[str] = []
    texts = [value for value in values if isinstance(value, str)]
    if texts and all(re.fullmatch(r"\s*[01](\s+[01])+\s*", text) for text in texts):
        values = [[float(part) for part in value.split()] if isinstance(value, str) else value for value in values]
        texts = []
    separator = next((mark for mark in ("|", ";", ",") if any(mark in text for text in texts)), None)
    if separator:
        notes.append(f"labels of one record are divided at '{separator}'")
    for row, value in zip(table.rows, values, strict=True):
        if isinstance(value, str) and value.strip().startswith("["):
            rejected.add(row, f": {value[:40]!r} is no list that can be read; write it as ['a', 'b']")
            rows.append([])
        elif isinstance(value, str):
            rows.append(
                [part.strip() for part in value.split(separator) if part.strip()]
                if separator
                else [value.strip()]
                if value.strip()
                else []
            )
        elif isinstance(value, list | tuple):
            rows.append(list(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append([value])
        else:
            rejected.add(row, "has no list of labels")
            rows.append([])
    many_hot = _many_hot(rows, classes_before)
    if many_hot is not None:
        count = len(rows[0])
        classes = classes_before or Classes(tuple(str(number) for number in range(count)), True)
        notes.append("labels are a 0 or 1 for each class")
        return many_hot, Classes(classes.names, classes.numbered, (*classes.notes, *notes))
    flat = [(row, label) for row, labels in zip(table.rows, rows, strict=True) for label in labels]
    numbers, classes = number_labels(rejected, [row for row, _ in flat], [label for _, label in flat], classes_before)
    if not classes.names:
        raise ArenaError(f"{table.where}: no record has a label")
    out, at = [], 0
    for labels in rows:
        row_numbers = numbers[at : at + len(labels)]
        out.append(sorted({number for number in row_numbers if number is not None}))
        at += len(labels)
    return out, Classes(classes.names, classes.numbered, (*classes.notes, *notes))


def _many_hot(rows: list[list[Any]], classes_before: Classes | None) -> list[list[int]] | None:
    """Rows of 0 and 1 as the classes that have 1; None where the rows are lists of classes."""
    width = len(rows[0]) if rows else 0
    plain = all(len(row) == width and all(type(x) in (int, float, bool) and x in (0, 1) for x in row) for row in rows)
    if width < 2 or not plain or (classes_before is not None and len(classes_before.names) != width):
        return None
    # A class is listed once; so rows that repeat a number, or hold fractions or truths, say it for each class.
    if not any(len(set(row)) < len(row) or any(type(x) is not int for x in row) for row in rows):
        return None
    return [[index for index, x in enumerate(row) if x] for row in rows]


def _answers(
    rejected: Rejected, table: Table, values: Sequence[Any], contexts: Sequence[str]
) -> tuple[list[list[tuple[str, int]]], list[str]]:
    out, moved, dropped = [], 0, []
    for row, value, context in zip(table.rows, values, contexts, strict=True):
        answers, wrong = [], ""
        pairs: list[tuple[Any, Any]] = []
        if isinstance(value, dict):  # the Hub's form: lists side by side
            texts, starts = value.get("text"), value.get("answer_start")
            if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
                wrong = ': answers need as many "text" as "answer_start"'
            else:
                pairs = list(zip(texts, starts, strict=True))
        elif isinstance(value, list) and all(isinstance(answer, dict) for answer in value):
            pairs = [(answer.get("text"), answer.get("answer_start")) for answer in value]
        else:
            wrong = ': answers must be a list of {"text": …, "answer_start": …}'
        for text, start in pairs:
            if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
                wrong = ': an answer needs a "text" and a whole number "answer_start"'
                continue
            if not text.strip() or start < 0 or context[start : start + len(text)] != text:
                places = list(_occurrences(context, text)) if text.strip() else []
                if not places:
                    wrong = f": the answer {text[:40]!r} is not in its context"
                    continue
                start = min((abs(at - start), at) for at in places)[1]
                moved += 1
            answers.append((text, start))
        if wrong and answers:  # another person's answer stands
            dropped.append(row + wrong)
        elif wrong:
            rejected.add(row, wrong)
        out.append(answers)
    notes = []
    if moved:
        notes.append(f"{moved:,} answers do not begin where the data says; the nearest occurrence was taken")
    if dropped:
        notes.append(f"{len(dropped):,} answers left out where a question has others: {few_sentences(dropped)}")
    return out, notes


def _occurrences(context: str, text: str) -> Iterable[int]:
    at = context.find(text)
    while at >= 0:
        yield at
        at = context.find(text, at + 1)
