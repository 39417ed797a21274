"""The vocabulary's head a chunk of positions at a time: the loss and every gradient as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

from arena_jax.training import vocabulary_loss
from parity.case import Case, random_case
from parity.checks import backward, forward
from parity.measure import Measurement, exactly
from parity.registry import Check

HEADS = (
    ("gpt2", "causal-lm", "tied", ()),
    ("gpt2", "causal-lm", "untied", (("tie_word_embeddings", False),)),
    ("bert", "masked-lm", "tied", ()),
    ("bert", "masked-lm", "untied", (("tie_word_embeddings", False),)),
    ("roberta", "masked-lm", "tied", ()),
)


def chunked(make: Callable[[], Case], dtype: str) -> Iterator[Measurement]:
    """Layers 2 and 3 with the logits of about half the positions in memory at once; the last chunk is filled up."""
    sums = mock.Mock(wraps=vocabulary_loss.chunked_token_sums)
    with (
        mock.patch.object(vocabulary_loss, "chunk_positions", lambda rows, positions, *_: max(1, positions // 2)),
        mock.patch.object(vocabulary_loss, "chunked_token_sums", sums),
    ):
        yield from forward.loss(make, dtype)
        yield from backward.backward(make, dtype)
    yield exactly("logits were computed in chunks", sums.call_count > 0)


def checks() -> list[Check]:
    """The layer's checks, in float64."""
    return [
        Check(
            "vocabulary in chunks",
            family,
            f"{task}, {head}",
            "float64",
            partial(chunked, partial(random_case, family, task, 0, options), "float64"),
            backward.TOLERANCE["float64"],
        )
        for family, task, head, options in HEADS
    ]
