"""The floor: by hand for tags, and for questions the mean over all spans of the context."""

import numpy as np
import pytest

from arena_jax import data
from arena_jax.config.errors import ArenaError
from arena_jax.training.floor import floor
from arena_jax.training.squad import answer_scores


def test_the_floor_of_tags_is_that_of_the_tag_which_training_has_most():
    def tags(*labels):
        columns = {"words": [["a"] * len(labels)], "labels": [list(labels)]}
        return data.Dataset("t", "token-classification", "train", columns, ("O", "B-x"))

    assert floor(tags(0, 0, 1), tags(0, 1, 1, 1)) == {"accuracy": 0.25, "entity_f1": 0.0}


def test_the_floor_of_questions_is_the_mean_over_spans():
    context = "w1 w2 w3 w4 w5 w6 w7 w8"
    columns = {"question": ["q"], "context": [context], "answers": [[("w3 w4", 6)]], "id": ["0"]}
    train = data.Dataset("q", "question-answering", "train", columns)
    many = {name: values * 200 for name, values in columns.items()}
    scored = data.Dataset("q", "question-answering", "test", many)
    words = context.split()
    spans = [answer_scores(" ".join(words[i : i + 2]), ["w3 w4"]) for i in range(7)]
    result = floor(train, scored)
    exact, f1 = np.mean(spans, axis=0)
    assert (result["exact_match"], result["f1"]) == (pytest.approx(exact, abs=0.02), pytest.approx(f1, abs=0.02))


def test_a_language_model_has_none():
    texts = data.Dataset("l", "language-model", "train", {"text": ["a"]})
    with pytest.raises(ArenaError, match="no floor is known for language-model"):
        floor(texts, texts)
