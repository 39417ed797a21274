"""Words with tags, a word a line, a blank line between sentences: CoNLL's form and what has become of it."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

from arena_jax.config.errors import ArenaError, few
from arena_jax.data.table import Table
from arena_jax.data.tags import scheme_of
from arena_jax.data.word_rows import names_words

Line = tuple[int, list[str]]  # number, fields
_COMMENT = re.compile(r"#\s*(\S+\s*=|begin document|end document|id\b|sent_id|text\b|newdoc|newpar|global\.)")
_DOCUMENT = re.compile(r"-DOCSTART-")


def read_tagged(path: Path, text: str) -> Table:
    """Read words with tags.

    Fields stand between tabs where most lines have one, else between blanks. A line that begins with ``#`` is a comment
    unless it has the fields of a word; ``-DOCSTART-`` is no word. Where the lines of each sentence are numbered, as in
    CoNLL-U, GermEval and OntoNotes, the word follows its number; CoNLL-U's ranges (3-4) and empty words (5.1) are left
    out. A line with another number of fields than most costs its sentence, and is named.

    Args:
        path: of the file, for errors.
        text: its content.

    Returns:
        A table with "words" and "tags", lists of text, and where there are more fields "field 2", "field 3", …, as they
        are counted in a line.

    Raises:
        ArenaError: lines without a tag.
    """
    tabs = _uses_tabs(text)
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1)]
    split = {number: _fields(line, tabs) for number, line in lines if line.strip() and not _DOCUMENT.match(line)}
    plain = [fields for number, fields in split.items() if not fields[0].startswith("#")]
    width = Counter(len(fields) for fields in plain or split.values()).most_common(1)[0][0] if split else 0
    seen_tags = Counter(fields[-1] for fields in plain if len(fields) == width)
    sentences: list[list[Line]] = []
    comments, inside = 0, False
    header = next((number for number, fields in split.items() if not fields[0].startswith("#")), 0)
    if header and names_words(split[header]):
        del split[header]
    else:
        header = 0
    for number, line in lines:
        if number not in split:
            inside = False
            continue
        fields = split[number]
        if fields[0].startswith("#") and _is_comment(line, fields, width, tabs, seen_tags):
            comments += 1
            continue
        if not inside:
            sentences.append([])
            inside = True
        sentences[-1].append((number, fields))
    if width < 2:
        _refuse_untagged(path, sentences, text)
    table = _table(path, sentences, width, comments)
    if header:
        table = dataclasses.replace(table, notes=(f"line {header} names the columns", *table.notes))
    return table


def _uses_tabs(text: str) -> bool:
    """Whether most lines hold a tab."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    return sum("\t" in line for line in lines) * 2 > len(lines)


def _fields(line: str, tabs: bool) -> list[str]:
    return [field.strip() for field in line.split("\t")] if tabs and "\t" in line else line.split()


def _is_comment(line: str, fields: list[str], width: int, tabs: bool, tags: Counter[str]) -> bool:
    if len(fields) != width or (tabs and "\t" not in line):
        return True
    if fields[-1] in tags or scheme_of([fields[-1]]) is not None or fields[-1] == "O":
        return False
    return bool(_COMMENT.match(line)) or not tabs


def _refuse_untagged(path: Path, sentences: list[list[Line]], text: str) -> None:
    number, fields = sentences[0][0] if sentences else (1, [text.strip()[:40]])
    raise ArenaError(
        f"{path} line {number}: {' '.join(fields)[:40]!r} has no tag; each line needs a word, a tab and a tag"
    )


