"""Rates by part in a run: said at its head, used, kept, and the same after a stop; in a competition too."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import competition
from arena_jax.cli import main as cli
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, load, presets
from arena_jax.config.change import change
from arena_jax.config.component_rates import BLOCKWISE, TYPES
from arena_jax.config.errors import ArenaError
from arena_jax.runs import load_run
from arena_jax.runs.records import read
from arena_jax.training.build_optimizer import build_optimizer, component_notes

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
RATES = {"embeddings": 10, "query-key": [8, 4], "norms": 0}


def tiny(**optimizer):
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(
            ModelConfig("bert", preset="bert-tiny", **SIZES),
            ModelConfig("gpt2", preset="gpt2-tiny", component_rates="blockwise", **SIZES),
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=2, component_rates=RATES, **optimizer),
        training=TrainingConfig(
            steps=4, batch_size=8, evaluation_batch_size=8, log_every=1, evaluate_every=2, checkpoint_every=2,
            tensorboard=False, figures=False, devices=1,
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_that_died_goes_on_with_the_same_rates_to_the_bit(tmp_path, monkeypatch, capsys):
    whole = training.train(tiny(), tmp_path / "whole")
    printed = " ".join(capsys.readouterr().out.split())
    # By hand: 10 · 10 · √(8 · 4), and 1 for the three that are not named; norms stand still and do not count.
    mean = (100 * 32**0.5) ** (1 / 6)
    assert (
        f"learning rate by part of bert, scaled to a geometric mean of 1: token embedding ×{10 / mean:.3g}, position"
        f" embedding ×{10 / mean:.3g}, norms ×0, query/key ×{8 / mean:.3g}/{4 / mean:.3g}, value/output"
        f" ×{1 / mean:.3g}, feed-forward ×{1 / mean:.3g}, task head ×{1 / mean:.3g}"
    ) in printed
    blockwise = np.prod(list(BLOCKWISE.values())) ** (1 / 6)
    assert f"of gpt2, scaled to a geometric mean of 1: token embedding ×{10 / blockwise:.3g}," in printed
    assert "task head ×1" in printed.split("by part of gpt2")[1], "the recipe says nothing of it"
    assert load(whole / "config.json").optimizer.component_rates == tiny().optimizer.component_rates

    original, steps = training.Step.run, []

    def run_and_die(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == 4:
            raise RuntimeError("power cut")
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run_and_die)
    with pytest.raises(RuntimeError, match="power cut"):
        training.train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(tiny(), tmp_path / "run", resume=True)
    ends = [training.restore(folder, load_run(folder))[2] for folder in (whole, run)]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    _, step, _ = training.restore(whole, load_run(whole))
    first, last = step.init().params["bert"], ends[0].params["bert"]
    np.testing.assert_array_equal(first["embeddings"]["norm"]["scale"], last["embeddings"]["norm"]["scale"])
    assert not np.array_equal(first["embeddings"]["token"]["embedding"], last["embeddings"]["token"]["embedding"])


@pytest.mark.slow
def test_a_competition_trains_with_them_too(tmp_path):
    config = tiny()
    arena = ArenaConfig(memory_budget="2GB", reallocate_every=2, batch_sizes=(4, 8))
    run = competition.train(dataclasses.replace(config, arena=arena), tmp_path / "arena")
    notes = [record["text"] for record in read(run) if record["kind"] == "note"]
    assert sum("learning rate by part" in note for note in notes) == 2
    _, step, state = training.restore(run, load_run(run))
    norms = [tree["bert"]["embeddings"]["norm"]["scale"] for tree in (step.init().params, state.params)]
    np.testing.assert_array_equal(*norms)


def test_the_recipe_is_the_studys():
    config = change(tiny(), {"optimizer.component_rates": "blockwise"})
    ratios = {part: numbers[0] for part, numbers in config.optimizer.component_rates}
    for part in TYPES[:-1]:
        assert ratios[part] / ratios["norms"] == pytest.approx(BLOCKWISE[part])
    assert np.prod(list(ratios.values())) == pytest.approx(1)


def test_files_options_and_objects_say_the_same(tmp_path):
    file = tmp_path / "rates.json"
    file.write_text(json.dumps(RATES))
    want = tiny().optimizer.component_rates
    for spelling in (str(file), "embeddings=10,query/key=8/4,norms=0", RATES):
        assert change(tiny(), {"optimizer": {"component_rates": spelling}}).optimizer.component_rates == want
    file.write_text(json.dumps({"component_rates": RATES, "cost": "whatever"}))
    assert change(tiny(), {"models": {"gpt2": {"component_rates": str(file)}}}).model("gpt2").component_rates == want


BAD = {
    "query-kay=8": "names a part 'query-kay'; did you mean 'query-key'?",
    "query-key=fast": "gives query-key 'fast': write a number, or one per layer",
    "norms=1/2": "gives norms 2 numbers: only query/key, value/output, feed-forward have one per layer",
    "norms=-1": "gives norms -1: write numbers that are at least 0",
    "norms=nan": "gives norms nan",
    "norms=0": "holds no number above 0: use freeze",
    "embeddings=1,token-embedding=2": "gives token embedding twice",
    "norms=1,2": "holds '2': write PART=X",
    "blokwise": "nor a recipe; did you mean 'blockwise'?",
}
BAD_FILES = {
    "{": "is not JSON",
    "[1]": "holds no rates: write one object",
    '{"norms": "x"}': "gives norms 'x': write a number",
    '{"norms": []}': "gives norms []",
    '{"component_rates": 3}': "holds no rates",
    '{"heads": 3}': "names a part 'heads'; known: embeddings, feed-forward",
}


@pytest.mark.parametrize("text", [*BAD, *BAD_FILES])
def test_what_is_no_rate_is_refused_in_one_line(text, tmp_path, capsys):
    message, option = BAD.get(text, BAD_FILES.get(text)), text
    if text in BAD_FILES:
        option = str(tmp_path / "rates.json")
        (tmp_path / "rates.json").write_text(text)
    for words in (["--component-rates", option], ["--model", f"bert.component_rates={option}"]):
        assert cli.main(["train", "joint-synthetic", *words, "--output", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"freeze": ("*/embeddings",)}, "no component 'token embedding'"),
        ({}, "'gpt2' is given 3 numbers for 'feed-forward', and has 2 layers"),
    ],
)
def test_rates_for_what_does_not_train_are_refused(optimizer, message):
    config = tiny(**optimizer)
    if not optimizer:
        config = change(config, {"models": {"gpt2": {"component_rates": "feed-forward=1/2/3"}}})
    params = {"bert": shapes(), "gpt2": shapes()}
    for act in (lambda: build_optimizer(config).init(params), lambda: component_notes(config, params)):
        with pytest.raises(ArenaError, match=message):
            act()


def shapes():
    block = {
        "attention": {"query": {"kernel": np.ones((2, 4, 4))}},
        "feed_forward": {"up": {"kernel": np.ones((2, 4))}},
    }
    table, scale = {"token": {"embedding": np.ones((3, 4))}, "position": {"embedding": np.ones((3, 4))}}, np.ones(4)
    return {"embeddings": {**table, "norm": {"scale": scale}}, "blocks": block}
