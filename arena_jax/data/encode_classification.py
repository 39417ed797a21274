"""Texts, or pairs of texts, with one class each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_jax.data.dataset import CLASSIFICATION, MULTI_LABEL, REGRESSION, Dataset
from arena_jax.data.encoded import Encoded, padded_lengths, token_columns
from arena_jax.data.tokenizer import Tokenizer, encodings


def encode_classification(
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    lengths: Sequence[int] | None = None,
    token_types: int | None = None,
) -> Encoded:
    """Tokenise texts for classification, cutting what is longer than `max_length` and counting it.

    A text that gives no token at all (possible without special tokens, as for GPT-2) becomes a single
    end-of-text token, so that no example is lost.

    Args:
        data: columns "text", perhaps "text_pair", and "label".
        tokenizer: of the model.
        max_length: tokens per row at most, special tokens included; pairs are cut longest first.
        lengths: allowed padded lengths; None chooses one.
        token_types: as `encode` takes it.

    Returns:
        Rows with "input_ids" (and "token_type_ids" where the family has them) and "labels": (rows,) int32; in
        regression (rows,) float32; with several labels (rows, classes) float32, 1 where a class is one of them.
    """
    texts: Sequence[object] = data.columns["text"]
    if "text_pair" in data.columns:
        texts = list(zip(data.columns["text"], data.columns["text_pair"], strict=True))
    ids, types, counts = [], [], {"truncated": 0, "cut_tokens": 0, "empty": 0}
    for encoding in encodings(tokenizer.configured(max_length), texts):
        row, kinds = encoding.ids, encoding.type_ids
        if encoding.overflowing:
            counts["truncated"] += 1
            counts["cut_tokens"] += sum(len(part.ids) - sum(part.special_tokens_mask) for part in encoding.overflowing)
        if not len(row) > sum(encoding.special_tokens_mask):
            counts["empty"] += 1
            if not row:
                row, kinds = [tokenizer.stand_in_id], [0]
        ids.append(row)
        types.append(kinds)
    tokens, fill = token_columns(tokenizer, ids, types, token_types)
    notes = []
    if counts["truncated"]:
        notes.append(
            f"{counts['truncated']:,} of {len(data):,} texts cut to {max_length} tokens "
            f"({counts['cut_tokens']:,} tokens left out)"
        )
    if counts["empty"]:
        have = "text has" if counts["empty"] == 1 else "texts have"
        notes.append(f"{counts['empty']:,} {have} no token of their own; kept with their label")
    return Encoded(
        task=CLASSIFICATION,
        source=data,
        tokens=tokens,
        columns={"labels": _labels(data)},
        fill=fill,
        lengths=padded_lengths(tokens["input_ids"].lengths, max_length, lengths),
        counts={"examples": len(data), **counts},
        notes=tuple(notes),
    )


def _labels(data: Dataset) -> np.ndarray:
    labels = data.columns["label"]
    if data.problem_type == REGRESSION:
        return np.asarray(labels, np.float32)
    if data.problem_type == MULTI_LABEL:
        hot = np.zeros((len(data), len(data.label_names)), np.float32)
        for row, classes in enumerate(labels):
            hot[row, list(classes)] = 1
        return hot
    return np.asarray(labels, np.int32)
