"""Replicator dynamics, and where it settles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, count, distribution, finite_array, random, real_number, square

_MAX_STEPS = 20_000_000


def replicator(payoff: Any, start: Any, times: Any, *, max_step: float | None = None) -> Any:
    """Follow the replicator equation ẋᵢ = xᵢ((Ax)ᵢ − x·Ax) from a start through the given times.

    Integrated as ẏ = Ax with x = softmax(y), by the classical fourth-order Runge–Kutta rule: the shares stay positive
    and sum to 1 whatever the step, and strategies that are absent at the start stay absent.

    Args:
        payoff: (n, n); entry (i, j) is what i earns against j.
        start: (n,) shares at times[0], or (m, n) for m starts at once.
        times: (t,) increasing; may be sparse: between two times as many steps are made as needed.
        max_step: longest integration step. Default: 0.02 / (largest − smallest payoff), so that scaling the payoffs
            merely rescales time.

    Returns:
        (t, n) shares, or (m, t, n); float64. Inside a jax transformation (vmap over starts, jit) a jax array of the
        start's own precision.

    Raises:
        ArenaError: a payoff that is not square, shares that do not sum to 1, times that do not increase, or more
            than 20 million steps.

    Example:
        >>> rock_paper_scissors = [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]
        >>> replicator(rock_paper_scissors, [0.5, 0.25, 0.25], [0, 5, 10])[1:].round(8).tolist()
        [[0.19794222, 0.4553411, 0.34671669], [0.45097113, 0.19664741, 0.35238146]]

    Source: Taylor and Jonker 1978.
    """
    matrix = square(payoff)
    moments = finite_array(times, "times", 1)
    if (np.diff(moments) <= 0).any():
        raise ArenaError("times must increase; sort them and drop repeated ones")
    spread = float(matrix.max() - matrix.min())
    if max_step is None:
        max_step = 0.02 / spread if spread > 0 else math.inf
    real_number(max_step, "max_step", "a positive time", lambda x: x > 0)
    gaps = np.diff(moments)
    counts = np.maximum(np.ceil(gaps / max_step - 1e-9), 1)
    if counts.sum() > _MAX_STEPS:
        raise ArenaError(f"{counts.sum():.3g} steps are needed for these times; shorten them or raise max_step")
    # Adding a constant to a column changes no difference of fitness: centred columns keep y small.
    centred = matrix - matrix.mean(axis=0)
    steps = (gaps / counts, counts.astype(np.int32))
    if isinstance(start, jax.core.Tracer):
        dtype = start.dtype
        return _follow(jnp.asarray(centred, dtype), start, jnp.asarray(steps[0], dtype), jnp.asarray(steps[1]))
    shares = distribution(start, len(matrix), "start")
    with jax.enable_x64(True):
        run = _follow_one if shares.ndim == 1 else _follow_many
        path = run(jnp.asarray(centred), jnp.asarray(shares), jnp.asarray(steps[0]), jnp.asarray(steps[1]))
        return np.asarray(path)


def _follow(payoff: jax.Array, start: jax.Array, sizes: jax.Array, counts: jax.Array) -> jax.Array:
    def slope(y: jax.Array) -> jax.Array:
        return payoff @ jax.nn.softmax(y)

    def step(h: jax.Array, y: jax.Array) -> jax.Array:
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y - y.max()

    def until_next_time(y: jax.Array, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        h, count = interval
        y = jax.lax.fori_loop(0, count, lambda _, y: step(h, y), y)
        return y, jax.nn.softmax(y)

    _, path = jax.lax.scan(until_next_time, jnp.log(start), (sizes, counts))
    return jnp.concatenate([start[None], path])


_follow_one = jax.jit(_follow)
_follow_many = jax.jit(jax.vmap(_follow, in_axes=(None, 0, None, None)))


@dataclass(frozen=True)
class Basins:
    """Where random starts end.

    Attributes:
        limits: (k, n) the distinct ends, the largest basin first.
        shares: (k,) fraction of the starts that end there.
        standard_errors: (k,) binomial.
        moving: fraction of the starts that were still moving (cycles, or very slow).
        starts: number of starts.
        time: the time the last of them was followed for.
    """

    limits: Array
    shares: Array
    standard_errors: Array
    moving: float
    starts: int
    time: float


def basins(payoff: Any, *, starts: int = 200, seed: int = 0, tolerance: float = 1e-6) -> Basins:
    """Estimate the size of each basin of attraction by following uniformly random starts to rest.

    Args:
        payoff: (n, n).
        starts: number of starts, uniform on the simplex.
        seed: seed of the starts.
        tolerance: a start rests when no share changes by more than this in the natural unit of time,
            1 / (largest − smallest payoff).

    Returns:
        The ends and their basins' shares.

    Raises:
        ArenaError: the payoff is not square, or starts below 1.

    Example:
        >>> found = basins([[1, 0], [0, 4]], starts=100)  # the first wins where it has more than 4/5
        >>> found.limits.round(3).tolist(), found.shares.round(1).tolist()
        ([[0.0, 1.0], [1.0, 0.0]], [0.8, 0.2])
    """
    matrix = square(payoff)
    n = len(matrix)
    count(starts, "starts", "the number of random starts")
    real_number(tolerance, "tolerance", "a change of shares above 0", lambda x: x > 0)
    x = random(seed).dirichlet(np.ones(n), size=starts)
    unit = 1.0 / max(float(np.ptp(matrix)), 1e-300)
    scaled = (matrix - matrix.min()) * unit
    resting = np.zeros(starts, bool)
    span, passed = 25.0, 0.0
    while True:
        fitness = x @ scaled.T
        speed = np.abs(x * (fitness - (x * fitness).sum(axis=1, keepdims=True))).max(axis=1)
        resting = speed < tolerance
        if resting.all() or passed > 1600:
            break
        # Always the same number of rows: one compilation.
        x = replicator(scaled, x, [0.0, span], max_step=0.1)[:, -1]
        x = np.maximum(x, 1e-300) / np.maximum(x, 1e-300).sum(axis=1, keepdims=True)
        passed += span
        span *= 2
    limits: list[Array] = []
    members: list[int] = []
    for end in x[resting]:
        for k, limit in enumerate(limits):
            if np.abs(limit - end).max() < 1e-2:
                members[k] += 1
                break
        else:
            limits.append(end)
            members.append(1)
    order = np.argsort(-np.array(members, dtype=int), kind="stable")
    shares = np.array(members, dtype=np.float64)[order] / starts
    ends = np.array(limits).reshape(-1, n)[order]
    ends = np.where(ends < 1e-3, 0.0, ends)
    return Basins(
        limits=ends / ends.sum(axis=1, keepdims=True),
        shares=shares,
        standard_errors=np.sqrt(shares * (1 - shares) / starts),
        moving=float(1 - resting.mean()),
        starts=starts,
        time=passed * unit,
    )
