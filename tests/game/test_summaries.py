"""Summaries: scores against hand-computed ones, floors, and the greedy writer against a plain loop."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import ArenaError, data, models
from arena_jax.game import summaries


@pytest.fixture(scope="module")
def papers():
    return summaries.Papers(
        [["the cat sat down", "it slept"], ["a dog ran"]], [["the cat sat", "a cat slept"], ["the dog ran far"]]
    )


@pytest.fixture(scope="module")
def writer():
    train = data.load("synthetic-sentiment", task="sequence-classification", split="train")
    tokenizer = data.train_tokenizer(train, "gpt2", vocab_size=300)
    config = models.preset("gpt2-tiny", vocab_size=tokenizer.vocab_size)
    return models.create(config, "causal-lm", seed=1), tokenizer


def test_scores_by_hand(papers):
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    found = summaries.scores(["the cat sat", "a dog ran"], papers)
    # Paper 1 equals its first summary; paper 2 shares 2 of 3 and of 4 words: F1 4/7, as does its longest sequence.
    assert found["rouge1"] == pytest.approx(100 * (1 + 4 / 7) / 2)
    assert found["rougeL"] == pytest.approx(100 * (1 + 4 / 7) / 2)
    assert 0 <= found["bleu"] < 100  # texts this short share no four words
    assert summaries.scores(["the cat sat", "the dog ran far"], papers)["bleu"] == pytest.approx(100)


def test_floors(papers):
    floors = summaries.floors(papers)
    assert floors["first sentence"] == ["the cat sat down", "a dog ran"]
    assert all(text in source for text, source in zip(floors["random sentence"], papers.sentences, strict=True))


@pytest.mark.slow
def test_the_likeliest_tokens_are_written(papers, writer):
    model, tokenizer = writer
    written = summaries.summarize(model, tokenizer, papers, tokens=5, batch_size=4)
    for sentences, text in zip(papers.sentences, written, strict=True):
        ids = tokenizer.encode(" ".join(sentences) + summaries.PROMPT).ids
        start = len(ids)
        for _ in range(5):
            ids = [*ids, int(np.argmax(model(jnp.asarray([ids], jnp.int32))[0, -1]))]
        assert text == tokenizer.decode(ids[start:]).strip().split("\n")[0].strip()


def test_reading(tmp_path, papers, writer):
    file = tmp_path / "papers.jsonl"
    file.write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in zip(*papers, strict=True)))
    assert summaries.load_papers(file) == papers
    assert len(summaries.load_papers(file, 1).sentences) == 1
    (tmp_path / "wrong.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "text.jsonl").write_text('{"source": "text", "target": ["a"]}\n')
    (tmp_path / "latin.jsonl").write_bytes(b'{"source": ["caf\xe9"], "target": ["a"]}\n')
    model, tokenizer = writer
    for call, told in (
        (lambda: summaries.load_papers(tmp_path / "none"), "cannot read"),
        (lambda: summaries.load_papers(tmp_path / "wrong.jsonl"), "line 1: give an object"),
        (lambda: summaries.load_papers(tmp_path / "text.jsonl"), "line 1: give an object"),
        (lambda: summaries.load_papers(tmp_path / "latin.jsonl"), "not UTF-8"),
        (lambda: summaries.load_papers(file, -1), "the number of papers is -1"),
        (lambda: summaries.scores(["one"], papers), "1 summaries for 2 papers"),
        (lambda: summaries.summarize(model, tokenizer, papers, tokens=500), "leave no room"),
        (lambda: summaries.summarize(models.create("bert-tiny", "masked-lm"), tokenizer, papers), "only a causal"),
    ):
        with pytest.raises(ArenaError, match=told):
            call()
