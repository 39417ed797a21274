"""Scaling laws L(N, D) = E + A/Nᵅ + B/Dᵝ, and what to spend a budget on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, certainty, count, finite_array, random, real_number
from arena_jax.game._least_squares import minimise
from arena_jax.game.compute_gain import ComputeGain, compute_equivalent_gain

__all__ = ["ComputeGain", "ScalingLaw", "compute_equivalent_gain", "fit"]

DELTA = 1e-3
_NAMES = ("E", "A", "B", "alpha", "beta")
_MINIMUM_CELLS = 6


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law L(N, D) = E + A/Nᵅ + B/Dᵝ, in nats per token if the losses were.

    Attributes:
        E: irreducible loss.
        A: coefficient of the model size.
        B: coefficient of the data size.
        alpha: exponent of the model size.
        beta: exponent of the data size.
        intervals: {name: (low, high)} percentiles of the bootstrap over cells; NaN without one. Also for
            "optimal_exponent" = β/(α+β), the exponent of N in compute.
        objective: the summed Huber loss at the optimum.
        cells: number of distinct (N, D).
        resamples: bootstrap resamples behind the intervals.
        confidence: of the intervals.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    intervals: dict[str, tuple[float, float]]
    objective: float
    cells: int
    resamples: int
    confidence: float

    @property
    def optimal_exponent(self) -> float:
        """The exponent a in N_opt ∝ Cᵃ: β / (α + β)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """Predict the loss of models with N parameters after D tokens (numbers or arrays)."""
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        return self.E + self.A / n**self.alpha + self.B / d**self.beta

    def compute_optimal(self, compute: float, *, flops_per_parameter_token: float = 6.0) -> tuple[float, float]:
        """Return the N and D that minimise the loss at C = 6·N·D floating-point operations.

        N = G (C/6)^(β/(α+β)), D = (C/6)/N, G = (αA/βB)^(1/(α+β)).

        Raises:
            ArenaError: compute is not a positive number.
        """
        real_number(compute, "compute", "floating-point operations, above 0", lambda x: 0 < x < np.inf)
        real_number(
            flops_per_parameter_token, "flops_per_parameter_token", "a number above 0", lambda x: 0 < x < np.inf
        )
        product = compute / flops_per_parameter_token
        factor = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        size = factor * product**self.optimal_exponent
        return float(size), float(product / size)

    def __str__(self) -> str:
        rows = [f"L = E + A/N^alpha + B/D^beta from {self.cells} cells, Huber objective {self.objective:.6g}"]
        for name in (*_NAMES, "optimal_exponent"):
            low, high = self.intervals[name]
            rows.append(f"  {name:<16} {getattr(self, name):<11.6g} [{low:.5g}, {high:.5g}]")
        return "\n".join(rows)


