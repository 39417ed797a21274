"""A run's models as one answer: what is combined, that no text is scored by a fit that saw it, and refusals."""

import dataclasses
import json

import numpy as np
import pytest

from arena_jax import data, models, training
from arena_jax.cli.main import main
from arena_jax.config import ModelConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.ensemble_lines import ensemble_lines
from arena_jax.training.ensemble import check_models, check_run, combine
from arena_jax.training.objectives import masked_token, next_token
from arena_jax.training.predictions import Predictions, align, predict
from tests.training.test_train import SIZES, tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture(scope="module")
def run(tmp_path_factory, compile_quickly):
    return training.train(tiny(), tmp_path_factory.mktemp("ensemble") / "run")


def test_the_models_alone_score_as_an_evaluation_says(run):
    result = training.ensemble(run)
    alone = training.evaluate(run)
    for name in alone:
        assert result.scores[name]["accuracy"][0] == pytest.approx(alone[name]["accuracy"])
        assert result.scores[name]["loss"][0] == pytest.approx(alone[name]["loss"], rel=1e-5)
        low, high = result.scores[name]["loss"][1:]
        assert low <= result.scores[name]["loss"][0] <= high
    assert sum(result.weights.values()) == pytest.approx(1)
    assert (result.items, result.rows) == (12, 12)
    assert set(result.adds) == {"bert", "gpt2"}


def test_the_command_prints_a_table_or_json(run, capsys):
    assert main(["ensemble", str(run)]) == 0
    lines = capsys.readouterr().out
    assert "ensemble" in lines
    assert "fitted on the other half of its texts" in lines.replace("\n", " ")
    assert main(["ensemble", str(run), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"bert", "gpt2", "ensemble"}


def made(seed, rows, skill=1.0, classes=("no", "yes")):
    random = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, len(classes), rows)
    logits = random.normal(size=(rows, len(classes)))
    logits[np.arange(rows), labels] += skill
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return Predictions(np.stack([np.arange(rows), np.zeros(rows)], 1).astype(np.int64), log_probs, labels, classes)


def test_two_models_with_errors_of_their_own_are_better_together_and_each_adds():
    single = {"a": made(1, 4000), "b": made(2, 4000)}
    fitting = {"a": made(3, 4000), "b": made(4, 4000)}
    result = combine(fitting, single, "test")
    assert result.fitted_on == "validation"
    assert result.scores["ensemble"]["loss"][2] < min(result.scores[name]["loss"][1] for name in single)
    assert all(adds["loss"][1] > 0 and adds["accuracy"][1] > 0 for adds in result.adds.values())
    assert result.scores["ensemble"]["calibration_error"][0] < 0.03


@pytest.mark.slow
def test_a_model_that_knows_nothing_adds_nothing():
    result = combine(*[{"a": made(1 + s, 4000), "b": made(20 + s, 4000, skill=0.0)} for s in (0, 1)], "test")
    assert result.weights["b"] < 0.05
    assert abs(result.adds["b"]["loss"][0]) < 0.003


def test_a_model_that_has_diverged_is_left_out_and_the_rest_is_as_without_it():
    sound = {"a": made(1, 400), "b": made(2, 400)}
    broken = made(3, 400)
    broken.log_probabilities[7, 1] = np.nan
    with_it = {"a": sound["a"], "broken": broken, "b": sound["b"]}
    expected = combine(sound, sound, "validation")
    result = combine(with_it, with_it, "validation")
    assert result.left_out == ("broken",)
    assert result.weights == {**expected.weights, "broken": 0.0}
    assert (result.scores, result.adds, result.temperature) == (expected.scores, expected.adds, expected.temperature)
    assert "left out, diverged: broken" in ensemble_lines(dataclasses.asdict(result))
    # Only what is scored is broken: what it was fitted on does not make it whole.
    later = combine({**sound, "broken": made(3, 400)}, with_it, "test")
    assert (later.left_out, later.scores) == (("broken",), combine(dict(sound), sound, "test").scores)
    with pytest.raises(ArenaError, match="an ensemble needs two models; broken diverged"):
        combine({"a": sound["a"], "broken": broken}, {"a": sound["a"], "broken": broken}, "test")


def test_no_text_is_scored_by_a_fit_that_saw_it():
    """Labels at random, one model that knows them by heart on one half of the texts alone: it must not be trusted."""
    rows = 400
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, rows)
    sure = np.where(np.arange(rows) % 2 == 0, 0.99, 0.01)  # right on even rows, wrong on odd ones
    right = np.where(np.arange(2)[None] == labels[:, None], sure[:, None], 1 - sure[:, None])
    items = np.stack([np.arange(rows), np.zeros(rows)], 1).astype(np.int64)
    heart = Predictions(items, np.log(right), labels, ("no", "yes"))
    even = Predictions(items, np.full((rows, 2), np.log(0.5)), labels, ("no", "yes"))
    predictions = {"even": even, "heart": heart}
    result = combine(predictions, predictions, "validation")
    # Fitted on odd rows the model by heart weighs 0; on even ones nearly 1, and is wrong on all odd ones.
    assert result.scores["ensemble"]["loss"][0] > 2


