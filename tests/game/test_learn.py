"""Rates that are learned: a run's own training is what runs, and `train` says what was never measured."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from arena_jax import game, training
from arena_jax.cli.main import main
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, load, presets
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from arena_jax.game.learn import learn_rates, prepare
from arena_jax.runs import load_run

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
STEPS = 4


def tiny():
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("gpt2", preset="gpt2-tiny", dropout=0.0, **SIZES),),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=0),
        training=TrainingConfig(
            steps=STEPS, batch_size=8, evaluation_batch_size=12, log_every=1, evaluate_every=STEPS, tensorboard=False,
            figures=False, devices=1,
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_what_the_search_trains_is_what_a_run_with_these_rates_trains(tmp_path):
    """The multipliers that arrive with each update give the parameters of a run that has them in its program."""
    trainings = prepare(tiny(), None, [0])
    assert trainings.types == (
        "token embedding", "position embedding", "norms", "query/key", "value/output", "feed-forward", "task head"
    )  # fmt: skip
    numbers = [2.0, 1.0, 1.0, 0.5, 1.0, 2.0, 1.0]
    params = trainings.run(np.array(numbers), 0, STEPS)
    rates = dict(zip(trainings.types, numbers, strict=True))
    run = training.train(change(tiny(), {"optimizer": {"component_rates": rates}}), tmp_path / "run")
    state = training.restore(run, load_run(run))[2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), params, state.params["gpt2"])
    scores = training.evaluation.evaluate(run)["gpt2"]
    assert trainings.loss(params) == pytest.approx(scores["loss"], rel=1e-5)


@pytest.mark.slow
def test_learned_rates_are_used_and_what_was_never_measured_is_said(tmp_path, capsys):
    config, rates = tmp_path / "config.json", tmp_path / "rates.json"
    run = training.train(tiny(), tmp_path / "run")
    words = ["game", "learn", str(run), "--steps", str(STEPS), "--seeds", "1", "--rounds", "0", "--actions", "1,4"]
    assert main([*words, "--output", str(rates)]) == 0
    content = json.loads(rates.read_text())
    first = rates.read_text()
    learned = content["learned"]
    assert np.prod(list(content["component_rates"].values())) == pytest.approx(1)
    assert learned["steps"] == STEPS
    assert learned["on"]["parameters"] == sum(p.size for p in jax.tree.leaves(prepare(tiny(), None, [0]).initial[0]))
    # All ones, each of seven parts alone, and together where more than one helps alone.
    assert 8 <= learned["cost"]["trainings"] <= 9
    assert learned["cost"]["flops"] > 0
    assert main([*words, "--output", str(rates)]) == 0
    again = json.loads(rates.read_text())
    for part in (content, again):
        part["learned"].pop("cost")
    assert again == content, "with --steps it repeats to the bit"
    rates.write_text(first)

    capsys.readouterr()
    words = ["train", "--config", str(run / "config.json"), "--component-rates", str(rates), "--steps", "2"]
    assert main([*words, "--output", str(tmp_path / "a")]) == 0
    assert "never measured" not in capsys.readouterr().err
    used = dict(load(tmp_path / "a" / "config.json").optimizer.component_rates)
    assert {part: numbers[0] for part, numbers in used.items()} == content["component_rates"]
    other = [
        *words,
        "--model",
        "gpt2.hidden_size=32",
        "--data",
        "synthetic-sentiment",
        "--models",
        "gpt2,bert=bert-tiny",
    ]
    assert main([*other, "--output", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split("never measured on ")[1] for line in said if "never measured" in line] == [
        "gpt2, another size", "bert, another family"
    ]  # fmt: skip
    assert not config.exists()


BAD = {
    "nothing": ({}, "give either a time to spend or the steps"),
    "both": ({"seconds": 9.0, "steps": 3}, "give either a time to spend or the steps"),
    "no time": ({"seconds": 1e-3}, "the least that says anything: give"),
    "no seeds": ({"steps": 3, "seeds": 0}, "seeds is 0"),
    "no such model": ({"steps": 3, "model": "gpt"}, "did you mean 'gpt2'"),
    "no choice": ({"steps": 1, "seeds": 1, "actions": (2.0,)}, "with 1 among them"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_learned_is_refused(name):
    options, message = BAD[name]
    with pytest.raises(ArenaError, match=message):
        learn_rates(tiny(), **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["joint-syntetic"], "is not a run's folder"),
        (["joint-synthetic", "--spend", "soon"], "'soon' is no length of time"),
        (["joint-synthetic", "--actions", "a"], "--actions is 'a'"),
        (["joint-synthetic", "--steps", "0"], "--steps is 0"),
        (["joint-synthetic", "--spend", "9s", "--steps", "3"], "not allowed with"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line(words, message, tmp_path, capsys):
    assert main(["game", "learn", *words, "--output", str(tmp_path / "rates.json")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_file_that_says_in_another_form_where_it_is_from_is_refused(tmp_path, capsys):
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"component_rates": {"norms": 2}, "learned": {"on": "a boat"}}))
    words = ["train", "joint-synthetic", "--component-rates", str(file), "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert "remove 'learned'" in capsys.readouterr().err
    assert game.learn_rates is learn_rates