def fit(
    parameters: Any,
    tokens: Any,
    losses: Any,
    *,
    starts: int = 120,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> ScalingLaw:
    """Fit L(N, D) = E + A/Nᵅ + B/Dᵝ by the Huber loss (δ = 10⁻³, summed) of the residuals in log space.

    Levenberg–Marquardt with analytic derivatives from many points of Hoffmann's grid at once: it finds the optimum of
    L-BFGS-B (the published choice) from twice as many of the starts, and to the last digit (`benchmarks/game.py` times
    both). The bootstrap resamples cells (N, D) with all their seeds: seeds of one cell share the law's error.

    Args:
        parameters: N per run, any shape.
        tokens: D per run, same shape.
        losses: final loss per run, same shape, above 0.
        starts: optimiser starts, at least 100.
        resamples: bootstrap resamples; 0 for none (the intervals are then NaN).
        confidence: of the intervals.
        seed: seed of the starts and resamples.

    Returns:
        The law with its intervals.

    Raises:
        ArenaError: fewer than 6 cells, fewer than 3 sizes or token counts, tokens a fixed power of parameters, a
            constant or impossible loss: then the five numbers are not determined by the data.

    Example:
        >>> n, d = np.meshgrid(np.logspace(7.6, 10.2, 5), np.logspace(9.5, 11.8, 5))
        >>> law = fit(n, d, 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28, resamples=0)
        >>> [round(float(v), 4) for v in (law.E, law.A, law.B, law.alpha, law.beta)]
        [1.69, 406.4, 410.7, 0.34, 0.28]

    Source: Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3; Besiroglu et al. 2024 (arXiv 2404.10102).
    """
    count(starts, "starts", "how many starts look for the optimum, which few miss on real data", 100)
    certainty(resamples, confidence, 0)
    n, d, loss = _runs(parameters, tokens, losses)
    problem = _Problem(np.log(n), np.log(d), np.log(loss))
    rng = random(seed)
    ones = np.ones((1, len(loss)))
    thetas, values = problem.minimise(problem.grid(starts, rng), ones, rounds=60)
    thetas, values = problem.minimise(thetas[np.argsort(values)[:20]], ones, rounds=400)
    best = int(np.argmin(values))
    _, cell = np.unique(np.stack([n, d]), axis=1, return_inverse=True)
    cell = cell.ravel()
    cells = int(cell.max()) + 1
    weights: list[Array] = []
    attempts = 0
    while len(weights) < resamples:
        attempts += 1
        if attempts > 20 * resamples + 100:
            raise ArenaError("too many resamples are degenerate; measure more cells, or pass resamples=0")
        drawn = np.bincount(rng.integers(cells, size=cells), minlength=cells)[cell]
        if not _complaint(n[drawn > 0], d[drawn > 0], loss[drawn > 0]):
            weights.append(drawn.astype(np.float64))
    point = problem.original(thetas[best : best + 1])[0]
    intervals = dict.fromkeys((*_NAMES, "optimal_exponent"), (np.nan, np.nan))
    if weights:
        estimates = problem.original(
            problem.minimise(np.tile(thetas[best], (resamples, 1)), np.array(weights), rounds=200)[0]
        )
        estimates = np.column_stack([estimates, estimates[:, 4] / (estimates[:, 3] + estimates[:, 4])])
        low, high = np.percentile(estimates, [50 * (1 - confidence), 50 * (1 + confidence)], axis=0)
        intervals = {name: (float(a), float(b)) for name, a, b in zip(intervals, low, high, strict=True)}
    return ScalingLaw(
        **dict(zip(_NAMES, map(float, point), strict=True)),
        intervals=intervals,
        objective=float(values[best]),
        cells=cells,
        resamples=resamples,
        confidence=confidence,
    )


def _runs(parameters: Any, tokens: Any, losses: Any) -> tuple[Array, Array, Array]:
    any_shape = tuple(range(1, 5))
    n = finite_array(parameters, "parameters", any_shape)
    d = finite_array(tokens, "tokens", any_shape)
    loss = finite_array(losses, "losses", any_shape)
    if not n.shape == d.shape == loss.shape:
        raise ArenaError(f"parameters {n.shape}, tokens {d.shape} and losses {loss.shape} differ; give one per run")
    n, d, loss = n.ravel(), d.ravel(), loss.ravel()
    for name, values in (("parameters", n), ("tokens", d), ("losses", loss)):
        if values.min() <= 0:
            raise ArenaError(f"{name} holds {values.min():g}; the law is fitted to logarithms, give positive numbers")
    if complaint := _complaint(n, d, loss):
        raise ArenaError(complaint)
    return n, d, loss


def _complaint(n: Array, d: Array, loss: Array) -> str:
    """Why these runs do not determine the law; empty if they do."""
    cells = np.unique(np.stack([n, d]), axis=1).shape[1]
    if cells < _MINIMUM_CELLS:
        return f"{cells} cells (N, D) cannot determine 5 numbers; measure at least {_MINIMUM_CELLS}"
    for name, values in (("model sizes", n), ("token counts", d)):
        if len(np.unique(values)) < 3:
            return f"{len(np.unique(values))} {name} cannot tell a power from a constant; measure at least 3"
    if abs(np.corrcoef(np.log(n), np.log(d))[0, 1]) > 1 - 1e-9:
        return "tokens are a fixed power of parameters, so size and data cannot be told apart; vary one alone"
    if np.ptp(np.log(loss)) < 1e-12:
        return "all losses are equal; there is no law in them"
    return ""


class _Problem:
    """The Huber objective in θ = (a, b, e, α, β), where A = exp a, with ln N and ln D measured from their means.

    The centring makes coefficients and exponents nearly independent; without it the valley is so narrow that
    optimisers stop early.
    """

    def __init__(self, log_n: Array, log_d: Array, log_loss: Array) -> None:
        self.centre = float(log_n.mean()), float(log_d.mean())
        self.n, self.d, self.target = log_n - self.centre[0], log_d - self.centre[1], log_loss

    def __call__(self, thetas: Array) -> tuple[Array, Callable[[], Array]]:
        """Residuals (s, m) of s parameter vectors, and their derivatives."""
        a, b, e, alpha, beta = (thetas[:, k, None] for k in range(5))
        parts = np.stack([a - alpha * self.n, b - beta * self.d, np.broadcast_to(e, (len(e), len(self.n)))], axis=-1)
        top = parts.max(axis=-1, keepdims=True)
        powers = np.exp(parts - top)
        total = powers.sum(axis=-1, keepdims=True)

        def derivatives() -> Array:
            shares = powers / total
            slopes = [shares, -shares[..., :1] * self.n[:, None], -shares[..., 1:2] * self.d[:, None]]
            return np.concatenate(slopes, axis=-1)

        return (top + np.log(total))[..., 0] - self.target, derivatives

    def minimise(self, thetas: Array, weights: Array, rounds: int) -> tuple[Array, Array]:
        """Minima and objectives from s starts; weights (s, m) or (1, m)."""
        return minimise(self, thetas, weights, delta=DELTA, positive=(3, 4), rounds=rounds)

    def grid(self, count: int, rng: np.random.Generator) -> Array:
        """Hoffmann's grid of 4,500 starts: half of the choice by objective, the other half at random."""
        fives, halves = np.arange(0, 30, 5.0), np.arange(0, 2.5, 0.5)
        grid = np.array(list(itertools.product(fives, fives, np.arange(-1, 1.5, 0.5), halves, halves)))
        grid[:, 0] -= grid[:, 3] * self.centre[0]
        grid[:, 1] -= grid[:, 4] * self.centre[1]
        # Where an exponent is 0 its gradient vanishes in places: start just above.
        grid[:, 3:] = np.maximum(grid[:, 3:], 1e-3)
        # Far from the data the Huber loss is nearly δ·|residual|.
        values = np.concatenate([np.abs(self(part)[0]).sum(axis=1) for part in np.array_split(grid, 9)])
        order = np.argsort(values, kind="stable")
        rest = rng.choice(order[count // 2 :], size=count - count // 2, replace=False)
        return np.asarray(grid[np.concatenate([order[: count // 2], rest])])

    def original(self, thetas: Array) -> Array:
        """(s, 5) values of E, A, B, α, β in the units of the data."""
        a, b, e, alpha, beta = thetas.T
        with np.errstate(over="ignore"):
            factors = np.exp([e, a + alpha * self.centre[0], b + beta * self.centre[1]])
        return np.stack([*factors, alpha, beta], axis=1)
