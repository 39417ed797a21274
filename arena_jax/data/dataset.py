"""What every source returns: named columns of examples, and where they came from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.config.agreement import DataFacts
from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import PROBLEM_TYPES, task_hint
from arena_jax.data.stored_documents import Documents
from arena_jax.data.tags import scheme_of, why_no_scheme

LANGUAGE = "language-model"
CLASSIFICATION = "sequence-classification"
TAGGING = "token-classification"
QUESTIONS = "question-answering"
REGRESSION = "regression"
MULTI_LABEL = "multi_label_classification"

# A text serves both language-model objectives; which tokens are predicted is decided when it is encoded.
_DATA_TASK = {
    "causal-lm": LANGUAGE,
    "masked-lm": LANGUAGE,
    LANGUAGE: LANGUAGE,
    CLASSIFICATION: CLASSIFICATION,
    TAGGING: TAGGING,
    QUESTIONS: QUESTIONS,
}


def data_task(task: str) -> str:
    """Name the kind of examples that a task of a model needs.

    Args:
        task: a model task, such as "masked-lm", or a kind of examples, such as "language-model".

    Returns:
        "language-model", "sequence-classification", "token-classification" or "question-answering".

    Raises:
        ArenaError: the task is unknown.

    Example:
        >>> data_task("masked-lm")
        'language-model'
    """
    if task not in _DATA_TASK:
        raise ArenaError(f"unknown task '{task}'; {task_hint(task, _DATA_TASK)}")
    return _DATA_TASK[task]


_COLUMNS = {
    LANGUAGE: ("text",),
    CLASSIFICATION: ("text", "label"),
    TAGGING: ("words", "labels"),
    QUESTIONS: ("question", "context", "answers"),
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples of one split, as columns of equal length, before any tokenizer has seen them.

    Columns by task:
        language-model: "text" (str, one document each).
        sequence-classification: "text" (str), perhaps "text_pair" (str), "label": a class (int); in regression a
            number (float); with several labels a list of classes.
        token-classification: "words" (list of str), "labels" (list of int, one per word).
        question-answering: "id", "question", "context" (str), "answers" (list of (text, first character)).

    Args:
        name: what it was asked for by.
        task: which of the four kinds of examples.
        split: "train", "validation", "test" or "all".
        columns: name of a column to its values.
        label_names: name of class i at position i; empty where there are no classes.
        provenance: where the examples came from, with what is needed to get them again.
        notes: what a person should know: held-out rows, empty rows, dropped rows, with counts.
        numbered: whether the source says which class is 0, 1, …; False: it has names, numbered by the alphabet, so that
            a class means its name and never its number.
        stream: a `StreamedText` that goes on where the texts here end, if it is read as it is trained on.
        problem_type: of sequence classification: "regression" or "multi_label_classification"; None: one class each.

    Example:
        >>> few = Dataset("mine", "language-model", "train", {"text": ["a text", "another"]})
        >>> len(few), few.take(1).columns
        (2, {'text': ['a text']})
    """

    name: str
    task: str
    split: str
    columns: Mapping[str, Sequence[Any]]
    label_names: tuple[str, ...] = ()
    provenance: str = ""
    notes: tuple[str, ...] = ()
    numbered: bool = True
    problem_type: str | None = None
    stream: Any = None

    def __post_init__(self) -> None:
        if self.task not in _COLUMNS:
            raise ArenaError(f"a data set's task is one of {', '.join(_COLUMNS)}, not '{self.task}'")
        for column in _COLUMNS[self.task]:
            if column not in self.columns:
                raise ArenaError(f"data set '{self.name}' for {self.task} lacks the column '{column}'")
        sizes = {column: len(values) for column, values in self.columns.items()}
        if len(set(sizes.values())) > 1:
            raise ArenaError(f"data set '{self.name}': columns of different lengths {sizes}")
        if not sizes or not next(iter(sizes.values())):
            raise ArenaError(f"data set '{self.name}' ({self.split}) has no examples; check the source and its limits")
        if self.problem_type == "single_label_classification":
            object.__setattr__(self, "problem_type", None)
        if self.problem_type not in (None, REGRESSION, MULTI_LABEL) or (
            self.problem_type and self.task != CLASSIFICATION
        ):
            raise ArenaError(
                f"data set '{self.name}': problem_type is {self.problem_type!r}; it is one of "
                f"{', '.join(PROBLEM_TYPES)}, of {CLASSIFICATION} alone"
            )
        if self.task in (CLASSIFICATION, TAGGING) and self.problem_type != REGRESSION:
            nested = self.task == TAGGING or self.problem_type == MULTI_LABEL
            labels = self.columns["labels" if self.task == TAGGING else "label"]
            rows = labels if nested else [labels]
            wrong = next((label for row in rows for label in row if not 0 <= label < len(self.label_names)), None)
            if wrong is not None:
                raise ArenaError(
                    f"data set '{self.name}' ({self.split}): label {wrong} is out of range,"
                    f" it has {len(self.label_names)} label names"
                )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select(self, rows: Sequence[int], *, split: str | None = None, note: str | None = None) -> Dataset:
        """Keep the given rows, in the given order.

        Args:
            rows: positions of the examples to keep.
            split: a new name of the split, if it changes.
            note: a line to add to the notes.

        Returns:
            A new data set.

        Example:
            >>> few = Dataset("mine", "language-model", "train", {"text": ["a", "b", "c"]})
            >>> few.select([2, 0]).columns["text"]
            ['c', 'a']
        """
        columns = {
            name: values.select(rows) if isinstance(values, Documents) else [values[row] for row in rows]
            for name, values in self.columns.items()
        }
        notes = (*self.notes, note) if note else self.notes
        return dataclasses.replace(self, columns=columns, split=split or self.split, notes=notes)

    def take(self, count: int) -> Dataset:
        """Keep the first examples.

        Args:
            count: how many at most (at least one).

        Returns:
            A new data set; its notes say what was left out.

        Example:
            >>> Dataset("mine", "language-model", "train", {"text": ["a", "b"]}).take(1).notes
            ('limited to the first 1 of 2 examples',)
        """
        if count < 1:
            raise ArenaError(f"a limit of {count} examples leaves none of data set '{self.name}'; give 1 or more")
        if count >= len(self):
            return self
        return self.select(range(count), note=f"limited to the first {count:,} of {len(self):,} examples")

    @property
    def facts(self) -> DataFacts:
        """What it asks of a model, for :func:`arena_jax.config.agreement.check`."""
        column = self.columns.get("labels" if self.task == TAGGING else "label", ())
        nested = self.task == TAGGING or self.problem_type == MULTI_LABEL
        used = {label for row in column for label in row} if nested else set(column)
        return DataFacts(
            name=self.name,
            label_names=self.label_names,
            used=frozenset(used) if self.label_names else None,
            numbered=self.numbered,
            problem_type=self.problem_type,
            pairs="text_pair" in self.columns,
        )

    def with_outputs(self, outputs: Sequence[int], label_names: Sequence[str]) -> Dataset:
        """The same examples with their classes numbered as a model's outputs are.

        Args:
            outputs: the output of each class, from :func:`arena_jax.config.agreement.check`.
            label_names: of the outputs.

        Returns:
            A new data set.

        Example:
            >>> columns = {"text": ["a", "b"], "label": [0, 1]}
            >>> few = Dataset("mine", "sequence-classification", "train", columns, ("no", "yes"))
            >>> few.with_outputs((1, 0), ("yes", "no")).columns["label"]
            [1, 0]
        """
        names = tuple(label_names)
        if names == self.label_names and list(outputs) == list(range(len(names))):
            return self
        column = "labels" if self.task == TAGGING else "label"
        if self.task == TAGGING or self.problem_type == MULTI_LABEL:
            labels: list[Any] = [[outputs[label] for label in row] for row in self.columns[column]]
        else:
            labels = [outputs[label] for label in self.columns[column]]
        return dataclasses.replace(self, columns={**self.columns, column: labels}, label_names=names)

    def report(self) -> list[str]:
        """Describe the data set for a person, one fact per line.

        Returns:
            Size, classes, provenance and every note.

        Example:
            >>> Dataset("mine", "language-model", "train", {"text": ["a"]}, provenance="typed in").report()
            ['mine (train): 1 example for language-model; typed in']
        """
        count = f"{len(self):,} example" + ("s" if len(self) != 1 else "")
        if self.problem_type == REGRESSION:
            labels = self.columns["label"]
            count += f" with values from {min(labels):g} to {max(labels):g}"
        elif self.problem_type == MULTI_LABEL:
            mean = sum(map(len, self.columns["label"])) / len(self)
            count += f" with any of {len(self.label_names)} classes, {mean:.2f} each"
        elif self.task == CLASSIFICATION:
            counts = Counter(self.columns["label"])
            if len(self.label_names) <= 10:
                count += " (" + ", ".join(f"{name}: {counts[k]:,}" for k, name in enumerate(self.label_names)) + ")"
            else:
                count += f" of {len(self.label_names)} classes"
        elif self.task == TAGGING:
            words = sum(len(row) for row in self.columns["words"])
            count += f" of {words:,} words, {len(self.label_names)} tags"
            scheme = scheme_of(self.label_names)
            if scheme is not None:
                count += f", {scheme.describe()},"
            elif len(self.label_names) > 1:
                count += f", which mark no entities ({why_no_scheme(self.label_names)}),"
        elif self.task == LANGUAGE and len(self) > 1:
            texts = self.columns["text"]
            if isinstance(texts, Documents):
                size = f"{texts.bytes:,} bytes"
            else:
                size = f"{sum(len(text) for text in texts):,} characters"
            count += f" ({size})"
        first = f"{self.name} ({self.split}): {count} for {self.task}"
        return [
            f"{first}; {self.provenance}" if self.provenance else first,
            *(f"{self.name} ({self.split}): {note}" for note in self.notes),
        ]


