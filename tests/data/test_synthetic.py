from collections import Counter

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, synthetic_sentiment
from arena_jax.data.dataset import held_out
from arena_jax.data.synthetic import _ADJECTIVES, _VERBS


def test_the_papers_sizes_balanced_and_without_overlap():
    train, validation = synthetic_sentiment("train"), synthetic_sentiment("validation")
    assert (len(train), len(validation)) == (500, 100)
    assert Counter(train.columns["label"]) == {0: 250, 1: 250}
    assert Counter(validation.columns["label"]) == {0: 50, 1: 50}
    texts = [*train.columns["text"], *validation.columns["text"]]
    assert len(set(texts)) == 600


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_class_can_be_read_off_the_words(split):
    data = synthetic_sentiment(split)
    words = [{*_ADJECTIVES[label], *_VERBS[label]} for label in (0, 1)]
    for text, label in zip(data.columns["text"], data.columns["label"], strict=True):
        assert words[label] & set(text.split())
        assert not words[1 - label] & set(text.split())


def test_a_seed_gives_the_same_sentences_and_another_seed_others():
    assert synthetic_sentiment(seed=3).columns == synthetic_sentiment(seed=3).columns
    assert synthetic_sentiment(seed=3).columns != synthetic_sentiment(seed=4).columns


def test_bad_requests_are_one_line():
    for call in (
        lambda: synthetic_sentiment("validaton"),
        lambda: synthetic_sentiment(train=0),
        lambda: synthetic_sentiment().take(0),
        lambda: Dataset("empty", "language-model", "train", {"text": []}),
        lambda: held_out(1, 0.1, 0, "one"),
        lambda: held_out(10, 1.5, 0, "all"),
    ):
        with pytest.raises(ArenaError) as caught:
            call()
        assert "\n" not in str(caught.value)
