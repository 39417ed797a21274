import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, load_tokenizer, synthetic_sentiment, train_tokenizer
from arena_jax.data.encoded import padded_lengths


def texts(values, pairs=None):
    columns = {"text": values, "label": [index % 2 for index in range(len(values))]}
    if pairs:
        columns["text_pair"] = pairs
    return Dataset("texts", "sequence-classification", "train", columns, ("no", "yes"))


@pytest.fixture(scope="module")
def sentences():
    return synthetic_sentiment()


@pytest.fixture(scope="module")
def trained(sentences):
    return {family: train_tokenizer(sentences, family) for family in ("bert", "roberta", "gpt2")}


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("paired", [False, True])
def test_the_same_as_transformers(arena_data, sentences, family, paired):
    tokenizer = load_tokenizer(arena_data / "tokenizers" / family)
    few = sentences.take(40)
    values = few.columns["text"]
    data = texts(values, values[::-1]) if paired else texts(values)
    rows = encode(data, tokenizer, max_length=8)
    theirs = tokenizer.source
    theirs.pad_token = theirs.pad_token or theirs.eos_token
    expected = theirs(
        *([values, values[::-1]] if paired else [values]),
        padding="max_length",
        truncation=True,
        max_length=8,
        return_tensors="np",
    )
    batch = rows.batch(np.arange(40), length=8)
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name])
    assert set(batch) == {*expected, "labels", "valid"}
    cut = sum(len(ids) > 8 for ids in theirs(*([values, values[::-1]] if paired else [values]))["input_ids"])
    assert rows.counts["truncated"] == cut > 0
    assert f"{cut} of 40 texts cut to 8 tokens" in rows.report()[1]


def test_shapes_and_types(sentences, trained):
    batch = encode(sentences, trained["bert"]).batch(np.arange(5))
    assert {name: (value.dtype.name, value.ndim) for name, value in batch.items()} == {
        "input_ids": ("int32", 2),
        "token_type_ids": ("int32", 2),
        "attention_mask": ("int32", 2),
        "labels": ("int32", 1),
        "valid": ("bool", 1),
    }
    assert batch["labels"].tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_an_empty_text_keeps_its_row_and_is_reported(trained, family):
    rows = encode(texts(["", "this movie is good"]), trained[family])
    assert len(rows) == 2
    assert rows.row_lengths.min() >= 1
    assert "1 text has no token" in rows.report()[1]


def test_few_lengths():
    lengths = np.asarray([3, 9, 17, 40])
    assert padded_lengths(lengths, 64, None) == (40,)
    assert padded_lengths(lengths, 36, None) == (36,)  # never beyond the model
    assert padded_lengths(lengths, 64, [8, 16, 32, 64]) == (8, 16, 32, 64)
    assert padded_lengths(lengths, 64, [24]) == (24, 64)
    with pytest.raises(ArenaError, match="outside 1 to max_length=64"):
        padded_lengths(lengths, 64, [128])