def texts_of(data: Dataset) -> Iterator[str]:
    """Go through every text of a data set once, whatever its task.

    Args:
        data: any data set.

    Yields:
        Its documents, sentences and pairs, sentences joined from words, or questions and contexts.

    Example:
        >>> columns = {"words": [["a", "b"]], "labels": [[0, 0]]}
        >>> list(texts_of(Dataset("x", "token-classification", "train", columns, ("O",))))
        ['a b']
    """
    columns = data.columns
    if data.task == TAGGING:
        yield from (" ".join(words) for words in columns["words"])
    elif data.task == QUESTIONS:
        yield from columns["question"]
        yield from dict.fromkeys(columns["context"])
    else:
        yield from columns["text"]
        if data.task == CLASSIFICATION and "text_pair" in columns:
            yield from columns["text_pair"]


def held_out(count: int, fraction: float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Divide rows at random into those to train on and those held out.

    Args:
        count: number of rows.
        fraction: share to hold out, in (0, 1); at least one row is held out and one is kept.
        seed: of the permutation.
        name: of the data set, for the error.

    Returns:
        (rows kept, rows held out), each ascending.

    Raises:
        ArenaError: the fraction is outside (0, 1), or there are fewer than two rows.

    Example:
        >>> kept, out = held_out(10, 0.2, seed=0, name="mine")
        >>> len(kept), len(out), sorted(kept + out) == list(range(10))
        (8, 2, True)
    """
    rest, out = held_out_rows(count, fraction, seed, name)
    return rest.tolist(), out.tolist()


def held_out_rows(count: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `held_out`, as arrays."""
    if not 0.0 < fraction < 1.0:
        raise ArenaError(f"validation_fraction must lie between 0 and 1, not {fraction}")
    if count < 2:
        raise ArenaError(
            f"data set '{name}' has no validation split and {count} example: nothing can be held out; "
            "give more data or use split='all'"
        )
    size = min(max(1, round(count * fraction)), count - 1)
    order = np.random.default_rng([seed, 0x5E1D]).permutation(count)
    return np.sort(order[size:]), np.sort(order[:size])
