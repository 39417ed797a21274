"""Scores in and out of the domain: against the run's own evaluation, and floors by hand."""

import math

import numpy as np
import pytest

from arena_jax import ArenaError, data, models
from arena_jax.game import domains
from arena_jax.game.subject import Subject
from arena_jax.training.objectives import objective_for


def test_language_scores_and_their_floor():
    text = data.Dataset("mine", "language-model", "train", {"text": ["a b a c a b\n" * 20]})
    tokenizer = data.train_tokenizer(text, "gpt2", vocab_size=280)
    rows = data.encode(text, tokenizer, task="causal-lm", max_length=16)
    model = models.create(models.preset("gpt2-tiny", vocab_size=tokenizer.vocab_size), "causal-lm", seed=0)
    subject = Subject("mine", model, objective_for("causal-lm"), tokenizer, rows, rows, None)
    found = domains.language_scores(subject, batch_size=4)
    losses = []
    for batch in data.evaluation_batches(rows, 4):
        sums = objective_for("causal-lm")(model, batch, None, False).sums
        losses.append([float(sums[name]) for name in ("loss_sum", "count", "bytes")])
    total, count, size = np.sum(losses, axis=0)
    assert found["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(total / size / math.log(2), rel=1e-5)
    # A new model knows nothing, frequencies know something, and both are measured on the same tokens.
    assert found["floor_loss"] < found["loss"]
    wrong = subject._replace(model=models.create("bert-tiny", "token-classification"))
    with pytest.raises(ArenaError, match="perplexity is a language model's"):
        domains.language_scores(wrong)


def test_answer_floors_by_hand():
    columns = {
        "id": ["1"],
        "question": ["who"],
        "context": ["Ada Lovelace wrote it"],
        "answers": [[("Ada Lovelace", 0)]],
    }
    found = domains.answer_floors(data.Dataset("mine", "question-answering", "train", columns), words=2)
    assert found["first words"] == (100.0, 100.0)
    assert 0 <= found["random words"][1] <= 100
    with pytest.raises(ArenaError, match="question-answering data"):
        domains.answer_floors(data.synthetic_sentiment())
