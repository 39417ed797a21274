"""A run whose models begin with what others know: what arrives, what is said, and a resume to the bit."""

import dataclasses
import zlib

import jax
import numpy as np
import pytest

from arena_jax import data, models, training
from arena_jax.config import DataConfig, ModelConfig, TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.bag_of_embeddings import bag_of_embeddings
from arena_jax.training.build import build
from arena_jax.training.warm_start import vocabulary, warm_starts
from tests.training.test_train import SIZES, state_of, stop_at, tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


def with_starts(config, **starts):
    changed = [dataclasses.replace(model, start=starts.get(model.name)) for model in config.models]
    return dataclasses.replace(config, models=tuple(changed))


def table(model):
    return np.asarray(models.split(model)[1]["embeddings"]["token"]["embedding"])


def test_a_model_starts_from_the_corpus_and_another_from_it():
    config = with_starts(tiny(), bert="gpt2", gpt2="corpus")
    parts = build(config)
    starts = warm_starts(config, parts)
    tokenizer, rows = parts.tokenizers["gpt2"], parts.train["gpt2"]
    seed = config.training.seed ^ zlib.crc32(b"gpt2")
    bag = bag_of_embeddings(rows, tokenizer.vocab_size, 16, special_ids=tokenizer.special_ids, seed=seed)
    counted = bag.table.any(axis=1)
    scale = 0.02 / np.sqrt(np.mean(table(starts.models["gpt2"]).astype(np.float64)[counted] ** 2))
    assert scale == pytest.approx(1, rel=0.05), "the scale is that of the rows handed down, some of them twice"
    ratio = table(starts.models["gpt2"])[counted] / bag.table[counted]
    assert np.ptp(ratio) < 1e-4 * abs(ratio.mean())
    again = models.hand_down(
        starts.models["gpt2"], parts.models["bert"], vocabulary(parts, "gpt2"), vocabulary(parts, "bert")
    )
    np.testing.assert_array_equal(table(starts.models["bert"]), table(again.model))
    assert starts.records["bert"]["from"] == "gpt2"
    assert starts.records["gpt2"]["parts"] == ["embeddings"]
    assert starts.records["bert"]["matched"] == again.matched


def test_a_language_models_corpus_gives_the_counted_table(tmp_path):
    (tmp_path / "texts.txt").write_text("\n\n".join(data.synthetic_sentiment().columns["text"][:60]))
    source = DataConfig(name=str(tmp_path / "texts.txt"), max_length=16)
    config = with_starts(dataclasses.replace(tiny(), task="language-model", data=source), gpt2="corpus")
    starts = warm_starts(config, build(config))
    assert "gpt2 starts from the corpus' table (PPMI, singular vectors): embeddings:" in starts.notes[0]
    parts = build(config)
    streamed = dataclasses.replace(parts.train["gpt2"], stream=object())
    with pytest.raises(ArenaError, match="a text that is read as it is trained on has no table before"):
        warm_starts(config, parts._replace(train={**parts.train, "gpt2": streamed}))


def test_a_model_starts_from_any_folder(tmp_path):
    texts = data.synthetic_sentiment().take(40)
    tokenizer = data.train_tokenizer(texts, "gpt2", vocab_size=300)
    gpt2 = models.create(
        models.preset("gpt2-tiny", vocab_size=tokenizer.vocab_size, hidden_size=32, num_heads=2), task="causal-lm"
    )
    models.save_pretrained(gpt2, tmp_path / "source", also=tokenizer.save)
    config = with_starts(tiny(), bert=str(tmp_path / "source"))
    starts = warm_starts(config, build(config))
    assert "width: 32 to 16" in starts.notes[-1]
    assert starts.records["bert"]["matched"] > 50
    absent = with_starts(tiny(), bert="nowhere-at-all")
    with pytest.raises(ArenaError, match="model 'bert', start nowhere-at-all: "):
        warm_starts(absent, build(absent))


@pytest.mark.slow
def test_a_run_says_what_it_began_with_and_goes_on_to_the_bit(tmp_path, monkeypatch):
    config = with_starts(tiny(), bert="gpt2", gpt2="corpus")
    whole = training.train(config, tmp_path / "whole")
    start = read(whole)[0]
    assert start["models"]["bert"]["start"]["from"] == "gpt2"
    assert "gpt2 starts from a bag of embeddings" in narrate(read(whole)).replace("\n    ", " ")
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        training.train(config, tmp_path / "run")
    monkeypatch.undo()
    # What it began with is in the checkpoint: it is not made again.
    monkeypatch.setattr("arena_jax.training.warm_start.warm_starts", None)
    run = training.train(config, tmp_path / "run", resume=True)
    for a, b in zip(*(jax.tree.leaves(state_of(folder)) for folder in (whole, run)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_starts_that_make_no_sense_are_refused():
    base = tiny()
    with pytest.raises(ArenaError, match="start gpt2 names a model that begins at random and has nothing to hand down"):
        with_starts(base, bert="gpt2")
    with pytest.raises(ArenaError, match="leads in a circle"):
        with_starts(base, bert="gpt2", gpt2="bert")
    with pytest.raises(ArenaError, match="both a checkpoint and a start are given"):
        ModelConfig("bert", checkpoint="x", start="corpus")
    with pytest.raises(ArenaError, match="start_parts does nothing without a start"):
        ModelConfig("bert", preset="bert-tiny", start_parts=("embeddings",))
    with pytest.raises(ArenaError, match="start_parts has no 'block'; did you mean 'blocks'"):
        ModelConfig("bert", preset="bert-tiny", **SIZES, start="x", start_parts=("block",))
    with pytest.raises(ArenaError, match="a corpus has token rows alone"):
        ModelConfig("bert", preset="bert-tiny", start="corpus", start_parts=("blocks",))


@pytest.mark.slow
def test_a_competition_starts_warm_and_keeps_averages(tmp_path):
    """Its models take other numbers of steps, and so do their averages."""
    from tests.arena import tiny as arena

    config = with_starts(arena.tiny(), gpt2="corpus", bert="gpt2")
    config = dataclasses.replace(config, together=TogetherConfig(ema=0.9))
    run = arena.train(config, tmp_path / "run")
    assert read(run)[0]["models"]["bert"]["start"]["from"] == "gpt2"
    state = arena.final_state(run)
    last = [record for record in read(run) if record["kind"] == "train"][-1]["models"]
    assert {name: int(average.steps) for name, average in state.averages.items()} == {
        name: metrics["steps"] for name, metrics in last.items()
    }
    assert set(training.evaluate(run, checkpoint="ema")) == {"bert", "gpt2"}


def test_the_initial_scale_of_a_preset_is_the_runs_to_say():
    """First values are the same draws at five times the scale; biases and norms stay."""
    config = tiny()
    scaled = [dataclasses.replace(model, initializer_range=0.1) for model in config.models]
    before, after = build(config), build(dataclasses.replace(config, models=tuple(scaled)))
    for name in before.models:
        pairs = zip(*(jax.tree.leaves(models.split(parts.models[name])[1]) for parts in (before, after)), strict=True)
        ratios = [float(np.std(b) / np.std(a)) for a, b in pairs if np.std(a) > 0]
        np.testing.assert_allclose(ratios, 5, rtol=1e-5)
    with pytest.raises(ArenaError, match="initializer_range cannot be changed: the checkpoint's weights fix it"):
        ModelConfig("bert", checkpoint="x", initializer_range=0.1)
