"""What costs next to nothing: taggers by counts written out by hand, a bag of embeddings as the run's start has it."""

import dataclasses

import pytest

from arena_jax import data
from arena_jax.cli.main import main
from arena_jax.config import ModelConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.training.cheap_models import cheap_models, word_taggers
from tests.training.test_train import SIZES, tiny


def rows(*texts):
    """Of words with their tags: "Bern/1"."""
    pairs = [[word.split("/") for word in text.split()] for text in texts]
    columns = {
        "words": [[w for w, _ in text] for text in pairs],
        "labels": [[int(t) for _, t in text] for text in pairs],
    }
    return data.Dataset("few", "token-classification", "train", columns, ("O", "B-city"))


def test_words_and_pairs_have_their_most_frequent_tag():
    train = rows("in/0 Bath/1", "a/0 Bath/0", "a/0 Bath/0", "Bern/1 in/0", "he/0")
    scored = rows("in/0 Bath/1 Bern/1 new/1")
    # Bath alone is twice O and once a city; after "in" a city. "Bath Bern" was not there: Bern's own tag; "new" is O.
    scores = word_taggers(train, scored)
    assert scores["unigram tags"] == {"accuracy": 2 / 4, "entity_f1": pytest.approx(2 * 1 / (3 + 1))}
    assert scores["bigram tags"] == {"accuracy": 3 / 4, "entity_f1": pytest.approx(2 * 2 / (3 + 2))}


def test_the_bag_is_the_one_that_a_run_may_start_from(capsys):
    from arena_jax.training.build import build
    from arena_jax.training.warm_start import corpus_source

    config = dataclasses.replace(tiny(), models=(ModelConfig("bert", preset="bert-tiny", **SIZES),))
    ((name, metrics),) = cheap_models(config).items()
    _, what = corpus_source("bert", config, build(config))
    assert name == "bert, as a bag"
    assert f"by itself {100 * metrics['accuracy']:.1f} % of the validation texts" in what


def test_a_task_without_cheap_models_is_refused(tmp_path, capsys):
    with pytest.raises(ArenaError, match="no cheap model is known for language-model"):
        cheap_models(presets.get("joint-wikitext2"))


def test_a_plan_prints_the_floors_of_its_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "arena_jax.training.cheap_models.cheap_models", lambda config: {"unigram tags": {"accuracy": 0.5}}
    )
    plan = tmp_path / "plan.toml"
    assert main(["compare", "--example"]) == 0
    plan.write_text(capsys.readouterr().out)
    assert main(["compare", str(plan), "--floors"]) == 0
    printed = capsys.readouterr().out
    assert "unigram tags" in printed
    assert "50.0" in printed
    for option in (["--output", "study"], ["--cells", "1/2"], ["--keep-runs"], ["--launcher", "local", "--jobs", "1"]):
        assert main(["compare", str(plan), "--floors", *option]) == 2
        assert f"remove {option[0]}" in capsys.readouterr().err
