"""A model's card says what the run's records, its configuration and its data say; intervals are the jackknife's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import re

import jax
import numpy as np
import pytest
from huggingface_hub import ModelCard
from scipy import stats

from arena_jax import training
from arena_jax.cli.main import main
from arena_jax.config import DataConfig, ModelConfig, from_dict, presets
from arena_jax.reports.model_card import _parity
from arena_jax.reports.parity_figure import ParityFigure, parity_figure
from arena_jax.runs import load_run
from arena_jax.runs.document import markdown
from arena_jax.training.score_intervals import score_intervals

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}


@pytest.fixture(scope="module")
def run(tmp_path_factory, compile_quickly):
    preset = presets.get("joint-synthetic")
    config = dataclasses.replace(
        preset,
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("gpt2", preset="gpt2-tiny", **SIZES)),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=20),
        training=dataclasses.replace(
            preset.training, steps=4, epochs=None, batch_size=8, tensorboard=False, figures=False, devices=1
        ),
    )
    return training.train(config, tmp_path_factory.mktemp("card") / "run")


def test_an_interval_of_single_rows_is_students(run):
    """With as many groups as rows, the jackknife of a mean is its classical standard error, exactly."""
    parts, step, state = training.restore(run, load_run(run))
    rows = parts.validation["bert"]
    scores = score_intervals(step, state.params["bert"], "bert", rows, 64)
    assert len(rows) == 20
    single = [
        float(r.sums["correct"])
        for _, r in training.evaluation.results(step, state.params["bert"], "bert", rows, 1, None)
    ]
    mean, error = np.mean(single), stats.sem(single)
    low, high = stats.t.interval(0.95, 19, loc=mean, scale=error)
    assert scores["accuracy"] == pytest.approx((mean, low, high), abs=1e-12)
    whole = training.evaluate(run)["bert"]
    assert {name: score.value for name, score in scores.items()} == pytest.approx(whole, rel=1e-6)
    assert all(score.low <= score.value <= score.high for score in scores.values())


@pytest.mark.slow
def test_the_card_is_one_the_hub_reads_and_holds_what_was_measured(run, tmp_path, capsys):
    assert main(["export", str(run), "bert", str(tmp_path / "bert"), "--card"]) == 0
    card = ModelCard.load(tmp_path / "bert" / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.license is None
    listing = re.search(r"```text\n(.*?)\n```", card.text, re.DOTALL).group(1)
    assert from_dict(json.loads(listing)) == load_run(run)
    accuracy = training.evaluate(run)["bert"]["accuracy"]
    assert re.search(rf"\| accuracy \| {accuracy:.4g} \| \[[\d.-]+, [\d.-]+\] \|", card.text)
    assert f"jax {jax.__version__}" in card.text
    assert "trained together with gpt2" in card.text
    assert str(math.nan) not in card.text
    figures = re.findall(r"\| (\w+) \| (\S+) \| 1e-10 \| agrees \|", card.text)
    assert {layer for layer, _ in figures} == {"forward", "loss", "backward"}
    assert all(0 <= float(error) < 1e-10 for _, error in figures)
    assert f"jax {jax.__version__}, torch " in card.text


def test_a_card_without_pytorch_says_that_nothing_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    figure = parity_figure(tmp_path)
    assert (figure.rows, figure.reason, figure.agrees) == ([], "torch is not installed", False)
    assert "Not measured: torch is not installed." in markdown(_parity(figure))


def test_a_card_says_where_it_differs():
    row = {"layer": "loss", "error": 1e-3, "tolerance": 1e-10, "passed": False}
    assert "| loss | 1.0e-03 | 1e-10 | DIFFERS |" in markdown(_parity(ParityFigure([row], {"torch": "2"})))


def test_public_needs_a_push_and_a_name_is_checked_before_anything_is_written(run, tmp_path, capsys):
    assert main(["export", str(run), "bert", str(tmp_path / "bert"), "--public"]) == 2
    assert main(["export", str(run), "bert", str(tmp_path / "bert"), "--push", "bert"]) == 2
    assert "write OWNER/NAME" in capsys.readouterr().err
    assert not (tmp_path / "bert").exists()
