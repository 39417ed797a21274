"""Whole runs on inputs of other dialects: classes in another order, padding, new heads, numbers and several labels."""

import dataclasses

import numpy as np
import pytest

from arena_jax import data, models, training
from arena_jax.cli.main import main
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.records import read
from arena_jax.training.build import build, make_model
from arena_jax.training.folder_model import evaluate_folder, is_model_folder

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
WORDS = ["film", "story", "plot", "actor", "good", "bad", "fine", "poor", "warm", "slow", "fast", "river", "house"]


def sentences(count, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 8))) for _ in range(count)]


def write(path, rows, names=("text", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\t".join(names) + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def folder_of(path, family="bert", **options):
    """A tiny folder with weights that decide, and its tokenizer."""
    tokenizer = data.train_tokenizer(sentences(50), family, vocab_size=300, min_frequency=1)
    shape = models.preset(f"{family}-tiny", **{**SIZES, "vocab_size": tokenizer.vocab_size})
    pad = None if family == "gpt2" else tokenizer.pad_id
    config = dataclasses.replace(shape, **({"pad_token_id": pad, "initializer_range": 0.6} | options))
    model = models.create(config, "sequence-classification", seed=4)
    models.save_pretrained(model, path, also=tokenizer.save)
    return model, tokenizer


def answers(model, tokenizer, texts):
    source = data.Dataset("x", "sequence-classification", "all", {"text": texts, "label": [0] * len(texts)}, ("a", "b"))
    rows = data.encode(source, tokenizer, max_length=32)
    batch = rows.batch(np.arange(len(rows)))
    keys = ("input_ids", "attention_mask", "token_type_ids")
    return np.asarray(model(*(batch[key] for key in keys if key in batch))).argmax(-1)


def run_of(source, checkpoint, tmp_path, **options):
    """A run of one model from a checkpoint, or of the tiny preset."""
    start = {"checkpoint": str(checkpoint)} if checkpoint else {"preset": "bert-tiny", **SIZES}
    one = ModelConfig("m", **start)
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(one,),
        data=DataConfig(name=str(source), max_length=16, **options),
        training=TrainingConfig(
            steps=2, batch_size=4, evaluate_every=2, log_every=1, devices=1, figures=False, tensorboard=False
        ),
    )


@pytest.fixture(scope="module")
def positive_first(tmp_path_factory):
    """A folder whose output 0 is "positive", and its own answers in a data folder, whose names sort the other way."""
    place = tmp_path_factory.mktemp("order")
    texts = sentences(60)
    model, tokenizer = folder_of(place / "model", label_names=("positive", "negative"))
    found = answers(model, tokenizer, texts)
    rows = [(text, ("positive", "negative")[number]) for text, number in zip(texts, found, strict=True)]
    write(place / "data" / "train.tsv", rows[:40])
    write(place / "data" / "dev.tsv", rows[40:])
    assert len(set(found[40:])) == 2
    return place


def test_a_folder_scores_all_its_own_answers_right(positive_first, capsys):
    assert is_model_folder(positive_first / "model")
    assert main(["evaluate", str(positive_first / "model"), "--data", str(positive_first / "data")]) == 0
    out = capsys.readouterr()
    assert "100.0 %" in out.out
    assert "classes are matched by name" in out.err
    assert main(["evaluate", str(positive_first / "model")]) == 2
    assert "--data" in capsys.readouterr().err


def test_a_run_keeps_the_checkpoints_order_of_classes(positive_first, tmp_path):
    config = run_of(positive_first / "data", positive_first / "model", tmp_path)
    parts = build(config)
    assert parts.models["m"].config.labels() == ("positive", "negative")
    assert parts.train["m"].label_names == ("positive", "negative")
    texts = parts.train["m"].source.columns["text"]
    np.testing.assert_array_equal(
        parts.train["m"].columns["labels"], answers(parts.models["m"], parts.tokenizers["m"], list(texts))
    )


def test_other_classes_are_refused_or_get_a_new_head(positive_first, tmp_path):
    source = write(tmp_path / "stars.tsv", [(text, f"star{index % 3}") for index, text in enumerate(sentences(30))])
    config = run_of(source, positive_first / "model", tmp_path)
    with pytest.raises(ArenaError, match="--new-head"):
        build(config)
    parts = build(dataclasses.replace(config, data=dataclasses.replace(config.data, new_head=True)))
    assert parts.models["m"].config.labels() == ("star0", "star1", "star2")
    assert any("a new head" in note for note in parts.notes)
    with pytest.raises(ArenaError, match="does not know"):
        evaluate_folder(positive_first / "model", config.data, "all")


def test_names_that_say_no_order_are_not_guessed(tmp_path):
    folder_of(tmp_path / "model")
    source = write(tmp_path / "a.tsv", [(text, ("no", "yes")[i % 2]) for i, text in enumerate(sentences(20))])
    with pytest.raises(ArenaError, match="label_names=no,yes"):
        evaluate_folder(tmp_path / "model", DataConfig(name=str(source)), "all")
    scores = []
    for names in (("no", "yes"), ("yes", "no")):
        config = DataConfig(name=str(source), label_names=names)
        scores.append(evaluate_folder(tmp_path / "model", config, "all")[0]["model"]["accuracy"])
    assert sum(scores) == pytest.approx(1.0)


def test_gpt2_without_a_padding_token_classifies(tmp_path):
    folder_of(tmp_path / "model", "gpt2")
    source = write(tmp_path / "a.tsv", [(text, ("no", "yes")[i % 2]) for i, text in enumerate(sentences(20))])
    config = run_of(source, tmp_path / "model", tmp_path)
    parts = build(config)
    assert parts.models["m"].config.pad_token_id == parts.tokenizers["m"].pad_id
    assert any("config.json pads with no token" in note for note in parts.notes)
    chosen = dataclasses.replace(config.models[0], pad_token="!")
    parts = build(dataclasses.replace(config, models=(chosen,)))
    assert parts.models["m"].config.pad_token_id == parts.tokenizers["m"].backend.token_to_id("!")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder_of(tmp_path / "model")
    larger = data.train_tokenizer(sentences(50), "gpt2", vocab_size=600, min_frequency=1)
    larger.save(tmp_path / "tokenizer")
    source = write(tmp_path / "a.tsv", [(text, i % 2) for i, text in enumerate(sentences(20))])
    config = run_of(source, tmp_path / "model", tmp_path)
    foreign = dataclasses.replace(config.models[0], tokenizer=str(tmp_path / "tokenizer"))
    size = models.read_config(tmp_path / "model").vocab_size
    if larger.vocab_size > size:
        with pytest.raises(ArenaError, match="token embeddings"):
            build(dataclasses.replace(config, models=(foreign,)))


@pytest.mark.parametrize(
    ("kind", "labels", "metric"),
    [
        ("regression", [f"{index % 5}.5" for index in range(40)], "pearson"),
        ("multi_label_classification", ["a|b", "a", "b", ""] * 10, "micro_f1"),
    ],
)
def test_other_problem_types_are_learnt_scored_and_exported(tmp_path, kind, labels, metric):
    source = write(tmp_path / "a.tsv", zip(sentences(40), labels, strict=True))
    config = run_of(source, None, tmp_path, problem_type=kind)
    run = training.train(config, tmp_path / "run")
    scores = [record for record in read(run) if record["kind"] == "evaluation"][-1]["models"]["m"]
    assert {"loss", metric} <= set(scores)
    training.export(run, "m", tmp_path / "export")
    exported = models.read_config(tmp_path / "export")
    assert exported.problem_type == kind
    assert exported.num_labels == (1 if kind == "regression" else 2)
    again, _ = evaluate_folder(tmp_path / "export", config.data, "validation")
    assert again["export"]["loss"] == pytest.approx(scores["loss"], rel=1e-5)
    # From a checkpoint it goes on as its configuration says, and does not need to be told.
    plain = dataclasses.replace(config.data, problem_type=None)
    exported_model = ModelConfig("m", checkpoint=str(tmp_path / "export"))
    parts = build(dataclasses.replace(config, models=(exported_model,), data=plain))
    assert parts.train["m"].source.problem_type == kind


def test_make_model_leaves_a_kept_heads_names_alone(positive_first):
    train = data.load(positive_first / "data", split="train", task="sequence-classification")
    tokenizer = data.load_tokenizer(positive_first / "model")
    one = ModelConfig("m", checkpoint=str(positive_first / "model"))
    assert make_model(one, presets.get("joint-synthetic"), tokenizer, train).config.labels() == ("positive", "negative")