def _table(path: Path, sentences: list[list[Line]], width: int, comments: int) -> Table:
    notes = [f"{comments:,} comment lines left out"] if comments else []
    rejected: dict[str, str] = {}
    whole = []
    for sentence in sentences:
        row = f"sentence at line {sentence[0][0]}"
        ragged = next(((number, fields) for number, fields in sentence if len(fields) != width), None)
        bare = next((number for number, fields in sentence if not fields[-1] or not fields[0]), None)
        if ragged is not None:
            number, fields = ragged
            why = f"has {len(fields)} fields, others have {width}" if len(fields) > 1 else "has no tag"
            rejected[row] = (
                f"line {number}: {' '.join(fields)[:40]!r} {why}; each line needs a word and a tag, all alike"
            )
        elif bare is not None:
            rejected[row] = f"line {bare}: a word or its tag is empty"
        else:
            whole.append((row, sentence))
    index = _index_field(whole, width)
    first = 0 if index is None else index + 1
    if index is not None:
        whole, parts = _without_ranges(whole, index)
        notes.append(f"field {index + 1} numbers the words; field {first + 1} is the word")
        if parts:
            notes.append(f"{parts:,} lines of ranges and empty words left out")
    columns: dict[str, list[list[str]]] = {"words": [[fields[first] for _, fields in lines] for _, lines in whole]}
    for field in range(first + 1, width):
        columns[f"field {field + 1}"] = [[fields[field] for _, fields in lines] for _, lines in whole]
    tag_field = _tag_field(columns, first, width)
    columns["tags"] = columns.pop(f"field {tag_field + 1}")
    others = [name for name in columns if name.startswith("field")]
    if others:
        notes.append(
            f"{width} fields a line: the tag is field {tag_field + 1}; not used: {few(others)} "
            f"(label='{others[-1]}' takes another)"
        )
    return Table(columns, str(path), [row for row, _ in whole], rejected=rejected, notes=tuple(notes))


def _index_field(whole: list[tuple[str, list[Line]]], width: int) -> int | None:
    """The field that counts the words of each sentence from 0 or 1, if one of the first three does."""
    for field in range(min(3, width - 2)):
        starts = set()
        for _, sentence in whole:
            numbers = [fields[field] for _, fields in sentence if re.fullmatch(r"\d{1,6}", fields[field])]
            others = [fields[field] for _, fields in sentence if not re.fullmatch(r"\d{1,6}", fields[field])]
            if not numbers or any(not re.fullmatch(r"\d+[-.]\d+", text) for text in others):
                break
            if [int(number) for number in numbers] != list(range(int(numbers[0]), int(numbers[0]) + len(numbers))):
                break
            starts.add(int(numbers[0]))
        else:
            if whole and starts <= {0, 1} and len(starts) == 1 and any(len(sentence) > 1 for _, sentence in whole):
                return field
    return None


def _without_ranges(whole: list[tuple[str, list[Line]]], index: int) -> tuple[list[tuple[str, list[Line]]], int]:
    """Leave CoNLL-U's lines for several words (3-4) and for words that are not in the text (5.1) out."""
    out, parts = [], 0
    for row, sentence in whole:
        words = [(number, fields) for number, fields in sentence if fields[index].isdigit()]
        parts += len(sentence) - len(words)
        out.append((row, words))
    return out, parts


def _tag_field(columns: dict[str, list[list[str]]], first: int, width: int) -> int:
    """The field with the tags: the last, unless it plainly is none.

    CoNLL-U's last field holds remarks; where they are no tags, the parts of speech in field 4 are. Where the last field
    marks no entity and the one before does, or both mark the same types (GermEval: entities and entities inside them),
    it is the one before.
    """
    last = width - 1
    tags = {tag for row in columns[f"field {last + 1}"] for tag in row}
    if width == 10 and first == 1 and all(tag == "_" or "=" in tag for tag in tags):
        return 3
    if last - 1 <= first:
        return last
    before = {tag for row in columns[f"field {last}"] for tag in row}
    scheme, scheme_before = scheme_of(tags), scheme_of(before)
    if scheme_before is not None:
        kinds = {scheme_before.read(tag)[1] for tag in before} - {""}
        if tags <= {"O", "_", "-"} or (scheme is not None and {scheme.read(tag)[1] for tag in tags} - {""} <= kinds):
            return last - 1
    return last
