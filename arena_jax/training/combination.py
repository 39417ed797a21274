"""How to combine what several models say, and how good the combination is: weights, temperature, scores, intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Array = np.ndarray[Any, Any]
BINS = 15  # of confidence (Guo et al. 2017)
_ROUNDS = 500
RESAMPLES = 1000


def fit_weights(log_likelihoods: Array) -> Array:
    r"""The weights of a mixture that make the labels most likely: :math:`\max_w \sum_n \log\sum_m w_m p_{mn}`.

    The problem is concave; expectation maximisation climbs it.

    Args:
        log_likelihoods: (models, N), what each model gives to each label.

    Returns:
        (models,), sum 1.

    Example:
        >>> likely, unlikely = np.log([0.9, 0.9, 0.2]), np.log([0.5, 0.5, 0.9])
        >>> fit_weights(np.stack([likely, unlikely])).round(3)
        array([0.44, 0.56])
    """
    models = len(log_likelihoods)
    weights = np.full(models, 1 / models)
    for _ in range(_ROUNDS):
        with np.errstate(divide="ignore"):
            joint = np.log(weights)[:, None] + log_likelihoods
        after = np.exp(joint - logsumexp(joint, axis=0)).mean(axis=1)
        if np.abs(after - weights).max() < 1e-9:
            break
        weights = after
    return after / after.sum()


def mixture(log_probabilities: Array, weights: Array) -> Array:
    """The log of the weighted mean: (models, N, classes) and (models,) → (N, classes)."""
    with np.errstate(divide="ignore"):
        result: Array = logsumexp(np.log(weights)[:, None, None] + log_probabilities, axis=0)
    return result


def tempered(log_probabilities: Array, temperature: float) -> Array:
    """(N, classes) log probabilities divided by a temperature, and normalised again."""
    scaled = log_probabilities / temperature
    result: Array = scaled - logsumexp(scaled, axis=-1, keepdims=True)
    return result


def fit_temperature(log_probabilities: Array, labels: Array) -> float:
    """The temperature by which the labels are most likely (Guo et al. 2017), between 1/20 and 20.

    Args:
        log_probabilities: (N, classes).
        labels: (N,).

    Example:
        >>> sure = np.log([[0.99, 0.01], [0.01, 0.99], [0.99, 0.01], [0.99, 0.01]])
        >>> round(fit_temperature(sure, np.array([0, 1, 0, 1])), 2)  # right in three of four: 0.75 = 0.99^(1/T) / …
        4.18
    """
    places = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(tempered(log_probabilities, float(np.exp(log_temperature)))[places, labels].mean())

    edge = np.log(20.0)
    return float(np.exp(minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-6}).x))


def calibration_sums(log_probabilities: Array, labels: Array) -> Array:
    """Per item and bin of confidence: items, confidence, right answers: (N, bins, 3)."""
    confidence = np.exp(log_probabilities.max(axis=1))
    right = log_probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sums = np.zeros((len(labels), BINS, 3))
    sums[np.arange(len(labels)), bins] = np.stack([np.ones(len(labels)), confidence, right], axis=1)
    return sums


def calibration_error(sums: Array) -> Array:
    r"""The expected calibration error :math:`\sum_b |\mathrm{right}_b - \mathrm{confidence}_b| / N`.

    Args:
        sums: (…, bins, 3) from :func:`calibration_sums`.

    Example:
        >>> sure = np.log([[0.9, 0.1], [0.9, 0.1]])
        >>> calibration_error(calibration_sums(sure, np.array([0, 1])).sum(0)).round(3)  # right in half, 0.9 sure
        np.float64(0.4)
    """
    gaps = np.abs(sums[..., 2] - sums[..., 1]).sum(-1)
    result: Array = gaps / np.maximum(sums[..., 0].sum(-1), 1)
    return result


def interval(sums: Array, statistic: Callable[[Array], Array], *, seed: int = 0) -> tuple[float, float, float]:
    """A statistic of sums over rows, and its 95 % interval by resampling rows (Efron's percentiles).

    Args:
        sums: (rows, …): what each row adds. A row is a text: items of one text are not independent.
        statistic: of sums (…), or (resamples, …) at once.
        seed: of the resamples: the same rows for all that is compared.

    Returns:
        The value, and the ends of the interval.

    Example:
        >>> right = np.repeat([[1.0, 1.0], [0.0, 1.0]], 50, axis=0)
        >>> value, low, high = interval(right, lambda s: s[..., 0] / s[..., 1])
        >>> value, bool(0.38 < low < 0.42), bool(0.58 < high < 0.62)
        (0.5, True, True)
    """
    rows = len(sums)
    counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    resampled = (counts @ sums.reshape(rows, -1)).reshape(RESAMPLES, *sums.shape[1:])
    low, high = np.percentile(statistic(resampled), [2.5, 97.5])
    return float(statistic(sums.sum(0))), float(low), float(high)


def row_sums(values: Array, rows: Array) -> Array:
    """Sum (N, …) values over the items of each row: (rows, …), the rows that there are."""
    _, places = np.unique(rows, return_inverse=True)
    result: Array = np.zeros((places.max() + 1, *values.shape[1:]))
    np.add.at(result, places, values)
    return result
