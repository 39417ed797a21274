"""Text as bytes: what the scaling study trains on, in and out of domain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arena_jax import data
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array

LENGTH = 128  # bytes per row


class Corpus(NamedTuple):
    """A byte stream per split, cut into rows.

    Attributes:
        train: (rows, LENGTH) int32, in the order of the text.
        validation: the same, of text that is not trained on.
        elsewhere: rows of another kind of text: Python's documentation, or WikiText where that is trained on.
        name: of the data set, with the other's.
    """

    train: Array
    validation: Array
    elsewhere: Array
    name: str

    def batches(self, *, tokens: int, rows: int, seed: int) -> Array:
        """The batches of one training: (steps, rows, LENGTH) int32.

        Every row once, in an order that the seed fixes, before any comes again: two arms with one seed see the same.

        Args:
            tokens: bytes to train on; the steps that hold them are rounded to the next.
            rows: per step.
            seed: of the order.
        """
        steps = max(1, round(tokens / (rows * LENGTH)))
        random = np.random.default_rng(seed)
        passes = -(-steps * rows // len(self.train))
        order = np.concatenate([random.permutation(len(self.train)) for _ in range(passes)])[: steps * rows]
        return np.asarray(self.train[order].reshape(steps, rows, LENGTH))


def load_corpus(source: str, *, elsewhere: str = "python-docs", held_out: int = 131_072) -> Corpus:
    """Read a data set of text as bytes.

    Args:
        source: name, file or folder, as ``data.load`` takes it.
        elsewhere: the text for scores out of domain.
        held_out: bytes of each score.

    Returns:
        The corpus.

    Raises:
        ArenaError: data that are no text, or too little of it.

    Example:
        >>> corpus = load_corpus("python-docs", elsewhere="python-docs", held_out=1024)
        >>> corpus.validation.shape, corpus.train.shape[1]
        ((8, 128), 128)
    """
    train = _rows(source, "train")
    validation = _rows(source, "validation", held_out)
    other = _rows(elsewhere, "validation", held_out)
    return Corpus(train, validation, other, f"{source}, out of domain {elsewhere}")


def _rows(source: str, split: str, held_out: int | None = None) -> Array:
    texts = data.load(source, task="language-model", split=split).columns["text"]
    stream = np.frombuffer("\n".join(str(text) for text in texts).encode(), np.uint8)
    rows = len(stream) // LENGTH
    if rows < 8:
        raise ArenaError(f"'{source}' has {len(stream)} bytes of {split} text; the study needs 1,024 or more")
    cut = stream[: rows * LENGTH].reshape(rows, LENGTH).astype(np.int32)
    if held_out is not None and rows > held_out // LENGTH:  # spread over the whole text, not its first article
        cut = cut[np.linspace(0, rows - 1, held_out // LENGTH).astype(np.int64)]
    return np.asarray(cut)
