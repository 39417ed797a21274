"""A table with one word per row, as spreadsheets and data frames have tagged text, as sentences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, few
from arena_jax.data.list_texts import lists_of
from arena_jax.data.table import Table

WORDS = ("word", "token", "form")
TAGS = ("tag", "ner", "ner_tag", "entity", "iob", "bio", "pos_tag", "pos", "xpos")
Place = tuple[str, int]
_SENTENCES = {
    *("sentence", "sentences", "sent", "sentenceid", "sentid", "sentenceno", "sentenceidx", "sentenceindex"),
    *("sentencenumber", "sid"),
}
_DOCUMENTS = {"document", "documentid", "doc", "docid", "file", "filename", "article", "articleid"}


def names_words(fields: Sequence[str]) -> bool:
    """Whether a first line names the columns of words and their tags, and is not a word with its tag.

    Example:
        >>> names_words(["Sentence #", "Word", "POS", "Tag"]), names_words(["word", "O"])
        (True, False)
    """
    plain = [_plain(field) for field in fields]
    words = {*WORDS, *(f"{name}s" for name in WORDS)}
    tags = {_plain(name) for name in (*TAGS, "label")}
    tags |= {f"{name}s" for name in tags}
    return bool(words & set(plain)) and bool(tags & set(plain))


def sentence_columns(table: Table) -> list[str]:
    """The columns that say which sentence, of which document, a word is of; none where no column says the sentence."""
    sentence = [name for name in table.columns if _plain(name) in _SENTENCES and _counts(table.columns[name])]
    return [*(name for name in table.columns if _plain(name) in _DOCUMENTS), sentence[0]] if sentence else []


def _counts(values: Sequence[Any]) -> bool:
    """Whether a column numbers sentences, as 7, 7.0 or Sentence: 7, and does not hold their text."""
    stated = [str(value) for value in values[:1000] if value is not None and str(value).strip()]
    return bool(stated) and all(len(value.split()) <= 2 and re.search(r"\d", value) for value in stated)


def sentences(table: Table, columns: Mapping[str, str]) -> Table:
    """Put the words of a table with a word per row together to sentences.

    A new sentence begins where the column of sentences (and of documents) says another one; a gap there means the one
    before. Without such a column, a sentence ends at an empty line of the file.

    Args:
        table: the rows.
        columns: part to column: "words" and "label".

    Returns:
        A table of the same columns, a list per sentence; the same table where its words are lists already. A row that
        cannot be used costs its sentence.

    Raises:
        ArenaError: nothing says where a sentence ends, the rows of one are apart, or the words hold blanks.
    """
    words = table.column(columns["words"])
    tags = table.column(columns["label"])
    if not all(word is None or isinstance(word, str) for word in words) or any(isinstance(tag, list) for tag in tags):
        return table
    if lists_of(words) is not None and lists_of(tags) is not None:
        return table
    longer = [index for index, word in enumerate(words) if word and " " in word.strip()]
    if len(longer) > len(words) / 2:
        blank = longer[0]
        raise ArenaError(
            f"{table.where} {table.rows[blank]}: {str(words[blank])[:40]!r} in column '{columns['words']}' is more "
            "than a word: give a word per row, or lists of words"
        )
    keys = sentence_columns(table)
    starts = _starts_by_column(table, keys) if keys else _starts_by_gap(table)
    rejected: dict[str, str] = {}
    rows, spans = [], []
    lost = {_place(row): reason for row, reason in table.rejected.items()}
    ends = [*starts[1:], len(table.rows)]
    for start, end in zip(starts, ends, strict=True):
        row = f"sentence at {table.rows[start]}"
        reason = _unusable(table, columns, start, end, lost)
        if reason:
            rejected[row] = reason
        else:
            rows.append(row)
            spans.append((start, end))
    lists = {name: [list(values[start:end]) for start, end in spans] for name, values in table.columns.items()}
    alone = {row: reason for row, reason in table.rejected.items() if reason not in set(rejected.values())}
    how = f"column '{keys[-1]}'" if keys else "empty lines"
    notes = [note for note in table.notes if keys or not re.match(r"[\d,]+ empty lines left out", note)]
    return dataclasses.replace(
        table,
        columns={name: values for name, values in lists.items() if name not in keys},
        rows=rows,
        rejected=alone | rejected,
        notes=(*notes, f"a word per row, sentences told by {how}"),
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _place(row: str) -> Place | None:
    """The file and the line of a row, where it is one of a file."""
    number = re.fullmatch(r"(.*)\bline (\d+)", row)
    return (number[1], int(number[2])) if number else None


def _starts_by_column(table: Table, keys: Sequence[str]) -> list[int]:
    starts: list[int] = []
    first_row: dict[tuple[Any, ...], str] = {}
    before: list[Any] = [None] * len(keys)
    for index, row in enumerate(table.rows):
        now = [table.columns[key][index] for key in keys]
        gaps = [value is None or (isinstance(value, str) and not value.strip()) for value in now]
        now = [old if gap else value for old, value, gap in zip(before, now, gaps, strict=True)]
        if index and now == before:
            continue
        if tuple(now) in first_row:
            raise ArenaError(
                f"{table.where} {row}: sentence {str(now[-1])[:40]!r} began at {first_row[tuple(now)]} and others lie "
                "between: give each sentence a number of its own, and keep its words together"
            )
        first_row[tuple(now)] = row
        starts.append(index)
        before = now
    return starts


def _starts_by_gap(table: Table) -> list[int]:
    """Where lines are missing between two rows: the reader left empty ones out."""
    places = [place for row in table.rows if (place := _place(row)) is not None]
    if len(places) < len(table.rows):
        raise ArenaError(
            f"{table.where}: a word per row, and no column says the sentence ({few(table.columns)}): "
            "add one, such as 'sentence_id'"
        )
    lost = {_place(row) for row in table.rejected}
    starts = [0]
    for index, ((file, line), (before, line_before)) in enumerate(zip(places[1:], places, strict=False), 1):
        if file != before or any((file, between) not in lost for between in range(line_before + 1, line)):
            starts.append(index)
    if len(starts) == 1:
        raise ArenaError(
            f"{table.where}: a word per row, and neither a column nor empty lines say where a sentence ends: "
            "add a column, such as 'sentence_id'"
        )
    return starts


def _unusable(table: Table, columns: Mapping[str, str], start: int, end: int, lost: Mapping[Place | None, str]) -> str:
    """Why a sentence cannot be used; empty where it can."""
    for part, what in (("words", "word"), ("label", "tag")):
        for index in range(start, end):
            value = table.columns[columns[part]][index]
            if value is None or (isinstance(value, str) and not value.strip()):
                return f"{table.rows[index]} has no {what} in column '{columns[part]}'"
    first, last = _place(table.rows[start]), _place(table.rows[end - 1])
    if first is None or last is None:
        return ""
    # A line that could not be read belongs to the sentence that it stands in or next to.
    lines = range(first[1] - 1, last[1] + 2) if lost else ()
    return next((lost[first[0], line] for line in lines if (first[0], line) in lost), "")
