"""Which evaluation is the best, when a run ends early, and which checkpoint is called best."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.runs import Session
from arena_jax.runs.evaluations import Evaluations


@given(
    st.lists(st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0, math.nan]), min_size=2, max_size=2), max_size=8),
    st.sampled_from(["accuracy", "loss"]),
    st.integers(1, 3),
    st.integers(0, 8),
)
def test_the_best_and_the_count_are_those_of_numpy_wherever_the_run_was_interrupted(values, metric, limit, cut):
    evaluations = Evaluations(metric, limit)
    for step, pair in enumerate(values, start=1):
        if step == cut:
            evaluations = Evaluations(metric, limit, evaluations.state())
        evaluations.add(step, {"a": {metric: pair[0]}, "b": {metric: pair[1]}})
    costs = [-SCORES[metric].sign * np.mean(pair) for pair in values]
    finite = np.where(np.isnan(costs), np.inf, costs)
    best = int(np.argmin(finite)) + 1 if np.isfinite(finite).any() else None
    assert evaluations.best_step == best
    assert evaluations.without_gain == len(values) - (best or 0)
    assert evaluations.over == (evaluations.without_gain >= limit)
    if values:
        np.testing.assert_equal(evaluations.cost, costs[-1])


def test_a_metric_that_a_model_has_not_is_named():
    with pytest.raises(ArenaError, match=r"score is accuracy, and bert has none: it has loss, pearson; give one"):
        Evaluations("accuracy").add(1, {"bert": {"loss": 1.0, "pearson": 0.5}})


def test_a_score_belongs_to_its_task():
    run = presets.get("joint-synthetic")
    with pytest.raises(ArenaError, match=r"training.score: sequence-classification has no entity_f1; it has loss, acc"):
        dataclasses.replace(run, training=dataclasses.replace(run.training, score="entity_f1"))


@pytest.mark.parametrize(("score", "best"), [("loss", 4), ("accuracy", 2)])
def test_the_best_checkpoint_is_the_best_by_the_score_and_is_kept(tmp_path, score, best):
    """The loss falls to the end; the accuracy is highest at step 2, long before the newest."""
    run = presets.get("joint-synthetic")
    training = dataclasses.replace(run.training, tensorboard=False, keep_checkpoints=1, score=score)
    with Session(dataclasses.replace(run, training=training), tmp_path / "run") as session:
        state, _ = session.begin({"a": jnp.zeros(2)}, ("a",))
        for step, accuracy in enumerate((0.5, 0.875, 0.75, 0.625), start=1):
            session.record_evaluation(step, {"a": {"loss": 1 / step, "accuracy": accuracy}}, epoch=0.0)
            session.save(step, state, {})
        session.checkpoints.wait()
        assert session.checkpoints.best == best
        assert session.checkpoints.steps == sorted({best, 4})
