"""Distillation in runs: who teaches when, what is recorded, a resume to the bit, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from arena_jax import data, training
from arena_jax.cli.options import apply
from arena_jax.config import ArenaConfig, ModelConfig, TogetherConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped, load_run
from arena_jax.runs.records import read
from arena_jax.training.build import build
from arena_jax.training.teachers import check_rows, teachers_now
from tests.training.test_train import SIZES, state_of, stop_at, tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


def alike():
    """The models of `tiny` with one batch size: they see the same rows."""
    return dataclasses.replace(
        tiny(), models=tuple(dataclasses.replace(model, batch_size=None) for model in tiny().models)
    )


def taught(distil="best", **options):
    return dataclasses.replace(alike(), together=TogetherConfig(distil=distil, **options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(taught(), tmp_path_factory.mktemp("taught") / "run")


@pytest.mark.slow
def test_the_better_model_teaches_from_the_first_evaluation_on(finished):
    first, last = (record for record in read(finished) if record["kind"] == "evaluation")
    losses = {name: metrics["loss"] for name, metrics in first["models"].items()}
    assert first["teachers"] == [min(losses, key=losses.get)]
    before, after = (record["models"] for record in read(finished) if record["kind"] == "train")
    assert not any("divergence" in metrics for metrics in before.values())
    assert {name for name, metrics in after.items() if "divergence" in metrics} == set(losses) - set(first["teachers"])
    derived = {row["name"]: (row["value"], row["reason"]) for row in read(finished)[0]["derived"]}
    assert derived["teacher"] == ("best", "0.5 of a student's loss, temperature 2")
    assert load_run(finished) == taught()
    assert last["teachers"]
    # What is scored is the task's own loss: an evaluation knows of no teacher.
    assert training.evaluate(finished)["bert"] == pytest.approx(last["models"]["bert"], rel=1e-6)


@pytest.mark.slow
def test_a_run_that_teaches_goes_on_to_the_bit(finished, tmp_path, monkeypatch):
    stop_at(monkeypatch, 7)
    with pytest.raises(Stopped):
        training.train(taught(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(taught(), tmp_path / "run", resume=True)
    for a, b in zip(*(jax.tree.leaves(state_of(folder)) for folder in (finished, run)), strict=True):
        np.testing.assert_array_equal(a, b)
    losses = [[record["models"] for record in read(folder) if record["kind"] == "train"] for folder in (finished, run)]
    assert [m["bert"]["loss"] for m in losses[0]] == [m["bert"]["loss"] for m in losses[1]]


def test_who_teaches():
    run = taught()
    assert teachers_now(run, {}) == ()
    assert teachers_now(run, {"bert": 0.5, "gpt2": 0.4}) == ("gpt2",)
    assert teachers_now(run, {"bert": 0.5, "gpt2": float("nan")}) == ("bert",)
    assert teachers_now(taught("gpt2"), {}) == ("gpt2",)
    assert teachers_now(taught("ensemble"), {}) == ("bert", "gpt2")
    assert teachers_now(alike(), {"bert": 0.5, "gpt2": 0.4}) == ()


def test_options_of_the_command_line():
    words = {"together.distil": "gpt2", "together.distil_alpha": "0.9"}
    assert apply(presets.get("joint-synthetic"), words).together == TogetherConfig(distil="gpt2", distil_alpha=0.9)


def test_what_cannot_be_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ArenaError, match="names 'gpt3', which is no model of this run; did you mean 'gpt2'"):
        taught("gpt3")
    with pytest.raises(ArenaError, match="distil_alpha does nothing without a teacher"):
        TogetherConfig(distil_alpha=0.5)
    with pytest.raises(ArenaError, match="needs the same batch_size and accumulation for all models"):
        dataclasses.replace(
            taught(), models=(alike().models[0], dataclasses.replace(alike().models[1], accumulation=4))
        )
    with pytest.raises(ArenaError, match="a competition's models all train: none is at rest"):
        dataclasses.replace(alike(), together=TogetherConfig(distil_into="bert"), arena=ArenaConfig())
    (tmp_path / "texts.txt").write_text("\n\n".join(data.synthetic_sentiment().columns["text"][:60]))
    two = (ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("roberta", preset="roberta-tiny", **SIZES))
    source = dataclasses.replace(tiny().data, name=str(tmp_path / "texts.txt"))
    run = dataclasses.replace(
        taught(),
        task="language-model",
        models=two,
        data=source,
    )
    parts = build(run)
    with pytest.raises(ArenaError, match="cannot teach one another masked-lm: their tokens differ"):
        check_rows(run, parts, None)
    both = dict.fromkeys(parts.train, parts.train["bert"])
    same = parts._replace(train=both, tokenizers=dict.fromkeys(both, parts.tokenizers["bert"]))
    check_rows(run, same, None)
