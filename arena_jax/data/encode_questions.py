"""Questions about contexts of any length: overlapping windows, with the answer as first and last token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.dataset import QUESTIONS, Dataset
from arena_jax.data.encoded import Encoded, Ragged, padded_lengths, token_columns
from arena_jax.data.tokenizer import Tokenizer, encodings


def encode_questions(
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    lengths: Sequence[int] | None = None,
    stride: int = 128,
    token_types: int | None = None,
) -> Encoded:
    """Cut each context into windows that fit beside the question; nothing of a context is lost.

    A window that holds the whole (first) answer points to its tokens; every other window points to token 0, as in
    the original training of BERT on SQuAD. A question that leaves no room for its context is cut and counted.

    Args:
        data: columns "id", "question", "context", "answers".
        tokenizer: of the model.
        max_length: tokens per window at most, question and special tokens included.
        lengths: allowed padded lengths; None chooses one.
        stride: tokens that neighbouring windows share; made smaller where windows are too short for it.
        token_types: as `encode` takes it.

    Returns:
        Rows (windows) with "input_ids", perhaps "token_type_ids", "start_positions", "end_positions",
        "example_index" (the question) and "feature_index" (the row) as (rows,) int32, and the tokens' offsets.

    Raises:
        ArenaError: `max_length` leaves no room for any context.
    """
    backend = tokenizer.configured()
    reserved = backend.num_special_tokens_to_add(is_pair=True)
    room = max_length - reserved
    if room < 16 or stride < 0:
        raise ArenaError(
            f"max_length={max_length}, stride={stride}: question answering needs {reserved + 16} tokens or more"
            " and a stride of 0 or more"
        )
    # Leading spaces would cost tokens (some questions of SQuAD have many).
    questions = [question.lstrip() for question in data.columns["question"]]
    # A question gets at most half the room, so that windows move on.
    longest, cut = room // 2, 0
    sizes = []
    for index, encoding in enumerate(encodings(backend, questions, add_special_tokens=False)):
        if len(encoding.ids) > longest:
            questions[index] = questions[index][: max(end for _, end in encoding.offsets[:longest])]
            cut += 1
        sizes.append(min(len(encoding.ids), longest))
    overlap = min(stride, (room - max(sizes)) // 2)

    ids, types, offsets = [], [], []
    columns: list[tuple[int, int, int, int]] = []
    outside = 0
    pairs = list(zip(questions, data.columns["context"], strict=True))
    windows = tokenizer.configured(max_length, stride=overlap, strategy="only_second")
    for example, encoding in enumerate(encodings(windows, pairs)):
        answers = data.columns["answers"][example]
        in_window = False
        for window in (encoding, *encoding.overflowing):
            spans = np.asarray(window.offsets, np.int32).reshape(-1, 2)
            context = np.asarray([part == 1 for part in window.sequence_ids], bool)
            spans[~context] = -1
            start, end = _answer_tokens(spans, context, answers[0]) if answers else (0, 0)
            in_window |= end > 0
            ids.append(window.ids or [tokenizer.pad_id])
            types.append(window.type_ids or [0])
            offsets.append(spans if len(spans) else np.full((1, 2), -1, np.int32))
            columns.append((start, end, example, len(columns)))
        outside += bool(answers) and not in_window
    tokens, fill = token_columns(tokenizer, ids, types, token_types)
    names = ("start_positions", "end_positions", "example_index", "feature_index")
    notes = [f"{len(data):,} questions in {len(ids):,} windows of up to {max_length} tokens, sharing {overlap}"]
    if overlap < stride:
        notes[0] += f" (not {stride}: the longest question leaves too little room)"
    if cut:
        notes.append(f"{cut:,} questions cut to {longest} tokens to leave room for their context")
    if outside:
        notes.append(f"{outside:,} answers lie whole in no window; their windows are trained as without answer")
    return Encoded(
        task=QUESTIONS,
        source=data,
        tokens=tokens,
        columns=dict(zip(names, np.asarray(columns, np.int32).T, strict=True)),
        fill=fill,
        lengths=padded_lengths(tokens["input_ids"].lengths, max_length, lengths),
        counts={"examples": len(data), "truncated": cut, "answers_outside": outside},
        notes=tuple(notes),
        offsets=Ragged.of(offsets, width=(2,)),
    )


def _answer_tokens(spans: np.ndarray, context: np.ndarray, answer: tuple[str, int]) -> tuple[int, int]:
    """First and last token of an answer in a window, or (0, 0) if the window does not hold all of it."""
    text, first = answer
    last = first + len(text)
    inside = np.flatnonzero(context)
    if not len(inside) or spans[inside[0], 0] > first or spans[inside[-1], 1] < last:
        return 0, 0
    # The last token that begins at or before the answer, and the first that ends at or after it.
    start = inside[np.searchsorted(spans[inside, 0], first, side="right") - 1]
    end = inside[np.searchsorted(spans[inside, 1], last, side="left")]
    return int(start), int(end)
