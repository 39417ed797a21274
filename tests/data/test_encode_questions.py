import json

import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, load_tokenizer, train_tokenizer

FAMILIES = ("bert", "roberta", "gpt2")


@pytest.fixture(scope="module")
def squad(arena_data):
    columns = {"id": [], "question": [], "context": [], "answers": []}
    for article in json.loads((arena_data / "squad" / "dev.json").read_text())["data"][:1]:
        for paragraph in article["paragraphs"][:12]:
            for question in paragraph["qas"]:
                columns["id"].append(question["id"])
                columns["question"].append(question["question"])
                columns["context"].append(paragraph["context"])
                columns["answers"].append([(a["text"], a["answer_start"]) for a in question["answers"]])
    return Dataset("squad", "question-answering", "train", columns)


def made_up(context, answers, question="where is it ?"):
    columns = {"id": ["1"], "question": [question], "context": [context], "answers": [answers]}
    return Dataset("one", "question-answering", "train", columns)


def reference_positions(theirs, data, max_length, stride):
    """The labels by walking over the tokens, from the description of the original SQuAD features."""
    encoded = theirs(
        [question.lstrip() for question in data.columns["question"]],
        data.columns["context"],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    positions = []
    for window, example in enumerate(encoded["overflow_to_sample_mapping"]):
        text, first = data.columns["answers"][example][0]
        last = first + len(text)
        parts, spans = encoded.sequence_ids(window), encoded["offset_mapping"][window]
        context = [token for token, part in enumerate(parts) if part == 1]
        if spans[context[0]][0] > first or spans[context[-1]][1] < last:
            positions.append((0, 0))
            continue
        start = max(token for token in context if spans[token][0] <= first)
        end = min(token for token in context if spans[token][1] >= last)
        positions.append((start, end))
    return encoded, positions


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_and_positions_as_with_transformers(arena_data, squad, family):
    folder = arena_data / "tokenizers" / family
    tokenizer = load_tokenizer(folder)
    rows = encode(squad, tokenizer, max_length=128, stride=32)
    encoded, positions = reference_positions(tokenizer.source, squad, 128, 32)
    assert len(rows) == len(encoded["input_ids"]) > len(squad)
    for window in range(len(rows)):
        assert rows.tokens["input_ids"][window].tolist() == encoded["input_ids"][window]
        if tokenizer.token_types:
            assert rows.tokens["token_type_ids"][window].tolist() == encoded["token_type_ids"][window]
    starts, ends = rows.columns["start_positions"], rows.columns["end_positions"]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == positions
    assert rows.columns["example_index"].tolist() == encoded["overflow_to_sample_mapping"]
    assert rows.columns["feature_index"].tolist() == list(range(len(rows)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_labelled_tokens_spell_the_answer(arena_data, squad, family):
    rows = encode(squad, load_tokenizer(arena_data / "tokenizers" / family), max_length=96, stride=24)
    labelled = 0
    for window in np.flatnonzero(rows.columns["end_positions"]):
        example = rows.columns["example_index"][window]
        spans = rows.offsets[window]
        first = spans[rows.columns["start_positions"][window], 0]
        last = spans[rows.columns["end_positions"][window], 1]
        assert squad.columns["answers"][example][0][0] in squad.columns["context"][example][first:last]
        labelled += 1
    assert labelled >= len(squad) - rows.counts["answers_outside"]


def test_the_whole_context_is_in_the_windows():
    context = " ".join(f"w{number}" for number in range(200))
    data = made_up(context, [("w150", context.index("w150"))])
    tokenizer = train_tokenizer(data, "roberta", min_frequency=1)
    rows = encode(data, tokenizer, max_length=40, stride=8)
    seen = np.zeros(len(context), bool)
    for spans in (rows.offsets[row] for row in range(len(rows))):
        for first, last in spans[spans[:, 0] >= 0]:
            seen[first:last] = True
    assert all(seen[index] or context[index] == " " for index in range(len(context)))
    assert rows.columns["end_positions"].max() > 0


def test_long_questions_short_windows_and_no_answer_are_handled_and_reported():
    context = "it is in the house " * 10
    tokenizer = train_tokenizer([context], "bert", min_frequency=1)
    rows = encode(made_up(context, [("house", 13)], question="where " * 50), tokenizer, max_length=32, stride=128)
    assert rows.counts["truncated"] == 1
    assert rows.row_lengths.max() <= 32
    assert any("questions cut" in line for line in rows.report())
    assert any("not 128" in line for line in rows.report())
    empty = encode(made_up("", []), tokenizer, max_length=32)
    assert empty.columns["end_positions"].tolist() == [0]
    with pytest.raises(ArenaError, match="question answering needs"):
        encode(made_up(context, []), tokenizer, max_length=10)
