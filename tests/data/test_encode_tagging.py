import numpy as np
import pytest

from arena_jax.data import Dataset, encode, load_tokenizer, train_tokenizer

NAMES = ("O", "B-x", "I-x")


def tagged(words, labels):
    return Dataset("words", "token-classification", "train", {"words": words, "labels": labels}, NAMES)


@pytest.fixture(scope="module")
def sentences():
    words = [["Unbelievably", "good", "😀", "film", "by", "Steven", "Spielberg"], ["one"], ["a", "b"] * 20]
    return tagged(words, [[index % 3 for index in range(len(row))] for row in words])


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_the_first_piece_carries_the_tag_as_in_transformers(arena_data, sentences, family):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = arena_data / "tokenizers" / family
    tokenizer = load_tokenizer(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, add_prefix_space=family != "bert")
    theirs.pad_token = theirs.pad_token or theirs.eos_token
    rows = encode(sentences, tokenizer, max_length=16)

    encoded = theirs(sentences.columns["words"], is_split_into_words=True, truncation=True, max_length=16)
    features = []
    for row, tags in enumerate(sentences.columns["labels"]):
        before, labels = None, []
        for word in encoded.word_ids(row):
            labels.append(-100 if word is None or word == before else tags[word])
            before = word
        features.append({name: encoded[name][row] for name in encoded} | {"labels": labels})
    collator = transformers.DataCollatorForTokenClassification(theirs, padding="max_length", max_length=16)
    expected = collator(features)
    assert isinstance(expected["labels"], torch.Tensor)
    batch = rows.batch(np.arange(3), length=16)
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name].numpy(), err_msg=name)
    assert set(batch) == {*expected, "valid"}
    assert rows.counts["truncated"] == 1
    assert "1 of 3 sentences cut" in rows.report()[1]


def test_words_are_never_lost_silently():
    tokenizer = train_tokenizer(["one two three"], "bert", min_frequency=1)
    rows = encode(tagged([["one", "​", "two"], ["\x07"]], [[1, 2, 0], [1]]), tokenizer, max_length=8)
    assert rows.counts["lost_words"] == 2
    assert "2 words give no token" in rows.report()[1]
    assert rows.tokens["labels"][0].tolist() == [-100, 1, 0, -100]
    assert len(rows) == 2


def test_cut_words_are_counted():
    tokenizer = train_tokenizer(["one two three"], "gpt2")
    rows = encode(tagged([["one"] * 10], [[0] * 10]), tokenizer, max_length=4)
    scored = int((rows.tokens["labels"].values >= 0).sum())
    assert rows.counts["cut_words"] == 10 - scored > 0
