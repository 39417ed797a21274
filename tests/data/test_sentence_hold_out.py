"""Whole sentences held out: nothing that is learnt stands in one of them, by a search through all pairs."""

import random

import pytest

from arena_jax import data
from arena_jax.config.errors import ArenaError
from arena_jax.data.sentence_hold_out import sentence_hold_out


def sentences_and_phrases(seed):
    """Texts of a few words, so that they often are parts of one another, some in capitals and with odd spaces."""
    draw = random.Random(seed)
    whole = [[draw.choice("abcde") for _ in range(draw.randint(1, 9))] for _ in range(12)]
    texts = []
    for words in whole:
        texts.append(" ".join(words))
        for _ in range(3):
            first = draw.randrange(len(words))
            texts.append("  ".join(words[first : draw.randint(first + 1, len(words))]).upper() + " ")
    draw.shuffle(texts)
    return texts


def within(part, text):
    return f" {' '.join(part.lower().split())} " in f" {' '.join(text.lower().split())} "


@pytest.mark.parametrize("seed", range(40))
def test_no_text_is_learnt_that_stands_in_a_sentence_held_out(seed):
    texts = sentences_and_phrases(seed)
    learnt, held_out = sentence_hold_out(texts, 0.3, seed, "mine")
    dropped = set(range(len(texts))) - set(learnt)
    parts = {row for row, text in enumerate(texts) if any(within(text, texts[other]) for other in held_out)}
    assert dropped == parts, "all that is contained goes, and nothing else"
    distinct = {" ".join(text.lower().split()) for text in texts}
    whole = [text for text in distinct if sum(within(text, other) for other in distinct) == 1]
    assert len(held_out) == min(max(1, round(0.3 * len(whole))), len(whole) - 1)
    assert {" ".join(texts[row].lower().split()) for row in held_out} <= set(whole), "sentences, and each of them once"


def test_a_folder_with_a_validation_split_is_held_out_from_its_training_split(tmp_path):
    (tmp_path / "train.tsv").write_text(
        "sentence\tlabel\na fine film .\t1\nfine film\t1\na dull plot\t0\ndull plot\t0\n"
    )
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\nfine\t1\nfilm\t0\n")
    splits = {
        split: data.load(tmp_path, split=split, hold_out="sentences", validation_fraction=0.5)
        for split in ("train", "validation", "all")
    }
    assert len(splits["train"]) == 2
    assert len(splits["validation"]) == 1
    assert len(splits["all"]) == 4
    assert any(
        "1 whole sentences of the training split held out (seed 0), and 1 of its 4 texts" in note
        for note in splits["train"].notes
    )
    assert data.load(tmp_path, split="validation").columns["text"] == ["fine", "film"]


def test_what_has_no_phrases_is_refused(tmp_path):
    with pytest.raises(ArenaError, match="'synthetic-sentiment' has none; remove it"):
        data.load("synthetic-sentiment", hold_out="sentences")
    with pytest.raises(ArenaError, match="unknown hold_out 'sentence'; did you mean 'sentences'"):
        data.load("synthetic-sentiment", hold_out="sentence")
    (tmp_path / "train.txt").write_text("one\n\ntwo\n")
    with pytest.raises(ArenaError, match="classification of single texts"):
        data.load(tmp_path, task="language-model", hold_out="sentences")
    with pytest.raises(ArenaError, match="has 1 whole sentence"):
        sentence_hold_out(["a b", "a"], 0.5, 0, "mine")
