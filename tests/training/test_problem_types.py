"""Regression and several labels: losses against PyTorch's, scores against SciPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, train_tokenizer
from arena_jax.training import metrics
from arena_jax.training.multi_label import f1_scores, multi_label
from arena_jax.training.objectives import objective_for
from arena_jax.training.regression import correlations, regression


def model_of(logits):
    return lambda input_ids, **_: jnp.asarray(logits)


def batch_of(labels, valid):
    return {
        "input_ids": jnp.zeros((len(labels), 2), jnp.int32),
        "labels": jnp.asarray(labels),
        "valid": jnp.asarray(valid),
    }


def test_losses_are_pytorchs():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    valid = np.array([True, True, False, True])
    outputs, targets = random.normal(size=(4, 1)).astype(np.float32), random.normal(size=4).astype(np.float32)
    sums = regression(model_of(outputs), batch_of(targets, valid), jax.random.key(0), True).sums
    theirs = torch.nn.MSELoss()(torch.tensor(outputs[valid, 0]), torch.tensor(targets[valid]))
    np.testing.assert_allclose(sums["loss_sum"] / sums["count"], theirs, rtol=1e-6)
    logits = 5 * random.normal(size=(4, 3)).astype(np.float32)
    labels = random.integers(0, 2, (4, 3)).astype(np.float32)
    result = multi_label(model_of(logits), batch_of(labels, valid), jax.random.key(0), False)
    theirs = torch.nn.BCEWithLogitsLoss()(torch.tensor(logits[valid]), torch.tensor(labels[valid]))
    np.testing.assert_allclose(result.sums["loss_sum"] / result.sums["count"], theirs, rtol=1e-6)
    right = ((logits > 0) == (labels > 0.5)).all(1) & valid
    assert int(result.sums["correct"]) == right.sum()


def test_rows_that_only_fill_a_batch_do_not_count():
    outputs = np.array([[1.0], [np.nan]], np.float32)
    sums = regression(model_of(outputs), batch_of(np.zeros(2, np.float32), [True, False]), jax.random.key(0), True).sums
    assert float(sums["loss_sum"]) == 1.0
    assert float(sums["count"]) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_correlations_are_scipys(seed):
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, 40) / 2  # with equal values, as in STS-B
    predictions = np.round(labels + random.normal(size=40), 1)
    scores = correlations(labels, predictions)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(labels, predictions).statistic, abs=1e-12)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(labels, predictions).statistic, abs=1e-12)


def test_a_constant_correlates_with_nothing():
    assert all(np.isnan(score) for score in correlations(np.ones(3), np.arange(3.0)).values())


@pytest.mark.parametrize("seed", range(20))
def test_f1_is_scikit_learns(seed):
    reference = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    labels, predictions = random.integers(0, 2, (2, 9, 4))
    labels[:, 3] = predictions[:, 3] = 0  # a class that never occurs
    scores = f1_scores(labels, predictions)
    for kind in ("micro", "macro"):
        theirs = reference.f1_score(labels, predictions, average=kind, zero_division=0)
        assert scores[f"{kind}_f1"] == pytest.approx(theirs, abs=1e-12)


def test_an_evaluation_gives_their_scores():
    columns = {"text": ["a", "b", "c"], "label": [0.5, 1.5, 1.0]}
    source = Dataset("d", "sequence-classification", "all", columns, problem_type="regression")
    rows = encode(source, train_tokenizer(source, "bert", min_frequency=1), max_length=8)
    assert rows.columns["labels"].dtype == np.float32
    batch = rows.batch(np.arange(3))
    scores = metrics.finalize(
        rows, {"loss_sum": 3.0, "count": 3.0}, [(batch, {"predictions": np.array([0.0, 2.0, 1.0])})]
    )
    assert scores == {"loss": 1.0, "pearson": pytest.approx(1.0), "spearman": pytest.approx(1.0)}
    columns = {"text": ["a", "b"], "label": [[0, 1], []]}
    source = Dataset(
        "d", "sequence-classification", "all", columns, ("x", "y"), problem_type="multi_label_classification"
    )
    rows = encode(source, train_tokenizer(source, "bert", min_frequency=1), max_length=8)
    np.testing.assert_array_equal(rows.columns["labels"], [[1, 1], [0, 0]])
    batch = rows.batch(np.arange(2))
    scores = metrics.finalize(
        rows, {"loss_sum": 1.0, "count": 2.0, "correct": 1.0}, [(batch, {"predictions": np.array([[1, 0], [0, 0]])})]
    )
    assert scores == {"loss": 0.5, "accuracy": 0.5, "micro_f1": pytest.approx(2 / 3), "macro_f1": 0.5}


def test_objectives_by_problem_type():
    assert objective_for("sequence-classification", problem_type="regression") is regression
    assert objective_for("sequence-classification", problem_type="multi_label_classification") is multi_label
    assert (
        objective_for("sequence-classification", problem_type="single_label_classification").__name__
        == "classification"
    )
    with pytest.raises(ArenaError, match="unknown problem_type"):
        objective_for("sequence-classification", problem_type="ranking")
