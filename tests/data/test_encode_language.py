import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, load_tokenizer, python_docs, train_tokenizer

CASES = [("bert", "masked-lm"), ("bert", "causal-lm"), ("roberta", "masked-lm"), ("gpt2", "causal-lm")]


@pytest.fixture(scope="module")
def docs():
    return python_docs("validation")


@pytest.fixture(scope="module")
def trained(docs):
    return {family: train_tokenizer(docs, family, vocab_size=500) for family in ("bert", "roberta", "gpt2")}


def corpus(texts):
    return Dataset("texts", "language-model", "train", {"text": list(texts)})


@pytest.mark.parametrize(("family", "task"), CASES)
def test_bytes_over_the_rows_are_the_corpus_in_utf8(docs, trained, family, task):
    rows = encode(docs, trained[family], task=task, max_length=64)
    expected = sum(len(text.encode()) for text in docs.columns["text"])
    assert rows.columns["bytes"].astype(np.float64).sum() == expected == rows.counts["bytes"]


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5),
    length=st.integers(3, 9),
    case=st.sampled_from(CASES),
)
def test_bytes_of_any_text_are_counted_once(trained, texts, length, case):
    family, task = case
    rows = encode(corpus(texts), trained[family], task=task, max_length=length)
    assert rows.columns["bytes"].sum() == sum(len(text.encode()) for text in texts)
    assert rows.row_lengths.max() <= length


def test_each_token_is_predicted_once_by_a_causal_model(docs, trained):
    tokenizer = trained["gpt2"]
    rows = encode(docs, tokenizer, max_length=50)
    assert rows.task == "causal-lm"
    predicted = np.concatenate([rows.tokens["input_ids"][row][1:] for row in range(len(rows))])
    stream = []
    for text in docs.columns["text"]:
        stream += [*tokenizer.backend.encode(text, add_special_tokens=False).ids, tokenizer.eos_id]
    np.testing.assert_array_equal(predicted, stream)
    # What a row's tokens are predicted from is the row before's last token.
    for row in range(1, len(rows)):
        assert rows.tokens["input_ids"][row][0] == rows.tokens["input_ids"][row - 1][-1]


def test_the_bytes_of_a_row_are_those_of_its_predicted_tokens(trained):
    # An independent count: byte-level tokens decode to their own bytes, and ASCII text has one byte each.
    text = "the quick brown fox jumps over the lazy dog " * 10
    rows = encode(corpus([text]), trained["gpt2"], max_length=16)
    for row in range(len(rows)):
        tokens = rows.tokens["input_ids"][row][1:]
        assert rows.columns["bytes"][row] == len(trained["gpt2"].decode(tokens))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_masked_rows_hold_every_token_and_mark_the_special_ones(docs, trained, family):
    tokenizer = trained[family]
    rows = encode(docs, tokenizer, max_length=32)
    assert rows.task == "masked-lm"
    content = np.concatenate([rows.tokens["input_ids"][row][1:-1] for row in range(len(rows))])
    stream = []
    for text in docs.columns["text"]:
        stream += [*tokenizer.backend.encode(text, add_special_tokens=False).ids, tokenizer.separator_id]
    np.testing.assert_array_equal(content, stream)
    last = rows.batch(np.asarray([0, len(rows) - 1]))
    assert (last["special_tokens_mask"][last["attention_mask"] == 0] == 1).all()
    special = np.isin(last["input_ids"], [*tokenizer.special_ids])
    np.testing.assert_array_equal(last["special_tokens_mask"] == 1, special)
    assert ("token_type_ids" in last) == (family == "bert")


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_special_tokens_as_transformers_marks_them(arena_data, family):
    tokenizer = load_tokenizer(arena_data / "tokenizers" / family)
    text = (arena_data / "wikitext" / "raw" / "valid.raw").read_text()[:20_000]
    rows = encode(corpus([text]), tokenizer, max_length=128)
    assert rows.columns["bytes"].sum() == len(text.encode())
    if family != "gpt2":
        batch = rows.batch(np.arange(4))
        for ids, mask in zip(batch["input_ids"], batch["special_tokens_mask"], strict=True):
            theirs = tokenizer.source.get_special_tokens_mask(ids.tolist(), already_has_special_tokens=True)
            assert mask.tolist() == theirs


def test_bad_requests_are_one_line(docs, trained):
    for call in (
        lambda: encode(docs, trained["gpt2"], task="masked-lm"),
        lambda: encode(docs, trained["bert"], task="sequence-classification"),
        lambda: encode(docs, trained["bert"], task="masked"),
        lambda: encode(docs, trained["gpt2"], max_length=1),
        lambda: encode(docs, trained["bert"], max_length=2),
        lambda: encode(docs, trained["bert"], max_length=0),
    ):
        with pytest.raises(ArenaError) as caught:
            call()
        assert "\n" not in str(caught.value)
