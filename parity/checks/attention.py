"""Attention in chunks of a few queries: every output, the loss and every gradient as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

from arena_jax import models
from arena_jax.models import attention
from parity.case import MAIN_TASK, Case, random_case
from parity.checks import backward, forward
from parity.measure import Measurement, exactly
from parity.registry import Check

QUERIES = 4  # at a time: rows of 11 tokens are three chunks, the last of them filled up
MODELS = (
    ("bert", ()),
    ("roberta", ()),
    ("gpt2", ()),
    ("gpt2", (("scale_attn_by_inverse_layer_idx", True),)),
)


class ChunkedCase(Case):
    """A case whose model computes attention in chunks."""

    def ours(self, dtype: str, **overrides: Any) -> models.Transformer:
        """See :class:`Case`."""
        return super().ours(dtype, attention="chunked", **overrides)


def chunked(make: Callable[[], Case], dtype: str) -> Iterator[Measurement]:
    """Layers 2 and 3 with the attention weights of a few queries in memory at once."""
    case = make()
    case = ChunkedCase(case.family, case.task, case.reference, case.folder)
    few = mock.Mock(wraps=partial(attention.chunked_attention, queries=QUERIES))
    with mock.patch.object(attention, "chunked_attention", few):
        yield from forward.forward(lambda: case, dtype)
        yield from forward.loss(lambda: case, dtype)
        yield from backward.backward(lambda: case, dtype)
    yield exactly("attention was computed in chunks", few.call_count > 0)


def checks() -> list[Check]:
    """The layer's checks, in float64."""
    return [
        Check(
            "attention in chunks",
            family,
            ", ".join([MAIN_TASK[family], *(f"{key}={value}" for key, value in options)]),
            "float64",
            partial(chunked, partial(random_case, family, MAIN_TASK[family], 0, options), "float64"),
            backward.TOLERANCE["float64"],
        )
        for family, options in MODELS
    ]
