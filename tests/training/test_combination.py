"""Weights, temperature, calibration and intervals against SciPy's optimisers and sums written out."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from arena_jax.training import combination
from arena_jax.training.ensemble import mixture_loss
from arena_jax.training.predictions import Predictions

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 200)


def predictions(skill, seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(200, 3))
    logits[np.arange(200), LABELS] += skill
    return log_softmax(2 * logits, axis=1)


MODELS = np.stack([predictions(skill, seed) for seed, skill in enumerate((1.0, 0.5, 0.0))])
GIVEN = MODELS[:, np.arange(200), LABELS]


def test_weights_are_the_most_likely_ones():
    """Against SciPy's quasi-Newton method over logits of the weights."""

    def loss(z):
        return -np.log(softmax(z) @ np.exp(GIVEN)).mean()

    best = minimize(loss, np.zeros(3), options={"gtol": 1e-8})
    weights = combination.fit_weights(GIVEN)
    assert weights.sum() == pytest.approx(1)
    assert -np.log(weights @ np.exp(GIVEN)).mean() == pytest.approx(best.fun, abs=1e-7)
    np.testing.assert_allclose(weights, softmax(best.x), atol=2e-3)


def test_the_mixture_and_its_temperature():
    weights = np.asarray([0.5, 0.3, 0.2])
    mixed = combination.mixture(MODELS, weights)
    np.testing.assert_allclose(np.exp(mixed), np.einsum("m,mnc->nc", weights, np.exp(MODELS)), rtol=1e-12)
    np.testing.assert_allclose(combination.mixture(MODELS, np.asarray([1.0, 0, 0])), MODELS[0], rtol=1e-12)
    temperature = combination.fit_temperature(mixed, LABELS)
    losses = {t: -log_softmax(mixed / t, axis=1)[np.arange(200), LABELS].mean() for t in np.linspace(0.3, 4, 2000)}
    assert temperature == pytest.approx(min(losses, key=losses.get), abs=2e-3)
    np.testing.assert_allclose(combination.tempered(mixed, 2.0), log_softmax(mixed / 2, axis=1), rtol=1e-12)


def test_a_model_that_has_diverged_is_left_out_of_the_mixture():
    items = np.stack([np.arange(200), np.zeros(200, int)], axis=1)

    def of_models(models):
        return {name: Predictions(items, values, LABELS, ("a", "b", "c")) for name, values in models.items()}

    sound = {"first": MODELS[0], "last": MODELS[1]}
    broken = np.where(np.arange(200)[:, None] == 3, np.nan, MODELS[2])
    loss, error, weights = mixture_loss(of_models({"first": MODELS[0], "broken": broken, "last": MODELS[1]}))
    expected = mixture_loss(of_models(sound))
    assert (loss, error) == expected[:2]
    assert weights == {**expected[2], "broken": 0.0}
    assert list(weights) == ["first", "broken", "last"]
    loss, error, weights = mixture_loss(of_models({"a": broken, "b": broken}))
    assert np.isnan([loss, error]).all()
    assert weights == {"a": 0.5, "b": 0.5}


def test_the_calibration_error_is_the_sum_over_bins():
    sums = combination.calibration_sums(MODELS[0], LABELS)
    confidence, right = np.exp(MODELS[0].max(1)), MODELS[0].argmax(1) == LABELS
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15 + (low == 14 / 15))
        expected += abs(right[inside].sum() - confidence[inside].sum()) / 200
    assert combination.calibration_error(sums.sum(0)) == pytest.approx(expected)


def test_intervals_resample_rows():
    """A mean of independent numbers: SciPy's percentile bootstrap; with items of one row alike, wider by the root."""
    from scipy.stats import bootstrap

    right = (MODELS[0].argmax(1) == LABELS).astype(float)

    def mean(sums):
        return sums[..., 0] / sums[..., 1]

    value, low, high = combination.interval(np.stack([right, np.ones(200)], axis=1), mean)
    expected = bootstrap((right,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert value == pytest.approx(right.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.015)
    items = np.repeat(right, 4)
    sums = combination.row_sums(np.stack([items, np.ones(800)], axis=1), np.repeat(np.arange(200), 4))
    assert combination.interval(sums, mean) == pytest.approx((value, low, high))
