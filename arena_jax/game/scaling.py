"""Scaling laws L(N, D) = E + A/Nᵅ + B/Dᵝ, and what to spend a budget on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, certainty, count, finite_array, random, real_number
from arena_jax.game._determination import is_needed, standard_errors
from arena_jax.game._least_squares import dispersion, minimise
from arena_jax.game.compute_gain import ComputeGain, compute_equivalent_gain

__all__ = ["ComputeGain", "ScalingLaw", "compute_equivalent_gain", "fit"]

DELTA = 1e-3
_NAMES = ("E", "A", "B", "alpha", "beta")
_MINIMUM_CELLS = 6
_ABSENT = -1e3  # ln A or ln B of a term that is left out: exp(−1000) is 0
# Each power term: what it depends on, and the places of its coefficient and its exponent in θ = (a, b, e, α, β).
_TERMS = {"A/N^alpha": ("model size", 0, 3), "B/D^beta": ("token count", 1, 4)}


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law L(N, D) = E + A/Nᵅ + B/Dᵝ, in nats per token if the losses were.

    Attributes:
        E: irreducible loss; NaN if the data do not determine it.
        A: coefficient of the model size; 0 if the losses do not depend on it.
        B: coefficient of the data size; 0 if the losses do not depend on it.
        alpha: exponent of the model size; NaN if the data do not determine it, as is then A unless it is 0.
        beta: exponent of the data size; the same.
        intervals: {name: (low, high)} percentiles of the bootstrap over cells; NaN without one. Also for
            "optimal_exponent" = β/(α+β), the exponent of N in compute.
        objective: the summed Huber loss at the optimum.
        cells: number of distinct (N, D).
        resamples: bootstrap resamples behind the intervals.
        confidence: of the intervals.
        undetermined: {term: why the data do not determine it}; empty for a law that is known whole.
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
    undetermined: dict[str, str] = field(default_factory=dict)

    @property
    def optimal_exponent(self) -> float:
        """The exponent a in N_opt ∝ Cᵃ: β / (α + β)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """Predict the loss of models with N parameters after D tokens (numbers or arrays).

        Raises:
            ArenaError: a term is there, but the data do not determine it.
        """
        for value, term in ((self.E, "E"), (self.A, "A/N^alpha"), (self.B, "B/D^beta")):
            if np.isnan(value):
                raise ArenaError(f"no loss can be predicted: {self.undetermined[term]}")
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        terms = ((self.A, n, self.alpha), (self.B, d, self.beta))
        return self.E + sum(factor / x**exponent if factor else 0.0 * x for factor, x, exponent in terms)

    def compute_optimal(self, compute: float, *, flops_per_parameter_token: float = 6.0) -> tuple[float, float]:
        """Return the N and D that minimise the loss at C = 6·N·D floating-point operations.

        N = G (C/6)^(β/(α+β)), D = (C/6)/N, G = (αA/βB)^(1/(α+β)).

        Raises:
            ArenaError: compute is not a positive number, or the data do not determine one of the two power terms.
        """
        for term in _TERMS:
            if term in self.undetermined:
                raise ArenaError(f"there is no optimum to compute: {self.undetermined[term]}")
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
            value = getattr(self, name)
            rows.append(f"  {name:<16} " + (f"{value:<11.6g} [{low:.5g}, {high:.5g}]" if value == value else "none"))
        return "\n".join([*rows, *(f"  {reason}" for reason in self.undetermined.values())])


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

    A power term that does not improve the fit beyond noise is left out. A term whose exponent, or E, has an interval of
    ``confidence`` (from the curvature at the optimum) that reaches 0 is there, but not determined. Neither gets an
    exponent, and `ScalingLaw.undetermined` has the reason.

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
    grid = problem.grid(starts, rng)
    _, cell = np.unique(np.stack([n, d]), axis=1, return_inverse=True)
    cell = cell.ravel()
    cells = int(cell.max()) + 1
    best, undetermined = _without_absent_terms(problem, grid, cells)
    undetermined |= _unclear_terms(problem, best, set(undetermined), cells, confidence)
    weights: list[Array] = []
    attempts = 0
    while len(weights) < resamples:
        attempts += 1
        if attempts > 20 * resamples + 100:
            raise ArenaError("too many resamples are degenerate; measure more cells, or pass resamples=0")
        resample = np.bincount(rng.integers(cells, size=cells), minlength=cells)[cell]
        if not _complaint(n[resample > 0], d[resample > 0], loss[resample > 0]):
            weights.append(resample.astype(np.float64))
    point = problem.original(best[None])[0]
    intervals = np.full((6, 2), np.nan)
    if weights:
        estimates = problem.original(problem.minimise(np.tile(best, (resamples, 1)), np.array(weights), rounds=200)[0])
        estimates = np.column_stack([estimates, estimates[:, 4] / (estimates[:, 3] + estimates[:, 4])])
        intervals = np.percentile(estimates, [50 * (1 - confidence), 50 * (1 + confidence)], axis=0).T
    for k, term in enumerate(("E", *_TERMS)):
        if term in undetermined:
            exponent = [k + 2] if k else []  # in the order of _NAMES
            intervals[[k, *exponent, 5]] = np.nan
            point[exponent] = np.nan
            point[k] = point[k] if point[k] == 0 else np.nan
    return ScalingLaw(
        **dict(zip(_NAMES, map(float, point), strict=True)),
        intervals={
            name: (float(low), float(high))
            for name, (low, high) in zip((*_NAMES, "optimal_exponent"), intervals, strict=True)
        },
        objective=problem.objective(best),
        cells=cells,
        resamples=resamples,
        confidence=confidence,
        undetermined=undetermined,
    )


