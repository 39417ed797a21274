"""Running averages and means of checkpoints: against NumPy, frozen with their model, resumed to the bit, exported."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.cli.main import main
from arena_jax.config import TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Stopped, load_run
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.averages import first_average, next_average
from tests.training.test_modules import Classifier, batch, objective
from tests.training.test_train import state_of, stop_at, tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


def averaging():
    return dataclasses.replace(tiny(), together=TogetherConfig(ema=0.75))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(averaging(), tmp_path_factory.mktemp("averages") / "run")


def test_it_is_the_plain_mean_and_then_decays():
    """In double precision, against the sums written out."""
    with jax.enable_x64(True):
        values = np.random.default_rng(0).normal(size=(9, 3))
        average = first_average({"w": jnp.full(3, 7.0)})
        expected = values[0]
        for n, value in enumerate(values, start=1):
            average = next_average(average, {"w": jnp.asarray(value)}, 0.8, True)
            expected = values[:n].mean(0) if n <= 5 else 0.8 * expected + 0.2 * value
            np.testing.assert_allclose(average.params["w"], expected, rtol=1e-13)


def test_a_model_that_sits_out_keeps_its_average_and_the_parameters_know_nothing_of_it():
    made = {"a": Classifier(3, 1), "b": Classifier(3, 2)}
    objectives = dict.fromkeys(made, objective)
    plain = training.make_step(made, optax.sgd(0.1), objectives, skip_nonfinite=True)
    step = training.make_step(made, optax.sgd(0.1), objectives, skip_nonfinite=True, ema=0.5)
    state, without = step.init(), plain.init()
    # The parameters in order of steps, by model; b sits out the second one.
    seen = {"a": [], "b": []}
    for number in range(3):
        active = {"a": np.bool_(True), "b": np.bool_(number != 1)}
        rows = dict.fromkeys(made, batch(seed=number))
        state, _ = step(state, rows, active=active)
        without, _ = plain(without, rows, active=active)
        for name in made:
            if active[name]:
                seen[name].append(jax.tree.map(np.asarray, state.params[name]))
    jax.tree.map(np.testing.assert_array_equal, state.params, without.params)
    assert [int(state.averages[name].steps) for name in made] == [3, 2]
    for name, history in seen.items():
        expected = history[0]
        for tree in history[1:]:
            expected = jax.tree.map(lambda old, new: 0.5 * old + 0.5 * new, expected, tree)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.averages[name].params, expected)
    assert not plain.init().averages
    abstract = step.abstract_state()
    assert jax.tree.structure(abstract.averages) == jax.tree.structure(state.averages)


@pytest.mark.slow
def test_a_run_scores_them_and_goes_on_to_the_bit(finished, tmp_path, monkeypatch):
    evaluations = [record for record in read(finished) if record["kind"] == "evaluation"]
    assert all(set(record["averages"]) == {"bert", "gpt2"} for record in evaluations)
    assert "of averages: bert " in narrate(read(finished))
    scores = training.evaluate(finished, checkpoint="ema")
    assert scores["gpt2"] == pytest.approx(evaluations[-1]["averages"]["gpt2"], rel=1e-6)
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        training.train(averaging(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(averaging(), tmp_path / "run", resume=True)
    assert state_of(run).averages
    for a, b in zip(*(jax.tree.leaves(state_of(folder)) for folder in (finished, run)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_mean_of_the_last_checkpoints(finished, tmp_path):
    config = load_run(finished)
    each = [training.restore(finished, config, step)[2].params for step in ("6", "8")]
    mean = training.restore(finished, config, "mean:2")[2].params
    jax.tree.map(lambda m, a, b: np.testing.assert_allclose(m, (a + b) / 2, rtol=1e-6, atol=1e-9), mean, *each)
    training.export(finished, "gpt2", tmp_path / "mean", "mean:2")
    exported = models.split(models.from_pretrained(tmp_path / "mean"))[1]
    jax.tree.map(np.testing.assert_array_equal, exported, mean["gpt2"])
    training.export(finished, "gpt2", tmp_path / "ema", "ema")
    exported = models.split(models.from_pretrained(tmp_path / "ema"))[1]
    jax.tree.map(np.testing.assert_array_equal, exported, state_of(finished).averages["gpt2"].params)


def test_checkpoints_are_compared_in_one_table(finished, capsys):
    assert main(["evaluate", str(finished), "--checkpoint", "newest,ema,mean:3", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) == {f"{name} {which}" for name in ("bert", "gpt2") for which in ("newest", "ema", "mean:3")}


def test_what_there_is_not_is_refused(finished):
    config = load_run(finished)
    for which, message in (
        ("mean:1", "give 2 or more checkpoints"),
        ("mean:x", "does not say how many"),
        ("mean:9", "has 3 checkpoints, not 9"),
    ):
        with pytest.raises(ArenaError, match=message):
            training.restore(finished, config, which)
    made = {"a": Classifier(3, 1)}
    with pytest.raises(ArenaError, match=r"ema is 1\.0; give a decay"):
        training.make_step(made, optax.sgd(0.1), {"a": objective}, ema=1.0)


@pytest.mark.slow
def test_a_run_without_averages_has_none_to_restore(tmp_path):
    short = dataclasses.replace(tiny().training, steps=1)
    run = training.train(dataclasses.replace(tiny(), training=short), tmp_path / "r")
    with pytest.raises(ArenaError, match="has kept no running average: train with --ema"):
        training.restore(run, load_run(run), "ema")
