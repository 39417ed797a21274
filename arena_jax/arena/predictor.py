"""What a score will be: forecasts of single curves, corrected by what recorded runs show of sizes and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.arena.forecast import fit, gain
from arena_jax.equilibria.arguments import as_floats

COVERAGE = 0.8  # of the band
_WIDTH = 1.2815515655446004  # standard deviations to each side that hold so much of a normal distribution
_FEWEST = 4  # evaluations before a forecast
_ROWS = 64  # a history is padded to a multiple: few shapes are ever compiled
_RIDGE = 1.0  # as if so many samples said that nothing is to be corrected
_FLOOR = 0.05  # of the gain that is forecast: the least that a forecast is taken to be uncertain by


class Predictor(NamedTuple):
    """φ of equation 10: what is added to a curve's forecast, in units of its uncertainty, and how wide its band is.

    Attributes:
        weights: of 1, the log of the parameters and of the memory relative to the other models', and the log of how far
            ahead it looks.
        width: half of the band that holds `COVERAGE` of what came, in units of the uncertainty.
    """

    weights: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    width: float = _WIDTH


class Samples(NamedTuple):
    """Forecasts of recorded curves, and what came; arrays [samples].

    Attributes:
        run: the number of the run that each is from.
        features: [samples, 4], see `Predictor`.
        mean: gain that the curve alone promises.
        uncertainty: of it.
        gain: that came.
    """

    run: np.ndarray
    features: np.ndarray
    mean: np.ndarray
    uncertainty: np.ndarray
    gain: np.ndarray


class RecordedRun(NamedTuple):
    """What is taken from a competition.

    Attributes:
        scores: [evaluations, models], higher being better.
        seconds: [evaluations, models], spent on each since the start.
        shares: [evaluations, models] of the memory, in force up to that evaluation.
        parameters: [models], counts.
    """

    scores: np.ndarray
    seconds: np.ndarray
    shares: np.ndarray
    parameters: np.ndarray


def features(parameters: ArrayLike, memory: ArrayLike, seconds: ArrayLike, extra: ArrayLike) -> jax.Array:
    """What a predictor knows beside the curve.

    Args:
        parameters: θ [models], counts.
        memory: m [..., models], shares.
        seconds: spent on each model so far [models].
        extra: seconds that are to come [..., models].

    Returns:
        [..., models, 4]: 1; log θ and log m less their means over the models; log of how many times as far it looks.

    Example:
        >>> print(features([1e6, 1e6], [0.5, 0.5], [10.0, 10.0], [10.0, 0.0])[:, 3])
        [0.693... 0. ]
    """
    theta = jnp.log(jnp.maximum(as_floats(parameters), 1))
    share = jnp.log(jnp.maximum(as_floats(memory), 1e-6))
    past, ahead = jnp.maximum(as_floats(seconds), 1e-9), jnp.maximum(as_floats(extra), 0)
    shape = jnp.broadcast_shapes(share.shape, ahead.shape)
    columns = (
        jnp.ones(shape),
        jnp.broadcast_to((theta - theta.mean())[(None,) * (len(shape) - 1)], shape),
        jnp.broadcast_to(share - jnp.log(1 / share.shape[-1]), shape),
        jnp.broadcast_to(jnp.log1p(ahead / past[(None,) * (ahead.ndim - 1)]), shape),
    )
    return jnp.stack(columns, axis=-1)


def predict(
    predictor: Predictor, mean: ArrayLike, deviation: ArrayLike, inputs: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Correct a forecast.

    Ŝ(t + Δ) = S(t) + g + u · wᵀ(1, log θ, log m, log(1 + Δ/t)),  u = σ + 0.05 |g|

    g and σ are the gain that the curve alone promises and its standard deviation (`arena_jax.arena.forecast.gain`).

    Args:
        predictor: φ.
        mean: g [..., models].
        deviation: σ [..., models].
        inputs: [..., models, 4], from `features`.

    Returns:
        Expected gain and its standard deviation [..., models]; 1.28 of these to each side are the band.

    Example:
        >>> gain, deviation = predict(Predictor(), jnp.array([1.0]), jnp.array([0.1]), jnp.ones((1, 4)))
        >>> print(gain, f"{deviation[0]:.2f}")
        [1.] 0.15

    Source: ModelArena, equation 10.
    """
    mean, deviation = as_floats(mean), as_floats(deviation)
    uncertainty = deviation + _FLOOR * jnp.abs(mean)
    correction = inputs @ jnp.asarray(predictor.weights, mean.dtype)
    return mean + uncertainty * correction, uncertainty * (predictor.width / _WIDTH)