def _without_absent_terms(problem: _Problem, grid: Array, cells: int) -> tuple[Array, dict[str, str]]:
    """The optimum without the power terms that the fit does not need, and why each was left out."""
    best = problem.optimum(grid)
    undetermined: dict[str, str] = {}
    while True:
        residuals = problem(best[None])[0][0]
        shorter: list[tuple[float, str, Array]] = []
        for term, (_, coefficient, _) in _TERMS.items():
            if term in undetermined:
                continue
            starts = np.array(grid)
            starts[:, [coefficient, *(_TERMS[name][1] for name in undetermined)]] = _ABSENT
            without = problem.optimum(np.unique(starts, axis=0))
            size = {"parameters": 2, "all_parameters": 5 - 2 * len(undetermined), "cells": cells}
            if not is_needed(residuals, problem(without[None])[0][0], DELTA, **size):
                shorter.append((problem.objective(without), term, without))
        if not shorter:
            return best, undetermined
        _, term, best = min(shorter, key=lambda candidate: candidate[0])
        axis = _TERMS[term][0]
        undetermined[term] = (
            f"the losses do not depend on the {axis} beyond their noise, so there is no {term}; "
            f"measure a wider range of {axis}s, or more seeds"
        )
        if len(undetermined) == len(_TERMS):
            raise ArenaError(
                "the losses depend on neither model size nor token count beyond their noise; "
                "measure a wider range of both, or more seeds"
            )


def _unclear_terms(problem: _Problem, theta: Array, absent: set[str], cells: int, confidence: float) -> dict[str, str]:
    """Why the data do not determine a term that is there: its exponent's interval, or that of E, reaches 0."""
    residuals, derivatives = problem(theta[None])
    columns = [k for k in range(5) if not any(k in _TERMS[term][1:] for term in absent)]
    errors = np.zeros(5)
    errors[columns] = standard_errors(residuals[0], derivatives()[0][:, columns], DELTA, cells)
    reach = stats.t.ppf((1 + confidence) / 2, max(cells - len(columns), 1)) * errors
    reasons = {}
    for term, (axis, _, exponent) in _TERMS.items():
        if term not in absent and reach[exponent] >= theta[exponent]:
            reasons[term] = (
                f"the interval of the exponent in {term} reaches 0, so the data do not determine it; "
                f"measure a wider range of {axis}s, or more seeds"
            )
    if reach[2] >= 1:  # E is exp(e): its relative error
        reasons["E"] = (
            "the interval of E reaches 0, so the data do not determine it; measure larger models and more tokens"
        )
    return reasons


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

    def objective(self, theta: Array) -> float:
        """The Huber objective of one parameter vector."""
        return float(dispersion(self(theta[None])[0][0], DELTA))

    def optimum(self, starts: Array) -> Array:
        """The best of the minima from some starts."""
        ones = np.ones((1, len(self.target)))
        thetas, values = self.minimise(starts, ones, rounds=60)
        thetas, values = self.minimise(thetas[np.argsort(values)[:20]], ones, rounds=400)
        return np.asarray(thetas[np.argmin(values)])

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
