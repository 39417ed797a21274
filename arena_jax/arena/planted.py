"""Learning curves with a known difficulty planted in them, for judging policies."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from arena_jax.arena.simulate import Curves
from arena_jax.config.errors import ArenaError, nearest

BUDGET = 100.0  # device-seconds of every planted case: 25 for each of the four models if nobody is preferred
_POINTS = 401
Loss = Callable[[jax.Array], jax.Array]


Number = float | jax.Array


def _power(end: Number, scale: Number, start: Number = 10.0, exponent: Number = 0.8) -> Loss:
    return lambda u: end + (start - end) * (1 + u / scale) ** -exponent


def _exponential(end: Number, scale: Number, start: Number = 10.0) -> Loss:
    return lambda u: end + (start - end) * jnp.exp(-u / scale)


def _late(wake: Number, end: Number, scale: Number, start: Number = 10.0) -> Loss:
    return lambda u: end + (start - end) * jnp.exp(-jnp.maximum(u - wake, 0) / scale)


def _two_stages(first: Number, wake: Number, end: Number, scale: Number) -> Loss:
    return lambda u: end + (10 - first) * jnp.exp(-u / 2) + (first - end) * jnp.exp(-jnp.maximum(u - wake, 0) / scale)


def _overfits(best: Number, scale: Number, from_: Number, rise: Number) -> Loss:
    return lambda u: best + (10 - best) * jnp.exp(-u / scale) + rise * jnp.maximum(u - from_, 0)


def _diverges(loss: Loss, at: float) -> Loss:
    return lambda u: jnp.where(u < at, loss(u), jnp.nan)


# Four losses each, as functions of the device-seconds spent on that model; and the noise of an evaluation.
CASES: dict[str, tuple[tuple[Loss, Loss, Loss, Loss], float]] = {
    "equal": ((_power(3, 4),) * 4, 0.02),
    "speeds": ((_power(3, 1), _power(3, 3), _power(3, 10), _power(3, 30)), 0.02),
    "slow starter": ((_exponential(4, 3), _exponential(4.2, 4), _exponential(4.4, 5), _exponential(2, 25)), 0.02),
    "crossing": ((_exponential(4.5, 2), _power(3, 4), _exponential(3, 12), _exponential(2, 20)), 0.02),
    "noise": ((_power(3, 1), _power(3, 3), _power(3, 10), _power(3, 30)), 0.4),
    "equal and noise": ((_power(3, 4),) * 4, 0.4),
    "plateau": ((_power(4, 3), _power(4.2, 4), _power(4.4, 5), _two_stages(6, 14, 2, 5)), 0.02),
    "late bloomer": ((_power(4, 3), _power(4.2, 4), _power(4.4, 5), _late(12, 1.5, 6)), 0.02),
    "converged": ((_power(2.9, 5, 3.0), _power(3.1, 5, 3.2), _power(2.5, 12), _power(3, 12)), 0.02),
    "one costly": ((_power(3.5, 3), _power(3.6, 3), _power(3.7, 3), _power(2, 40)), 0.02),
    "very late bloomer": ((_power(4, 3), _power(4.2, 4), _power(4.4, 5), _late(18, 1.5, 6)), 0.02),
    "overfits": ((_overfits(2.5, 4, 12, 0.05), _power(3, 6), _power(3.2, 6), _power(3.4, 8)), 0.02),
    "diverges": ((_diverges(_exponential(2, 6), 15), _power(3, 6), _power(3.2, 6), _power(3.4, 8)), 0.02),
}


RANDOM_CURVES = "anything"


def _random_loss(key: jax.Array, seconds: jax.Array) -> jax.Array:
    """Draw one loss curve: a kind, and parameters with no favourite."""
    kind, scale, end, wake, middle = jax.random.uniform(key, (5,))
    scale, end, wake = 1.5 * 20**scale, 1.5 + 3 * end, 25 * wake
    exponent = 0.4 + 0.8 * middle
    first = end + (10 - end) * (0.2 + 0.6 * middle)
    kinds = jnp.stack(
        [
            _power(end, scale, exponent=exponent)(seconds),
            _exponential(end, scale)(seconds),
            _late(wake, end, scale)(seconds),
            _two_stages(first, wake, end, scale)(seconds),
            _overfits(end, scale, wake, 0.02)(seconds),
        ]
    )
    return kinds[jnp.searchsorted(jnp.array([0.35, 0.7, 0.8, 0.9]), kind)]


@functools.partial(jax.jit, static_argnames=("case", "runs"))
def curves(case: str, key: jax.Array, runs: int = 256) -> tuple[Curves, jax.Array]:
    """Plant one case many times, with speeds and levels that differ from run to run.

    In each run every model's clock runs faster or slower by a log-normal factor (σ 0.2) and its distance travelled
    differs by 5 %. The case ``"anything"`` draws the curves themselves at random, a kind and its parameters for each
    model; no policy of this package was chosen by looking at it.

    Args:
        case: one of ``CASES``, or ``RANDOM_CURVES``.
        key: of the differences.
        runs: how many.

    Returns:
        Curves with scores [runs, 4, points], the negative losses, over ``BUDGET`` device-seconds; and the standard
        deviation of an evaluation.

    Raises:
        ArenaError: there is no such case.

    Example:
        >>> planted, noise = curves("crossing", jax.random.key(0), runs=2)
        >>> planted.scores.shape, round(float(noise), 2)
        ((2, 4, 401), 0.02)
    """
    seconds = jnp.linspace(0, BUDGET, _POINTS)
    if case == RANDOM_CURVES:
        draws = jax.vmap(lambda k: _random_loss(k, seconds))(jax.random.split(key, (runs, 4)).reshape(-1))
        return Curves(seconds, -draws.reshape(runs, 4, -1)), jnp.asarray(0.05)
    if case not in CASES:
        raise ArenaError(f"unknown planted case {case!r}; {nearest(case, [*CASES, RANDOM_CURVES])}")
    losses, noise = CASES[case]
    clock_key, reach_key = jax.random.split(key)
    clock = jnp.exp(0.2 * jax.random.normal(clock_key, (len(losses), runs)))
    reach = 1 + 0.05 * jax.random.normal(reach_key, (len(losses), runs))
    scores = [
        -(loss(jnp.zeros(())) + reach[i, :, None] * (loss(seconds[None, :] * clock[i, :, None]) - loss(jnp.zeros(()))))
        for i, loss in enumerate(losses)
    ]
    return Curves(seconds, jnp.stack(scores, axis=1)), jnp.asarray(noise)
