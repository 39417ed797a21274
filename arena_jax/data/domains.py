"""Rows of several domains as one data set, and a stream that draws from each as much as it is told to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.batches import Batches
from arena_jax.data.dataset import Dataset
from arena_jax.data.encoded import Batch, Encoded, Ragged


def join_texts(domains: Mapping[str, Dataset]) -> Dataset:
    """The texts of several domains, one domain after the other: what a tokenizer is trained on.

    Args:
        domains: ``{name: texts}``, of language models.

    Raises:
        ArenaError: examples of another kind, or a stream.

    Example:
        >>> of = lambda text: Dataset(text, "language-model", "train", {"text": [text]})
        >>> join_texts({"a": of("one"), "b": of("two")}).columns["text"]
        ['one', 'two']
    """
    for name, dataset in domains.items():
        if dataset.task != "language-model" or dataset.stream is not None:
            raise ArenaError(f"domain '{name}' is {dataset.task}: domains are of texts, in files or folders")
    texts = [text for dataset in domains.values() for text in dataset.columns["text"]]
    first = next(iter(domains.values()))
    return dataclasses.replace(first, name=" + ".join(domains), columns={"text": texts})


def join_rows(domains: Mapping[str, Encoded]) -> tuple[Encoded, dict[str, Encoded]]:
    """Rows of several domains as one data set, and each domain padded to the length of all.

    Args:
        domains: ``{name: rows}`` of one model, by one tokenizer.

    Returns:
        The rows, those of the first domain first; and ``{name: its own}``, whose programs are those of all.

    Raises:
        ArenaError: rows that are kept on disk, as those of large texts are.
    """
    parts = list(domains.values())
    first = parts[0]
    for name, rows in domains.items():
        if rows.stream is not None or not all(isinstance(column, Ragged) for column in rows.tokens.values()):
            raise ArenaError(f"domain '{name}' is too large to be held in memory, as domains are; give a part of it")
    lengths = (max(rows.lengths[-1] for rows in parts),)
    tokens = {column: _join([rows.tokens[column] for rows in parts]) for column in first.tokens}
    columns = {column: np.concatenate([np.asarray(rows.columns[column]) for rows in parts]) for column in first.columns}
    counts = {key: sum(rows.counts.get(key, 0) for rows in parts) for rows in parts for key in rows.counts}
    notes = tuple(f"{name}: {note}" for name, rows in domains.items() for note in rows.notes)
    source = join_texts({name: rows.source for name, rows in domains.items()})
    whole = dataclasses.replace(
        first, source=source, tokens=tokens, columns=columns, lengths=lengths, counts=counts, notes=notes
    )
    return whole, {name: dataclasses.replace(rows, lengths=lengths) for name, rows in domains.items()}


def _join(columns: Sequence[Any]) -> Ragged:
    offsets, begin = [np.zeros(1, np.int64)], 0
    for column in columns:
        offsets.append(column.offsets[1:] + begin)
        begin += column.total
    return Ragged(np.concatenate([column.values for column in columns]), np.concatenate(offsets))


class DomainBatches:
    """Batches of rows of several domains, of each as many as its part says; as `Batches`, resumable to the row.

    Row after row goes to the domain that is furthest behind its part, so that after any number of rows each has had its
    part of them, to within a row for parts that stay. A domain's own rows come in the order that they would have alone.

    Args:
        rows: of all domains, from :func:`join_rows`.
        domains: ``{name: its rows}``, in the order in which they are in ``rows``.
        seed: of all orders.

    Attributes:
        parts: [domains], float64, summing to 1: of the rows to come.

    Example:
        >>> from arena_jax.data import Dataset, encode, train_tokenizer
        >>> texts = Dataset("t", "language-model", "train", {"text": ["some words of text"] * 40})
        >>> rows = encode(texts, train_tokenizer(texts, "gpt2"), max_length=8)
        >>> whole, domains = join_rows({"a": rows, "b": rows})
        >>> batches = DomainBatches(whole, domains, seed=0)
        >>> batches.parts = np.array([0.75, 0.25])
        >>> numbers, _ = batches.draw(8)
        >>> int((numbers < len(rows)).sum()), int((numbers >= len(rows)).sum())
        (6, 2)
    """

    def __init__(self, rows: Encoded, domains: Mapping[str, Encoded], *, seed: int = 0) -> None:
        self.rows = rows
        self.names = tuple(domains)
        self._streams = [Batches(part, seed=seed) for part in domains.values()]
        self._first = np.cumsum([0, *(len(part) for part in domains.values())])[:-1]
        self.parts = np.full(len(domains), 1 / len(domains))
        self._due = np.zeros(len(domains))

    @property
    def examples_seen(self) -> int:
        """Rows drawn so far."""
        return sum(stream.examples_seen for stream in self._streams)

    def next(self, batch_size: int) -> Batch:
        """The next batch, padded to the one length that there is."""
        return self.rows.batch(*self.draw(batch_size))

    def draw(self, batch_size: int) -> tuple[np.ndarray, int]:
        """The next batch's rows, and their length in tokens."""
        order = np.empty(batch_size, np.int64)
        for place in range(batch_size):
            self._due += self.parts
            order[place] = domain = int(np.argmax(self._due))
            self._due[domain] -= 1
        numbers = np.empty(batch_size, np.int64)
        for domain, stream in enumerate(self._streams):
            places = np.flatnonzero(order == domain)
            if len(places):
                numbers[places] = self._first[domain] + stream.draw(len(places))[0]
        return numbers, self.rows.lengths[-1]

    def state(self) -> dict[str, Any]:
        """The position, fit for JSON."""
        return {
            "domains": dict(zip(self.names, (stream.state() for stream in self._streams), strict=True)),
            "parts": self.parts.tolist(),
            "due": self._due.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where another stream over the same domains was.

        Raises:
            ArenaError: the state is of other domains, other rows or another seed.
        """
        if list(state.get("domains", {})) != list(self.names):
            raise ArenaError(
                f"the saved data position is of the domains {', '.join(state.get('domains', {})) or 'none'}, these are"
                f" {', '.join(self.names)}: resume with the same"
            )
        for name, stream in zip(self.names, self._streams, strict=True):
            stream.restore(state["domains"][name])
        self.parts, self._due = np.array(state["parts"]), np.array(state["due"])
