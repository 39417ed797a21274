"""Look ahead: forecast each curve and spend where it gains most, but first let every model show its curve."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.arena.allocation import blend
from arena_jax.arena.forecast import Family, Fit, fit, gain
from arena_jax.arena.history import History
from arena_jax.arena.predictor import Predictor, features, predict
from arena_jax.equilibria.arguments import as_floats

# Efforts at which a target may be reached, as parts of all that is left.
_EFFORTS = np.geomspace(1 / 64, 4, 33)


@dataclass(frozen=True)
class Predictive:
    """Share in proportion to the gain per second that each score curve promises.

    Each curve is fitted by power laws and exponentials of the device-seconds spent on it. The forecast looks as far
    ahead as an equal split of what is left of the budget would reach, and counts ``optimism`` standard deviations of it
    as gain. Then smoothing and floor as in equations 3 to 5.

    With ``patience=0, insurance=0, ambition=0`` this is equation 10 and nothing more. Forecasts, like progress, are
    blind to what a curve has not shown yet, and then starve the model that would have been the best; the simulator
    (`benchmarks/policies.py`) is why the defaults add three things:

    - patience: the initial shares stay in force until this part of the budget is used;
    - insurance: a model whose curve has not moved (the slope is within this many standard errors of zero) is not
      judged and keeps an equal share, so that a late bloomer is never worse off than under `Static`;
    - ambition: this part of the shares goes to the likely winners, in proportion to the probability of overtaking the
      favourite if given everything that is left.

    Attributes:
        patience: fraction of the budget before the first reallocation, 0 to 1.
        insurance: standard errors; 0 judges everybody.
        ambition: 0 maximises the models' mean score, 1 the best one's.
        optimism: standard deviations added to the expected gain; 0 trusts the forecast.
        half_life: evaluations after which an observation weighs half in the fit.
        family: ``"power-law"``, ``"exponential"`` or ``"both"``.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the least gain relative to the sum of all.
        target: the score that counts (objective target): the likely winners are then those who reach it soonest, see
            `soonest`; None: those who end highest.

        predictor: φ, what recorded runs taught of parameter counts, memory and how far ahead one looks; it corrects
            the forecasts where the history has the parameters. None: curves alone.

    Gains count by the models' worth in the ensemble, where the history has it; and where it has their costs, a model
    wins that ends above all that cost no more.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena import History, decide
        >>> x = np.arange(8.0)[:, None] * np.ones(2)
        >>> scores = -np.exp(-x / np.array([1.0, 10.0]))    # the first has converged, the second is under way
        >>> record = History(scores, np.full((8, 2), 0.5), x, x, np.linspace(0, 0.7, 8))
        >>> print(np.round(decide(Predictive(smoothing=0, optimism=0), record), 1))
        [0.3 0.7]
        >>> print(np.round(decide(Predictive(smoothing=0, optimism=0, ambition=0), record), 1))
        [0. 1.]

    Source: ModelArena, equation 10; patience, insurance and ambition are this project's.
    """

    patience: float = 0.7
    insurance: float = 3.0
    ambition: float = 0.25
    optimism: float = 0.5
    half_life: float = 8.0
    family: Family = "both"
    smoothing: float = 0.5
    floor: float = 0.05
    epsilon: float = 1e-3
    target: float | None = None
    predictor: Predictor | None = None

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        seconds, shares = as_floats(history.seconds), as_floats(history.shares[-1])
        models = shares.shape[-1]
        there = jnp.isfinite(as_floats(history.scores[-1]))
        curves = fit(seconds, history.scores, half_life=self.half_life, family=self.family)
        part = equal_part_of_the_rest(seconds[-1], history.fraction[-1])

        mean, deviation = self._gain(history, curves, jnp.full_like(shares, part), 1 / models)
        promise = jnp.where(there, jnp.maximum(mean + self.optimism * deviation, 0), 0)
        if history.worth is not None:
            promise = promise * as_floats(history.worth)
        weights = jnp.maximum(_parts(promise), self.epsilon)
        if self.ambition:
            whole_gain = self._gain(history, curves, jnp.full_like(shares, part * models), 1.0)
            likely = winning(history.scores[-1], *whole_gain, costs=history.cost)
            if self.target is not None:
                efforts = part * models * jnp.asarray(_EFFORTS, part.dtype)
                ahead, _ = self._gain(history, curves, jnp.broadcast_to(efforts[:, None], (len(_EFFORTS), models)), 1.0)
                likely = soonest(history.scores[-1], ahead, efforts, self.target, likely)
            weights = (1 - self.ambition) * weights + self.ambition * likely
        if self.insurance:
            asleep = there & (movement(curves) < self.insurance)
            awake = _parts(jnp.where(asleep, 0, weights)) * (1 - asleep.sum() / models)
            weights = jnp.where(asleep, 1 / models, awake)
        moved = blend(weights, shares, smoothing=self.smoothing, floor=self.floor)
        return jnp.where(jnp.nan_to_num(as_floats(history.fraction[-1])) < self.patience - 1e-6, shares, moved)

    def _gain(self, history: History, curves: Fit, extra: jax.Array, memory: float) -> tuple[jax.Array, jax.Array]:
        """Forecast gains and their standard deviations, of models that have so large a part of the memory."""
        mean, deviation = gain(curves, extra, family=self.family)
        if self.predictor is None or history.parameters is None:
            return mean, deviation
        inputs = features(history.parameters, jnp.full_like(extra, memory), history.seconds[-1], extra)
        return predict(self.predictor, mean, deviation, inputs)


def winning(
    scores: jax.typing.ArrayLike,
    gains: jax.Array,
    deviations: jax.Array,
    costs: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Compute how likely each model is to end above the favourite, as parts of 1.

    P(i) ∝ Φ((F_i − F*) / √(σ_i² + σ*²)),  F = score + forecast gain, * the model with the largest F

    Args:
        scores: now [models]; who is not finite cannot win.
        gains: expected [models].
        deviations: of the gains [models].
        costs: [models]; a model's favourite is then among those that cost no more than it does. None: among all.

    Returns:
        Parts [models], summing to 1; equal when nobody has a finite score.

    Example:
        >>> winning([-2.1, -2.0], jnp.array([0.0, 0.0]), jnp.array([0.1, 0.1]))
        Array([0.32..., 0.67...], dtype=float32)
    """
    scores = as_floats(scores)
    there = jnp.isfinite(scores)
    big = jnp.finfo(scores.dtype).max ** 0.5
    forecast = jnp.where(there, jnp.clip(scores, -big, big) + gains, -jnp.inf)
    size = jnp.zeros_like(forecast) if costs is None else as_floats(costs)
    rivals = size[None, :] <= size[:, None]  # [models, models]: of a row's model
    favourite = jnp.max(jnp.where(rivals, forecast[None, :], -jnp.inf), axis=1)
    leads = rivals & (forecast[None, :] == favourite[:, None])
    doubt = jnp.max(jnp.where(leads, deviations[None, :], 0), axis=1)
    scale = jnp.maximum(jnp.maximum(deviations, doubt), 1e-12)
    spread = scale * jnp.sqrt((deviations / scale) ** 2 + (doubt / scale) ** 2 + 1e-12)
    behind = jnp.where(there, forecast - jnp.where(there.any(), favourite, 0), 0) / spread
    return _parts(jnp.where(there, jax.scipy.stats.norm.cdf(behind), 0))


