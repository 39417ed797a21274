"""Relations: what is measured of two tiny runs, joint and alone, holds together; and which runs belong together."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from arena_jax import training
from arena_jax.compare.related_runs import from_record, related_pairs, to_record
from arena_jax.compare.relations import attention_matrices, likeness, pairs_of, sharing
from arena_jax.config import presets
from arena_jax.config.baselines import baseline
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from arena_jax.reports import relations
from arena_jax.transforms.correspondence import by_kind, without_kinds
from tests.training.test_train import tiny


def test_a_kind_that_is_kept_apart_is_shared_with_nobody():
    block = {"attention": {"query": {"kernel": np.ones((2, 3, 3))}}, "mlp": {"up": {"kernel": np.ones((2, 3, 3))}}}
    params = {"a": {"blocks": block}, "b": {"blocks": block}}
    apart = sharing(params, without_kinds(by_kind, ("attention",)))
    assert apart["a", "b"] == {"all": 0.5, "attention": 0.0, "feed-forward": 1.0}
    assert len(attention_matrices(params["a"])) == 2


ALONE = {"optimizer.share_alpha": 0.0, "optimizer.synchronize_beta": 0.0}


def runs(side, *seeds, **changes):
    base = change(presets.get("joint-synthetic"), changes)
    return [(Path(f"{side}-{seed}"), change(base, {"training.seed": seed})) for seed in seeds]


def test_runs_are_paired_by_seed():
    assert pairs_of(runs("joint", 2, 1), runs("lone", 1, 2, **ALONE)) == [
        (Path("joint-1"), Path("lone-1")),
        (Path("joint-2"), Path("lone-2")),
    ]


@pytest.mark.parametrize(
    ("lone", "message"),
    [
        (runs("lone", 1, 1, **ALONE), "give each once"),
        (runs("lone", 1, 3, **ALONE), "give pairs"),
        (runs("lone", 1, 2), "the models of 'lone-1' are not alone: share_alpha is 0.2, synchronize_beta 0.1"),
        (runs("lone", 1, 2, **ALONE | {"optimizer.synchronize_beta": 0.5}), "share_alpha is 0, synchronize_beta 0.5"),
        (runs("lone", 1, 2, **ALONE | {"data.train_limit": 9}), "'lone-1' and 'joint-1' differ in their data"),
        (runs("lone", 1, 2, **ALONE | {"models": ["bert", "gpt2"]}), "'lone-1' has the models bert, gpt2, 'joint-1'"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(lone, message):
    with pytest.raises(ArenaError, match=message) as error:
        pairs_of(runs("joint", 1, 2), lone)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_two_runs_are_related_and_the_page_has_it(tmp_path):
    """Scores are those of `evaluate`; a run beside itself is alike to the last digit."""
    quiet = {"training.figures": False, "training.tensorboard": False, "training.log_every": 1}
    config = change(tiny(), quiet)
    alone = baseline(config, "independent")
    runs = [(training.train(c, tmp_path / name), c) for name, c in (("joint", config), ("alone", alone))]
    ((joint, lone),) = related_pairs(runs[:1], runs[1:], "validation", tmp_path / "page")
    lines = []
    ((again, _),) = related_pairs(runs[:1], runs[1:], "validation", tmp_path / "page", lines.append)
    assert not lines, "what was measured is not measured again"
    assert repr(again) == repr(joint) == repr(from_record(joint.folder, joint.config, to_record(joint)))
    with pytest.raises(ArenaError, match="holds another study"):
        related_pairs(runs[:1], runs[1:], "train", tmp_path / "page")

    scores = training.evaluate(joint.folder)
    for name, accuracy in joint.accuracies.items():
        assert accuracy == pytest.approx(scores[name]["accuracy"])
    assert joint.scores["mean"] == pytest.approx(np.mean(list(joint.accuracies.values())))
    assert joint.scores["gain"] == pytest.approx(joint.scores["ensemble"] - joint.scores["mean"])
    assert 0 <= joint.scores["agreement"] <= 1
    assert math.isfinite(joint.influence["attention"]["bert"]["bert"].gain)
    assert joint.sharing["bert", "gpt2"]["attention"] == 1.0
    assert {x.shape for matrices in joint.attention.values() for x in matrices} == {(16 * 16,)}

    again = joint._replace(config=change(joint.config, {"training.seed": 5}))
    seeds = likeness([joint, again])
    assert seeds["cka"]["bert, seeds"] == [pytest.approx(1.0)]
    assert seeds["distance"]["bert, seeds"] == [0.0]
    text = relations.write([(joint, lone), (again, lone)], tmp_path / "page", "validation")
    assert "what the ensemble adds" in text
    values = json.loads((tmp_path / "page" / "relations.json").read_text())
    assert values["joint less lone"]["mean"]["estimate"] == pytest.approx(joint.scores["mean"] - lone.scores["mean"])
    pictures = {file.stem for file in (tmp_path / "page").glob("*.png")}
    assert pictures == {"system", "influence", "attention", "cka"}
