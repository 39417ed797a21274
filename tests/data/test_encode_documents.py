"""Documents in rows of their own, and in rows that they share."""

import dataclasses

import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Batches, Dataset, encode, load_tokenizer, train_tokenizer
from arena_jax.data.encode_documents import packed_rows

TEXTS = ["a b c", "one two three four five six seven eight nine ten", "x", "", "y z", "é 漢 a"] * 5


def texts(count=None):
    return Dataset("mine", "language-model", "train", {"text": TEXTS[:count]})


@pytest.fixture(scope="module", params=["bert", "gpt2", "roberta"])
def tokenizer(request):
    return train_tokenizer(texts(), request.param, vocab_size=300)


def rows_of(encoded, name="input_ids"):
    return [encoded.tokens[name][row].tolist() for row in range(len(encoded))]


def test_each_document_is_what_the_tokenizer_makes_of_it(tokenizer):
    encoded = encode(texts(6), tokenizer, max_length=64, documents="apart")
    for row, text in zip(rows_of(encoded), TEXTS, strict=False):
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.cls_id
        assert row == [start, *ids, tokenizer.separator_id]
    assert encoded.columns["bytes"].tolist() == [len(text.encode()) for text in TEXTS[:6]]


@pytest.mark.parametrize("length", [8, 16, 64])
def test_packed_rows_hold_the_rows_of_their_own(tokenizer, length):
    """The same pieces, each whole and in one row; the rows' bytes are the text's."""
    apart, packed = (encode(texts(), tokenizer, max_length=length, documents=how) for how in ("apart", "packed"))
    pieces = []
    for row, segments in zip(rows_of(packed), rows_of(packed, "segment_ids"), strict=True):
        assert len(row) <= length
        assert segments == sorted(segments)
        for segment in range(1, max(segments) + 1):
            pieces.append([token for token, own in zip(row, segments, strict=True) if own == segment])
    assert sorted(pieces) == sorted(rows_of(apart))
    total = sum(len(text.encode()) for text in TEXTS)
    assert packed.columns["bytes"].sum() == apart.columns["bytes"].sum() == packed.counts["bytes"] == total
    assert len(packed) < len(apart)
    assert packed.lengths == (length,)
    batch = packed.batch(np.arange(len(packed)))
    np.testing.assert_array_equal(batch["segment_ids"] > 0, batch["attention_mask"] > 0)


def test_every_token_behind_a_start_is_predicted_once(tokenizer):
    """Of a document that is longer than a row, too."""
    encoded = encode(texts(2), tokenizer, max_length=8, documents="apart")
    whole = encode(texts(2), tokenizer, max_length=64, documents="apart")
    if encoded.task == "causal-lm":
        predicted = [token for row in rows_of(encoded) for token in row[1:]]
        assert predicted == [token for row in rows_of(whole) for token in row[1:]]
    else:
        assert [token for row in rows_of(encoded) for token in row[1:-1]] == [
            token for row in rows_of(whole) for token in row[1:-1]
        ]


def test_rows_are_the_same_whoever_draws_them(tokenizer):
    encoded = encode(texts(), tokenizer, max_length=16, documents="packed")
    one = Batches(encoded, seed=4)
    parts = [Batches(encoded, seed=4, process_index=index, process_count=2) for index in range(2)]
    for _ in range(4):
        whole = one.next(4)
        shares = [part.next(4) for part in parts]
        for name in ("input_ids", "segment_ids"):
            np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), whole[name])
    again = Batches(encode(texts(), tokenizer, max_length=16, documents="packed"), seed=4)
    again.restore(one.state())
    np.testing.assert_array_equal(again.next(3)["segment_ids"], one.next(3)["segment_ids"])


def test_packing_is_tight():
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 40, 3000)
    rows = packed_rows(lengths, 128)
    assert sorted(number for row in rows for number in row) == list(range(3000))
    assert max(lengths[row].sum() for row in rows) <= 128
    assert len(rows) <= np.ceil(lengths.sum() / 128) * 1.01
    assert packed_rows(lengths, 128) == rows


def test_what_cannot_be_packed_is_refused(tokenizer):
    labelled = Dataset("mine", "sequence-classification", "train", {"text": ["a"], "label": [0]}, ("x",))
    with pytest.raises(ArenaError, match="is for language models; sequence-classification has an example per row"):
        encode(labelled, tokenizer, documents="packed")
    stream = dataclasses.replace(texts(), stream=object())
    with pytest.raises(ArenaError, match="is read as it comes, and its documents can only be joined"):
        encode(stream, tokenizer, documents="packed")
    with pytest.raises(ArenaError, match="did you mean 'packed'"):
        encode(texts(), tokenizer, documents="pack")


def test_a_saved_tokenizer_packs_alike(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    first, second = (
        encode(texts(), one, task="causal-lm", max_length=16, documents="packed")
        for one in (tokenizer, load_tokenizer(tmp_path))
    )
    assert first.fingerprint == second.fingerprint