def soonest(
    scores: jax.typing.ArrayLike,
    gains: jax.Array,
    efforts: jax.Array,
    target: float,
    otherwise: jax.Array,
) -> jax.Array:
    """Compute how much each model is the one to reach a score first, as parts of 1.

    P(i) ∝ T_i⁻²,  T_i the first effort at which score + forecast gain is the target's

    Args:
        scores: now [models].
        gains: expected [efforts, models].
        efforts: [efforts], rising, of a model that gets everything.
        target: the score.
        otherwise: parts [models], where none is forecast to reach it.

    Returns:
        Parts [models], summing to 1.

    Example:
        >>> gains = jnp.array([[0.1, 0.0], [0.5, 0.1], [1.0, 1.0]])
        >>> soonest([-1.0, -1.0], gains, jnp.array([1.0, 2.0, 4.0]), -0.5, jnp.array([0.5, 0.5]))
        Array([0.8, 0.2], dtype=float32)
    """
    scores = as_floats(scores)
    there = jnp.isfinite(scores)
    big = jnp.finfo(scores.dtype).max ** 0.5
    reached = (jnp.where(there, jnp.clip(scores, -big, big), 0)[None] + gains >= target) & there[None]
    speed = jnp.where(reached, (efforts[0] / efforts)[:, None], 0).max(0)  # 1 / time, in units of the least effort
    return jnp.where(reached.any(), _parts(speed**2), otherwise)


def movement(curves: Fit) -> jax.Array:
    """Compute how clearly each curve has moved since its start, in standard errors of its slope.

    Args:
        curves: from `forecast.fit`.

    Returns:
        |slope| / error [models], averaged over the believable shapes; 0 where nothing is known.

    Example:
        >>> import numpy as np
        >>> x = np.arange(6.0)[:, None] * np.ones(2)
        >>> flat_and_rising = np.array([0, 1]) * x + 0.01 * np.array([1, -1, -1, 1, 1, -1])[:, None]
        >>> (movement(fit(x, flat_and_rising)) > 3).tolist()
        [False, True]
    """
    clear = jnp.abs(curves.slope) / jnp.where(curves.error > 0, curves.error, 1)
    return jnp.where(curves.is_determined, jnp.sum(curves.belief * jnp.where(curves.error > 0, clear, 0), 0), 0)


def equal_part_of_the_rest(seconds: jax.Array, fraction: jax.typing.ArrayLike) -> jax.Array:
    """Compute how many device-seconds an equal split of the remaining budget gives each model.

    Args:
        seconds: spent on each model so far [models].
        fraction: of the budget that this was.

    Returns:
        Seconds, a scalar: Σ seconds · (1 − f)/f / N, and at the least a hundredth of what was spent.

    Example:
        >>> equal_part_of_the_rest(jnp.array([3.0, 1.0]), 0.5).item()
        2.0
    """
    big = jnp.finfo(seconds.dtype).max ** 0.5
    spent = jnp.sum(jnp.clip(jnp.where(jnp.isfinite(seconds), seconds, 0), 0, big))
    used = jnp.clip(jnp.nan_to_num(as_floats(fraction)), 0.01, 1)
    return spent * jnp.maximum((1 - used) / used, 0.01) / seconds.shape[-1]


def _parts(weights: jax.Array) -> jax.Array:
    """Scale to sum to 1; equal parts where there is nothing to scale."""
    weights = jnp.minimum(weights, jnp.finfo(weights.dtype).max ** 0.5)
    total = jnp.sum(weights)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1), 1 / weights.shape[-1])
