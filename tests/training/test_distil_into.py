"""A run's ensemble distilled into one of its models: who learns, who rests, where it begins, what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.cli.main import main
from arena_jax.config import ArenaConfig, TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped, load_run
from arena_jax.runs.folder import open_folder
from arena_jax.runs.records import read
from arena_jax.training.distil_into import distillation_config
from arena_jax.training.teachers import distillation_of, teachers_at_rest, teachers_now
from tests.training.test_teachers import alike
from tests.training.test_train import state_of, stop_at, tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture(scope="module")
def run(tmp_path_factory, compile_quickly):
    return training.train(alike(), tmp_path_factory.mktemp("ensemble") / "run")


@pytest.fixture
def described(tmp_path):
    """A run that has not begun: refusals look into its configuration alone."""
    return open_folder(alike(), tmp_path / "run", resume=False)


@pytest.fixture(scope="module")
def distilled(run):
    return training.distil_into(run, "bert")


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


@pytest.mark.slow
def test_one_learns_from_its_own_parameters_on_and_all_teach_unchanged(run, distilled):
    assert distilled == run / "distilled-bert"
    before, after = state_of(run).params, state_of(distilled).params
    same(after["bert-teacher"], before["bert"])
    same(after["gpt2"], before["gpt2"])
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), after["bert"], before["bert"])
    # As far as 8 steps of at most the learning rate go, plus decay: it began where it was.
    assert 0 < max(jax.tree.leaves(moved)) < 10 * load_run(run).optimizer.learning_rate


@pytest.mark.slow
def test_what_is_recorded(run, distilled):
    records = read(distilled)
    trained = [record["models"] for record in records if record["kind"] == "train"]
    assert all(set(models) == {"bert"} and models["bert"]["divergence"] > 0 for models in trained)
    derived = {row["name"]: (row["value"], row["reason"]) for row in records[0]["derived"]}
    assert derived["teacher"] == ("bert-teacher, gpt2", "0.5 of a student's loss, temperature 2")
    scored = [record for record in records if record["kind"] == "evaluation"]
    assert all(record["teachers"] == ["bert-teacher", "gpt2"] for record in scored)
    weights = training.ensemble(run).weights
    assert load_run(distilled).model("bert-teacher").teacher_weight == pytest.approx(weights["bert"])
    assert load_run(distilled).model("gpt2").teacher_weight == pytest.approx(weights["gpt2"])
    alone = training.evaluate(run)
    assert scored[-1]["models"]["bert-teacher"]["loss"] == pytest.approx(alone["bert"]["loss"], rel=1e-6)
    assert scored[-1]["models"]["gpt2"]["loss"] == pytest.approx(alone["gpt2"]["loss"], rel=1e-6)


@pytest.mark.slow
def test_it_goes_on_to_the_bit(run, distilled, tmp_path, monkeypatch):
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        training.distil_into(run, "bert", tmp_path / "run")
    monkeypatch.undo()
    same(state_of(training.train(load_run(tmp_path / "run"), tmp_path / "run", resume=True)), state_of(distilled))


def test_who_teaches_and_who_rests(tmp_path):
    folders = {name: tmp_path / name for name in ("bert", "gpt2")}
    new_heads = dataclasses.replace(alike(), data=dataclasses.replace(alike().data, new_head=True))
    config = distillation_config(new_heads, alike().model("bert"), folders, {"bert": 0.25, "gpt2": 0.75})
    assert not config.data.new_head
    assert [model.teacher_weight for model in config.models] == [1, 0.25, 0.75]
    assert distillation_of(config)["distillation"].weights_of(["bert-teacher", "gpt2"]) == (0.25, 0.75)
    lone = distillation_config(new_heads, alike().model("bert"), folders, {"bert": 0.25, "gpt2": 0.0})
    assert [model.name for model in lone.models] == ["bert", "bert-teacher"], "who has no weight does not teach"
    assert [model.name for model in config.models] == ["bert", "bert-teacher", "gpt2"]
    assert {model.checkpoint for model in config.models} == {str(folder) for folder in folders.values()}
    assert teachers_now(config, {}) == teachers_at_rest(config) == ("bert-teacher", "gpt2")
    assert teachers_at_rest(alike()) == ()
    grown = tuple(dataclasses.replace(model, resize=("3:neurons=48",)) for model in alike().models)
    config = distillation_config(dataclasses.replace(alike(), models=grown), grown[0], folders, {"bert": 1, "gpt2": 1})
    assert {model.resize for model in config.models} == {()}, "a folder has the last shape"


def test_what_cannot_be_is_refused_with_the_reason(described, tmp_path):
    with pytest.raises(ArenaError, match="this run has no model 'bart'; did you mean 'bert'"):
        training.distil_into(described, "bart")
    with pytest.raises(ArenaError, match="distil_into needs the same batch_size and accumulation for all models"):
        distillation_config(tiny(), tiny().model("bert"), {"bert": tmp_path, "gpt2": tmp_path}, {"bert": 1, "gpt2": 1})
    with pytest.raises(ArenaError, match="distil_into says who learns, all others teaching and at rest, and so does"):
        TogetherConfig(distil_into="bert", distil="best")
    with pytest.raises(ArenaError, match="distil_into names 'bart', which is no model of this run; did you mean"):
        dataclasses.replace(alike(), together=TogetherConfig(distil_into="bart"))
    with pytest.raises(ArenaError, match=r"model 'bert' has no part in the ensemble.*give one of gpt2"):
        training.distil_into(described, "bert", weights={"bert": 0.0, "gpt2": 1.0})
    heavy = tuple(dataclasses.replace(model, teacher_weight=2.0) for model in alike().models)
    for together in ({}, {"distil": "bert"}, {"distil": "best"}, {"distil_into": "bert"}):
        with pytest.raises(ArenaError, match="teacher_weight does nothing unless it is one of several teachers"):
            dataclasses.replace(alike(), models=heavy, together=TogetherConfig(**together))
    with pytest.raises(ArenaError, match="a competition's models all train: none is at rest"):
        dataclasses.replace(alike(), arena=ArenaConfig(), together=TogetherConfig(distil_into="bert"))


def test_words_of_the_command_that_do_not_go_together(described, capsys):
    assert main(["ensemble", str(described), "--distil-into", "bert", "--json"]) != 0
    assert "--distil-into trains, and says so in lines" in capsys.readouterr().err
    assert main(["ensemble", str(described), "--output", "x"]) != 0
    assert "give --distil-into MODEL" in capsys.readouterr().err
