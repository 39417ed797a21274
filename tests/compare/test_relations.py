"""Two tiny runs, one joint and one alone, related: what is measured holds together, and the page has it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from arena_jax import training
from arena_jax.compare.relations import attention_matrices, likeness, pairs_of, relate, sharing
from arena_jax.config.baselines import baseline
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from arena_jax.reports import relations
from arena_jax.transforms import by_kind, without_kinds
from tests.training.test_train import tiny

pytestmark = pytest.mark.usefixtures("compile_quickly")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, compile_quickly):
    folder = tmp_path_factory.mktemp("related")
    quiet = {"training.figures": False, "training.tensorboard": False, "training.log_every": 1}
    config = change(tiny(), quiet)
    joint = training.train(config, folder / "joint")
    return relate(joint), relate(training.train(baseline(config, "independent"), folder / "alone"))


def test_what_is_measured_of_a_run(runs):
    joint, _ = runs
    scores = training.evaluate(joint.folder)
    for name, accuracy in joint.accuracies.items():
        assert accuracy == pytest.approx(scores[name]["accuracy"])
    assert joint.scores["mean"] == pytest.approx(np.mean(list(joint.accuracies.values())))
    assert joint.scores["gain"] == pytest.approx(joint.scores["ensemble"] - joint.scores["mean"])
    assert 0 <= joint.scores["agreement"] <= 1
    assert set(joint.influence) <= {"attention", "feed-forward", "embedding", "normalisation", "bias", "head"}
    own = joint.influence["attention"]["bert"]["bert"]
    assert math.isfinite(own.gain)
    assert joint.sharing["bert", "gpt2"]["attention"] == 1.0
    assert {shape for m in joint.attention.values() for shape in {x.shape for x in m}} == {(16 * 16,)}
    assert joint.hidden["bert"].shape[1] == 16


def test_the_page_of_pairs(runs, tmp_path):
    joint, lone = runs
    other = [
        run._replace(config=dataclasses.replace(run.config, training=dataclasses.replace(run.config.training, seed=5)))
        for run in runs
    ]
    pairs = pairs_of([joint, other[0]], [other[1], lone])
    assert pairs[0] == (joint, lone)
    text = relations.write(pairs, tmp_path / "page", "validation")
    assert "what the ensemble adds" in text
    values = json.loads((tmp_path / "page" / "relations.json").read_text())
    assert values["joint less lone"]["mean"]["estimate"] == pytest.approx(joint.scores["mean"] - lone.scores["mean"])
    assert {file.name for file in (tmp_path / "page").glob("*.png")} == {
        "system.png", "influence.png", "attention.png", "cka.png",
    }  # fmt: skip
    seeds = likeness([joint, other[0]])
    assert seeds["cka"]["bert, seeds"] == [pytest.approx(1.0)], "one run beside itself"
    assert seeds["distance"]["bert, seeds"] == [0.0]
    with pytest.raises(ArenaError, match="give pairs"):
        pairs_of([joint], [other[1]])


def test_a_kind_that_is_kept_apart_is_shared_with_nobody(runs):
    block = {"attention": {"query": {"kernel": np.ones((2, 3, 3))}}, "mlp": {"up": {"kernel": np.ones((2, 3, 3))}}}
    params = {"a": {"blocks": block}, "b": {"blocks": block}}
    apart = sharing(params, without_kinds(by_kind, ("attention",)))
    assert apart["a", "b"] == {"all": 0.5, "attention": 0.0, "feed-forward": 1.0}
    assert len(attention_matrices(params["a"])) == 2