def samples_of(runs: Sequence[RecordedRun], *, half_life: float = 8.0) -> Samples:
    """Forecast every recorded curve from each of its evaluations on, one, two, four, … evaluations ahead.

    Args:
        runs: at least one of five evaluations or more.
        half_life: see `arena_jax.arena.forecast.fit`.

    Returns:
        The forecasts that can be held against what came.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    for number, run in enumerate(runs):
        count = len(run.scores)
        # At least so many rows, and most of them at once: one program.
        horizons = [2**k for k in range(8) if 2**k < count]
        for now in range(_FEWEST - 1, count - 1):
            curve = fit(
                _padded(run.seconds[: now + 1], 0.0), _padded(run.scores[: now + 1], np.nan), half_life=half_life
            )
            later = np.minimum(now + np.array(horizons), count - 1)
            extra = run.seconds[later] - run.seconds[now]
            memory = np.stack([run.shares[now + 1 : to + 1].mean(0) for to in later])
            mean, deviation = (np.asarray(values) for values in gain(curve, extra))
            inputs = np.asarray(features(run.parameters, memory, run.seconds[now], extra), float)
            came = run.scores[later] - run.scores[now]
            usable = (now + np.array(horizons) < count)[:, None] & np.isfinite(came) & (extra > 0)
            uncertainty = deviation + _FLOOR * np.abs(mean)
            usable &= uncertainty > 0
            columns.append(
                (
                    np.full(int(usable.sum()), number),
                    inputs[usable],
                    mean[usable],
                    uncertainty[usable],
                    came[usable],
                )
            )
    parts = list(zip(*columns, strict=True)) if columns else [[np.zeros((0, 4) if i == 1 else 0)] for i in range(5)]
    return Samples(*(np.concatenate(part) for part in parts))


def fit_predictor(samples: Samples, *, inputs: bool = True) -> Predictor:
    """Find φ by ridge regression of what came, in units of the forecasts' uncertainty; and the width of the band.

    Every run counts alike, however many forecasts it holds. The width is the smallest that holds `COVERAGE` of all
    runs' forecasts, each by weights from the other runs, where there are several.

    Args:
        samples: of at least one run.
        inputs: whether parameters and memory are known; else a constant and the horizon alone are.

    Returns:
        The predictor.
    """
    used = np.array([True, inputs, inputs, True])
    errors = residuals(samples, _weights(samples, used))
    numbers = np.unique(samples.run)
    if len(numbers) > 1:
        for number in numbers:
            others = samples.run != number
            errors[~others] = residuals(_part(samples, ~others), _weights(_part(samples, others), used))
    width = _quantile(np.abs(errors), _by_run(samples.run), COVERAGE)
    first, size, memory, ahead = (float(weight) for weight in _weights(samples, used))
    return Predictor((first, size, memory, ahead), width)


def residuals(samples: Samples, weights: ArrayLike) -> np.ndarray:
    """How far what came lies from what was predicted, in units of the forecasts' uncertainty [samples]."""
    scaled = np.clip((samples.gain - samples.mean) / samples.uncertainty, -_CLIP, _CLIP)
    return np.asarray(scaled - samples.features @ np.asarray(weights, float))


_CLIP = 20.0  # a forecast that says it is sure and is not must not decide all weights


def part_of_run(samples: Samples, runs: Sequence[int]) -> Samples:
    """The samples of some runs."""
    return _part(samples, np.isin(samples.run, runs))


def _part(samples: Samples, rows: np.ndarray) -> Samples:
    return Samples(*(column[rows] for column in samples))


def _by_run(runs: np.ndarray) -> np.ndarray:
    """What each sample counts, so that all runs count alike; sums to 1."""
    _, places, counts = np.unique(runs, return_inverse=True, return_counts=True)
    return 1 / (counts[places] * len(counts))


def _weights(samples: Samples, used: np.ndarray) -> np.ndarray:
    """Ridge regression, in closed form, by the runs' equal weights."""
    count = _by_run(samples.run) * len(samples.run)
    design = samples.features * used
    gram = design.T @ (count[:, None] * design) + _RIDGE * np.eye(design.shape[1])
    aim = residuals(samples, np.zeros(design.shape[1]))
    return np.asarray(np.linalg.solve(gram, design.T @ (count * aim)) * used)


def _quantile(values: np.ndarray, counts: np.ndarray, level: float) -> float:
    """The smallest value that so large a part of the weighted values does not exceed."""
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(counts[order]), level - 1e-12))
    return float(values[order][min(place, len(values) - 1)])


def _padded(rows: np.ndarray, filling: float) -> np.ndarray:
    missing = -len(rows) % _ROWS
    return np.concatenate([np.full((missing, rows.shape[1]), filling), rows])


class Calibration(NamedTuple):
    """How often what came lay in the band, by run, and how far off the forecasts were.

    Attributes:
        coverage: [runs], of forecasts by a predictor that has not seen the run.
        error: [runs], mean absolute error of the gain, in the score's unit.
        forecasts: [runs], counts.
    """

    coverage: np.ndarray
    error: np.ndarray
    forecasts: np.ndarray


def calibration(samples: Samples, predictor: str) -> Calibration:
    """Hold a predictor's band against runs that it has not seen, one after the other.

    Args:
        samples: of several runs.
        predictor: ``"curve"``: the curve's own band, nothing is learnt from other runs; ``"horizon"``: a constant and
            the horizon are; ``"inputs"``: parameters and memory, too.

    Returns:
        By run.
    """
    coverage, error, forecasts = [], [], []
    for number in np.unique(samples.run):
        held_out, others = part_of_run(samples, [number]), _part(samples, samples.run != number)
        if predictor == "curve":
            deviation = held_out.uncertainty - _FLOOR * np.abs(held_out.mean)
            expected, half = held_out.mean, _WIDTH * deviation
        else:
            learnt = fit_predictor(others, inputs=predictor == "inputs")
            expected = held_out.mean + held_out.uncertainty * (held_out.features @ np.asarray(learnt.weights))
            half = learnt.width * held_out.uncertainty
        away = np.abs(held_out.gain - expected)
        coverage.append(float(np.mean(away <= half)))
        error.append(float(np.mean(away)))
        forecasts.append(len(away))
    return Calibration(np.array(coverage), np.array(error), np.array(forecasts))
