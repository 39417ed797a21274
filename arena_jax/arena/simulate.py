"""Policies on learning curves instead of models: a run takes milliseconds, so a policy is judged before it is used."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.history import History
from arena_jax.arena.policies import Policy, name_of
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import as_floats

Spending = Literal["seconds", "rounds"]


class Curves(NamedTuple):
    """What each model would score if it alone were trained: recorded from runs, or planted (`planted.curves`).

    Attributes:
        seconds: [points], rising from 0; device-seconds spent on a model.
        scores: [..., models, points], higher is better, without evaluation noise; NaN once a model has diverged. Beyond
            the last point a curve stays where it is.
    """

    seconds: jax.Array
    scores: jax.Array


class Outcome(NamedTuple):
    """How simulated competitions ended.

    Attributes:
        final: [runs, models], true scores at the end; a model that diverged has its score from before training.
        picked: [runs], the true score of the model that the last evaluation put first.
        seconds: [runs, models], what was spent on each; the sum is the budget.
        shares: [runs, evaluations + 1, models], in force up to each evaluation.
    """

    final: jax.Array
    picked: jax.Array
    seconds: jax.Array
    shares: jax.Array


def score_at(curves: Curves, seconds: ArrayLike) -> jax.Array:
    """Read the scores of one run's models off their curves.

    Args:
        curves: of one run, scores [models, points].
        seconds: spent on each model [models].

    Returns:
        Scores [models], straight between the points.

    Example:
        >>> curves = Curves(jnp.array([0.0, 10.0]), jnp.array([[-4.0, -2.0], [-8.0, -4.0]]))
        >>> score_at(curves, [5.0, 100.0])
        Array([-3., -4.], dtype=float32)
    """
    return jax.vmap(lambda at, scores: jnp.interp(at, curves.seconds, scores))(as_floats(seconds), curves.scores)


@functools.partial(jax.jit, static_argnames=("policy", "evaluations", "reallocate_every", "spending"))
def simulate(
    policy: Policy,
    curves: Curves,
    key: jax.Array,
    *,
    budget: float,
    noise: ArrayLike = 0.0,
    evaluations: int = 20,
    reallocate_every: int = 2,
    spending: Spending = "seconds",
) -> Outcome:
    """Let a policy run competitions on learning curves, all at once, at an equal budget of device-seconds.

    The budget is cut into ``evaluations`` equal intervals. In each, the models get device-seconds by their shares; then
    all are evaluated, with noise; every ``reallocate_every`` evaluations the policy is asked, as in the paper (50 and
    100 steps). Evaluation itself costs nothing. With ``spending="seconds"`` a share is a share of the device-seconds.
    With ``"rounds"`` it is Algorithm 1's: ``max(1, ⌊10·share⌋)`` steps of a batch proportional to the share, so that
    the seconds go with the product of the two.

    Args:
        policy: hashable and pure, such as those in `arena_jax.arena.POLICIES`.
        curves: scores [runs, models, points].
        key: of the evaluation noise.
        budget: device-seconds of one run, all models together.
        noise: standard deviation of an evaluation, a number or [models].
        evaluations: after the baseline.
        reallocate_every: evaluations between two questions to the policy.
        spending: what a share buys.

    Returns:
        The outcome of each run.

    Raises:
        ArenaError: the curves are not those of several runs, or the policy does not return one share a model.

    Example:
        >>> from arena_jax.arena import policy
        >>> seconds = jnp.linspace(0, 100, 101)
        >>> fast, slow = -jnp.exp(-seconds / 10), -jnp.exp(-seconds / 100)
        >>> curves = Curves(seconds, jnp.stack([fast, slow])[None])
        >>> outcome = simulate(policy("static"), curves, jax.random.key(0), budget=100.0)
        >>> print(np.round(outcome.final, 2), outcome.seconds)
        [[-0.01 -0.61]] [[50. 50.]]
    """
    if curves.scores.ndim != 3:
        raise ArenaError(f"simulate: scores have shape {curves.scores.shape}; they must be [runs, models, points]")
    runs, models, _ = curves.scores.shape
    deviation = jnp.broadcast_to(as_floats(noise), (models,))
    noises = jax.random.normal(key, (runs, evaluations + 1, models)) * deviation[None, None]

    def run(scores: jax.Array, noises: jax.Array) -> Outcome:
        curve = Curves(curves.seconds, scores)
        equal = jnp.full(models, 1 / models)
        blank = jnp.zeros((evaluations + 1, models))
        start = History(
            scores=blank.at[:].set(jnp.nan).at[-1].set(scores[:, 0] + noises[0]),
            shares=jnp.broadcast_to(equal, blank.shape),
            seconds=blank,
            steps=blank,
            fraction=jnp.zeros(evaluations + 1),
        )

        def interval(carry: tuple[History, jax.Array], now: tuple[jax.Array, jax.Array]) -> tuple:
            history, shares = carry
            number, disturbance = now
            bought = shares if spending == "seconds" else steps_per_round(shares) * shares
            seconds = history.seconds[-1] + budget / evaluations * bought / jnp.sum(bought)
            measured = score_at(curve, seconds) + disturbance
            steps = history.steps[-1] + steps_per_round(shares)
            row = History(measured, shares, seconds, steps, number / evaluations)
            history = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), history, row)
            answer = jnp.asarray(policy(history), shares.dtype)
            if answer.shape != shares.shape:  # a single number would be spread over all models without a word
                raise ArenaError(
                    f"policy {name_of(policy)}: returned an array of shape {answer.shape}; it must return "
                    f"{models} shares, one a model, that sum to 1"
                )
            return (history, jnp.where(number % reallocate_every == 0, answer, shares)), None

        numbers = jnp.arange(1, evaluations + 1, dtype=noises.dtype)
        (history, _), _ = jax.lax.scan(interval, (start, equal), (numbers, noises[1:]))
        truth = score_at(curve, history.seconds[-1])
        final = jnp.where(jnp.isfinite(truth), truth, scores[:, 0])
        last_scores = jnp.where(jnp.isfinite(history.scores[-1]), history.scores[-1], -jnp.inf)
        return Outcome(final, final[jnp.argmax(last_scores)], history.seconds[-1], jnp.asarray(history.shares))

    return jax.vmap(run)(curves.scores, noises)


@functools.partial(jax.jit, static_argnames="parts")
def best_fixed(curves: Curves, *, budget: float, parts: int = 20) -> tuple[jax.Array, jax.Array]:
    """Find what the best unchanging choice would have reached, with the curves known in advance.

    Args:
        curves: scores [runs, models, points].
        budget: device-seconds of one run.
        parts: fixed shares are all multiples of 1/parts that sum to 1.

    Returns:
        [runs] the highest mean score over the models of any fixed shares, and [runs] the highest score of any model
        that gets everything.

    Example:
        >>> seconds = jnp.linspace(0, 100, 101)
        >>> curves = Curves(seconds, jnp.stack([-jnp.exp(-seconds / 10), -jnp.exp(-seconds / 100)])[None])
        >>> mean, best = best_fixed(curves, budget=100.0)
        >>> print(f"{mean[0]:.3f} {best[0]:.5f}")   # 30 seconds for the fast one, and everything
        -0.273 -0.00005
    """
    models = curves.scores.shape[1]
    shares = jnp.asarray(_compositions(parts, models) / parts, jnp.float32)

    def best(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        reached = jax.vmap(lambda s: score_at(Curves(curves.seconds, scores), s * budget))(shares)
        reached = jnp.where(jnp.isfinite(reached), reached, scores[None, :, 0])
        return jnp.max(jnp.mean(reached, 1)), jnp.max(reached)

    return jax.lax.map(best, curves.scores)


def bootstrap(
    values: ArrayLike, *, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Compute a mean and its bootstrap interval.

    Args:
        values: [runs], independent.
        level: coverage.
        samples: resamples.
        seed: of the resampling.

    Returns:
        Mean, lower and upper end (percentiles of the resampled means).

    Example:
        >>> mean, low, high = bootstrap(np.arange(100.0))
        >>> low < mean < high, mean
        (True, 49.5)
    """
    values = np.asarray(values, float)
    resamples = np.random.default_rng(seed).choice(values, (samples, len(values))).mean(1)
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def _compositions(parts: int, models: int) -> np.ndarray:
    """All ways to hand out some equal parts to the models, [ways, models]."""
    if models == 1:
        return np.array([[parts]])
    return np.concatenate(
        [
            np.concatenate([np.full((len(rest), 1), first), rest], axis=1)
            for first in range(parts + 1)
            for rest in [_compositions(parts - first, models - 1)]
        ]
    )