def test_classes_are_matched_by_name_and_items_by_place():
    first = made(1, 6, classes=("no", "yes", "maybe"))
    order = [2, 0, 1]
    other = Predictions(
        first.items[1:], first.log_probabilities[1:][:, order], np.argsort(order)[first.labels[1:]],
        tuple(first.classes[i] for i in order),
    )  # fmt: skip
    aligned = align({"first": first, "other": other})
    for field in ("items", "log_probabilities", "labels"):
        np.testing.assert_array_equal(getattr(aligned["first"], field), getattr(aligned["other"], field))
    np.testing.assert_array_equal(aligned["other"].labels, first.labels[1:])
    with pytest.raises(ArenaError, match="model 'b' knows the classes no, yes, not no, yes, maybe"):
        align({"a": first, "b": made(2, 6)})
    with pytest.raises(ArenaError, match="have no prediction in common"):
        align({"a": first, "b": first._replace(items=first.items + 10)})
    with pytest.raises(ArenaError, match="do not hold the same labels"):
        align({"a": first, "b": first._replace(labels=(first.labels + 1) % 3)})


def test_words_are_the_same_in_every_tokenizer():
    """A blank gives no token in one tokenizer; a long sentence is cut at another word in each."""
    words = [["Anna", " ", "lives", "in", "Bern"], ["a"] * 5 + ["unbelievably"] * 9]
    labels = [[1, 0, 0, 0, 1], [0] * 14]
    texts = data.Dataset("x", "token-classification", "train", {"words": words, "labels": labels}, ("O", "B-x"))
    predictions = {}
    for family in ("bert", "gpt2"):
        tokenizer = data.train_tokenizer(texts, family, vocab_size=300)
        rows = data.encode(texts, tokenizer, task="token-classification", max_length=12)
        shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 8, "num_heads": 2, "intermediate_size": 8}
        config = models.preset(f"{family}-tiny", label_names=("O", "B-x"), **shape)
        network = models.create(config, "token-classification")
        predictions[family] = predict(family, network, training.tagging, rows, tokenizer, 2)
        for (row, word), label in zip(predictions[family].items.tolist(), predictions[family].labels, strict=True):
            assert labels[row][word] == label
    assert [0, 1] not in predictions["bert"].items.tolist()
    aligned = align(predictions)
    result = combine(aligned, aligned, "validation")
    assert "entity_f1" in result.scores["ensemble"]


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_language_models_are_scored_on_the_same_tokens(family):
    texts = data.synthetic_sentiment().take(30)
    texts = data.Dataset("x", "language-model", "train", {"text": texts.columns["text"]})
    tokenizer = data.train_tokenizer(texts, family, vocab_size=300)
    task = "causal-lm" if family == "gpt2" else "masked-lm"
    objective = next_token if family == "gpt2" else masked_token(tokenizer.mask_id)
    rows = data.encode(texts, tokenizer, task=task, max_length=16)
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 8, "num_heads": 2, "intermediate_size": 8}
    networks = {str(seed): models.create(models.preset(f"{family}-tiny", **shape), task, seed=seed) for seed in (1, 2)}
    predictions = {name: predict(name, network, objective, rows, tokenizer, 4) for name, network in networks.items()}
    np.testing.assert_array_equal(predictions["1"].items, predictions["2"].items)
    aligned = align(predictions)
    result = combine(aligned, aligned, "validation")
    assert result.temperature is None
    assert set(result.scores["ensemble"]) == {"loss"}
    if family == "gpt2":
        ids = rows.batch(np.arange(1))
        logits = np.asarray(networks["1"](ids["input_ids"], ids["attention_mask"]), np.float64)[0]
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = log_probs[np.arange(15), ids["input_ids"][0, 1:]]
        mine = predictions["1"].log_probabilities[predictions["1"].items[:, 0] == 0, 0]
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_models_without_a_common_prediction_are_refused():
    one = dataclasses.replace(tiny(), models=(ModelConfig("bert", preset="bert-tiny", **SIZES),))
    with pytest.raises(ArenaError, match="an ensemble needs two models"):
        check_run(one)
    with pytest.raises(ArenaError, match="an ensemble of question answering is not built"):
        check_run(dataclasses.replace(tiny(), task="question-answering"))
    texts = presets.get("arena-small")
    with pytest.raises(ArenaError, match="an ensemble of a run with --domains is not built"):
        check_run(dataclasses.replace(texts, arena=dataclasses.replace(texts.arena, domains=(("law", "LAW"),))))
    networks = {"bert": models.create("bert-tiny", "masked-lm"), "gpt2": models.create("gpt2-tiny", "causal-lm")}
    with pytest.raises(ArenaError, match=r"no common prediction \(bert masked-lm, gpt2 causal-lm\)"):
        check_models(networks, None)
