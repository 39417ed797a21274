"""What class a label is: by the names the source gives, else by a rule that is said; nothing is merged or invented."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, few, nearest
from arena_jax.data.records import Rejected
from arena_jax.data.tags import scheme_of

_DIGITS = 15  # a longer run of digits is a name: it may be an identifier


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that labels are numbered by.

    Attributes:
        names: of class 0, 1, ….
        numbered: whether the source says which class is 0, 1, …, so that a bare number means a class.
        notes: how labels were read, where that is not plain.
    """

    names: tuple[str, ...]
    numbered: bool
    notes: tuple[str, ...] = ()


def read_label(value: Any) -> tuple[str, str]:
    """A label as (kind, text).

    Kinds: "absent"; "number" (0, 12, -1) and "float" (1.0); "measure" (1.5); "truth" (JSON's true and false); "code"
    (digits that are no number as written: 007, +1); "name"; "wrong" (a list, control characters; the text says what).

    Example:
        >>> [read_label(value) for value in (1, "1", 1.0, "007", None)]
        [('number', '1'), ('number', '1'), ('float', '1'), ('code', '007'), ('absent', '')]
    """
    if value is None:
        return "absent", ""
    if isinstance(value, bool):
        return "truth", str(value).lower()
    if isinstance(value, int):
        return ("number" if abs(value) < 10**_DIGITS else "code"), str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "absent", ""
        if math.isfinite(value) and value.is_integer() and abs(value) < 1e15:
            return "float", str(int(value))
        return "measure", str(value)
    if not isinstance(value, str):
        several = isinstance(value, list | tuple)
        hint = "; say problem_type=multi_label_classification to learn several" if several else ""
        return "wrong", f"a label is a number or a name, not a {type(value).__name__}{hint}"
    text = value.strip()
    if not text:
        return "absent", ""
    if not text.isprintable():
        return "wrong", f"the label {value[:40]!r} holds control characters; is the column right?"
    if re.fullmatch(rf"-?(0|[1-9][0-9]{{0,{_DIGITS - 1}}})", text):
        return "number", text if text != "-0" else "0"
    if re.fullmatch(rf"-?(0|[1-9][0-9]{{0,{_DIGITS - 1}}})\.0+", text):
        return "float", text.split(".")[0]
    if re.fullmatch(r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?", text):
        return "measure", text
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return "code", text
    return "name", text


def number_labels(
    rejected: Rejected,
    rows: Sequence[str],
    values: Sequence[Any],
    classes_before: Classes | None = None,
    *,
    tags: bool = False,
) -> tuple[list[int | None], Classes]:
    """Number labels.

    With known classes a label is one of their names; a bare number is one of them only where the source numbers the
    classes. Without: whole numbers from 0 on are the classes they say; other whole numbers (100, 200; 1 to 5), codes
    with leading zeros, true and false, and names are a class each, named as written. Numbers with a fraction are no
    classes.

    Args:
        rejected: takes the records without a usable label.
        rows: what to call each record.
        values: its label.
        classes_before: classes that are named already: by the source, by the user, or by the training split.
        tags: whether these are tags of words: completed within their scheme, "O" first.

    Returns:
        (class of each record, None where it was rejected; the classes).

    Raises:
        ArenaError: labels that cannot be classes as a whole, or that the known classes lack.
    """
    read = [read_label(value) for value in values]
    numbers: list[int | None] = [None] * len(read)
    use: list[int] = []
    for index, ((kind, text), row) in enumerate(zip(read, rows, strict=True)):
        if kind == "absent":
            rejected.add(row, "has no label; give one, or leave the row out")
        elif kind == "wrong":
            rejected.add(row, f": {text}")
        else:
            use.append(index)
    kinds = {read[index][0] for index in use}
    whole = kinds <= {"number", "float"}
    if not whole:  # beside names, a number is a name as written
        read = [
            (kind, str(value).strip() if kind == "float" else text)
            for (kind, text), value in zip(read, values, strict=True)
        ]
    if classes_before is None and whole and use:
        # A class that is kept secret, or that annotators did not agree on, is -1 in many sets.
        distinct = {int(read[index][1]) for index in use}
        if -1 in distinct and distinct - {-1} == set(range(len(distinct) - 1)):
            use = _without_secret(rejected, rows, read, use)
    elif classes_before is not None and classes_before.numbered and whole and "-1" not in classes_before.names:
        use = _without_secret(rejected, rows, read, use)
    if classes_before is None:
        classes_before = _classes(rejected.where, rows, read, use, tags)
    index_of = {name: number for number, name in enumerate(classes_before.names)}
    by_number = classes_before.numbered and whole and not all(read[index][1] in index_of for index in use)
    for index in use:
        text = read[index][1]
        if by_number:
            if not 0 <= int(text) < len(classes_before.names):
                raise ArenaError(
                    f"{rejected.where} {rows[index]}: label {text} is out of range; there are "
                    f"{len(classes_before.names)} classes, 0 to {len(classes_before.names) - 1}"
                )
            numbers[index] = int(text)
        elif text in index_of:
            numbers[index] = index_of[text]
        else:
            clause = (
                nearest(text, classes_before.names)
                if len(classes_before.names) <= 20
                else f"there are {len(classes_before.names)} labels"
            )
            raise ArenaError(
                f"{rejected.where} {rows[index]}: label {text[:40]!r} is out of range: it is not one of the training "
                f"labels; {clause}"
            )
    return numbers, classes_before


def _without_secret(rejected: Rejected, rows: Sequence[str], read: list[tuple[str, str]], use: list[int]) -> list[int]:
    for index in use:
        if read[index][1] == "-1":
            rejected.add(
                rows[index],
                ": label -1 is out of range (-1 often stands for labels kept secret: use another split; where it is a "
                "class, name all: label_names=-1,0,1)",
            )
    return [index for index in use if read[index][1] != "-1"]


def _classes(where: str, rows: Sequence[str], read: list[tuple[str, str]], use: list[int], tags: bool) -> Classes:
    """The classes of labels that nobody has named."""
    kinds = {read[index][0] for index in use}
    texts = {read[index][1] for index in use}
    if "measure" in kinds:
        index = next(index for index in use if read[index][0] == "measure")
        raise ArenaError(
            f"{where} {rows[index]}: label {read[index][1][:40]} is no class: labels are whole numbers or names; "
            "say problem_type=regression to learn measured values"
        )
    if not tags and len(texts) > 20 and len(texts) > len(use) / 2:
        raise ArenaError(
            f"{where}: the labels of {len(use):,} records have {len(texts):,} different values "
            f"({few(sorted(texts), 3)}): "
            "these are no classes; name another column (label=COLUMN), or say problem_type=regression"
        )
    if tags and not kinds <= {"number", "float"}:
        scheme = scheme_of(texts)
        if scheme is None:
            return Classes(tuple(sorted(texts, key=lambda name: (name != "O", name))), False)
        names = scheme.complete(texts)
        return Classes(tuple(sorted(names, key=lambda name: (name != "O", name[2:], name[:2]))), False)
    if kinds and kinds <= {"number", "float"}:
        notes = ["labels are whole numbers written with .0"] if "float" in kinds else []
        ordered = sorted(texts, key=int)
        if ordered == [str(number) for number in range(len(ordered))]:
            return Classes(tuple(ordered), True, tuple(notes))
        notes.append(f"labels are numbers, each the name of a class: {few(ordered, 10)}")
        return Classes(tuple(ordered), False, tuple(notes))
    if kinds == {"truth"}:
        return Classes(("false", "true"), True, ("labels are false (0) and true (1)",))
    notes = []
    if "code" in kinds:
        notes.append(f"labels are codes, each the name of a class as written: {few(sorted(texts), 10)}")
    elif "name" not in kinds or kinds & {"number", "float", "truth"}:
        notes.append(f"labels are names as written: {few(sorted(texts), 10)}")
    alike: dict[str, list[str]] = {}
    for text in sorted(texts):
        alike.setdefault(text.strip("\"' ").casefold(), []).append(text)
    twins = [" and ".join(group) for group in alike.values() if len(group) > 1]
    if twins:
        notes.append(f"classes that differ in case or quotation marks alone: {few(twins)}; are they one?")
    return Classes(tuple(sorted(texts)), False, tuple(notes))
