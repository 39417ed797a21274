"""The game that models play for the budget, with what they were measured to learn from it: the paper's equation 17."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from arena_jax.arena.simulate import Curves
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.concave import best_division, price_of_division, proportional_share_of
from arena_jax.equilibria.nash import bimatrix_equilibria, pure_equilibria

STEPS = 60  # divisible by the number of models, where there are 2 to 6: equal shares are on the grid
CLAIMS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
_MOST_PROFILES = 2_000_000
_MOST_STRATEGIES = 10
_LARGEST_GAP = 1e-6  # of an equilibrium, as a part of the best welfare: what bisection leaves of 0


class Equilibrium(NamedTuple):
    """Where the models end up under one rule.

    Attributes:
        rule: ``"free"``, ``"opportunity cost"`` or ``"auction"``.
        price: of the whole budget, in units of progress.
        shares: [models], summing to at most 1; of several equilibria, those of the worst.
        welfare: Σ λ_i at the worst equilibrium.
        best_welfare: … at the best one.
        number: how many equilibria there are. 0 where none was found, and then shares are NaN; of an auction where
            somebody gains by another bid: then shares are those of the equilibrium of the curves' concave hulls.
        mixed: whether the shares are the mean of a mixed equilibrium.
        gap: what a model could gain alone: by another of the claims, which is 0 in an equilibrium among these; of the
            auction by any bid.
    """

    rule: str
    price: float
    shares: np.ndarray
    welfare: float
    best_welfare: float
    number: int
    mixed: bool
    gap: float


class Analysis(NamedTuple):
    """The game of one run.

    Attributes:
        progress: λ_i at shares 0, 1/steps, …, 1, [models, steps + 1].
        optimum: the shares with the largest welfare Σ λ_i, [models].
        welfare: there.
        equal: the welfare of equal shares.
        equilibria: under each rule.
    """

    progress: np.ndarray
    optimum: np.ndarray
    welfare: float
    equal: float
    equilibria: tuple[Equilibrium, ...]


def progress_of_shares(curves: Curves, budget: float, steps: int = STEPS) -> np.ndarray:
    """Read off a run's curves what each share of the budget brings each model.

    λ(m) = (S(m·B) − S(0)) / (1 + |S(m·B)|)

    That is equation 1 with the whole run as one improvement. A share that buys more seconds than the curves have was
    not measured: it is taken to bring what their last point did, and no more.

    Args:
        curves: of one run, scores [models, points].
        budget: B, device-seconds of the run.
        steps: into which the budget is divided.

    Returns:
        λ [models, steps + 1], float64; a model that has diverged at a share has learned nothing there.

    Raises:
        ArenaError: a budget that is not above 0.

    Example:
        >>> curves = Curves(np.array([0.0, 10.0]), np.array([[-4.0, -2.0], [-1.0, -1.0]]))
        >>> progress_of_shares(curves, 10.0, steps=2).round(3).tolist()
        [[0.0, 0.25, 0.667], [0.0, 0.0, 0.0]]

    Source: ModelArena, equations 1 and 17.
    """
    if not 0 < budget < np.inf:
        raise ArenaError(f"progress_of_shares: the budget is {budget:g}; give device-seconds above 0")
    at = np.linspace(0, budget, steps + 1)
    scores = np.array([np.interp(at, curves.seconds, row) for row in np.asarray(curves.scores, float)])
    progress = (scores - scores[:, :1]) / (1 + np.abs(scores))
    return np.where(np.isfinite(progress), progress, 0.0)


def claims_game(progress: ArrayLike, claims: ArrayLike, price: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Set up the game in which each model claims a share and pays for what it gets.

    Utility_i = λ_i(m_i) − price · m_i,  m_i = claim_i / max(1, Σ claims)

    Claims that together exceed the budget are cut in proportion: so a model's share hangs on the others' claims.

    Args:
        progress: λ [models, steps + 1].
        claims: [strategies], between 0 and 1, that each may make.
        price: of the whole budget.

    Returns:
        A payoff table for each model, axis j the claim of model j; and the shares, the same axes and [models] last.

    Raises:
        ArenaError: the tables would be too large.

    Example:
        >>> tables, shares = claims_game([[0.0, 1.0], [0.0, 0.5]], [0.5, 1.0], price=0.8)
        >>> tables[0].round(3).tolist(), shares[1, 1].tolist()
        ([[0.1, 0.067], [0.133, 0.1]], [0.5, 0.5])

    Source: ModelArena, equation 17.
    """
    utilities, levels = np.asarray(progress, float), np.asarray(claims, float)
    models = len(utilities)
    if len(levels) ** models > _MOST_PROFILES:
        raise ArenaError(
            f"a game of {models} models with {len(levels)} claims has {len(levels) ** models:,} outcomes; give fewer "
            "claims or models"
        )
    profiles = np.stack(np.meshgrid(*[levels] * models, indexing="ij"), axis=-1)
    shares = profiles / np.maximum(1, profiles.sum(axis=-1, keepdims=True))
    at = np.linspace(0, 1, utilities.shape[1])
    tables = [np.interp(shares[..., i], at, row) - price * shares[..., i] for i, row in enumerate(utilities)]
    return tables, shares


def analyze(progress: ArrayLike) -> Analysis:
    """Find the equilibria of the game under three costs, beside the best division.

    - ``"free"``: memory costs nothing. Whoever gains by more claims everything.
    - ``"opportunity cost"``: a share costs what it would bring where it brings most, the price at which the whole is
      just wanted (`equilibria.price_of_division`).
    - ``"auction"``: models bid; the price is the sum of their bids (`equilibria.proportional_share_of`).

    For the first two every model may claim the parts in ``CLAIMS``, equal shares and its share of the best division;
    pure equilibria are found by looking at every outcome. Where two models have none, a mixed one is taken.

    Args:
        progress: λ [models, steps + 1], of two models or more.

    Returns:
        The analysis.

    Raises:
        ArenaError: a single model, or more than the tables can hold.

    Example:
        >>> at = np.linspace(0, 1, 61)
        >>> analysis = analyze([1 - np.exp(-8 * at), 1 - np.exp(-2 * at)])
        >>> analysis.optimum.round(2).tolist()
        [0.33, 0.67]
        >>> [(e.rule, e.shares.round(2).tolist()) for e in analysis.equilibria]
        [('free', [0.5, 0.5]), ('opportunity cost', [0.33, 0.67]), ('auction', [0.38, 0.62])]

    Source: ModelArena, equation 17; the price of anarchy: Koutsoupias and Papadimitriou 1999.
    """
    utilities = np.asarray(progress, float)
    models = len(utilities)
    if models < 2:
        raise ArenaError("a game needs two models or more; this run has one")
    best = best_division(utilities)
    at = np.linspace(0, 1, utilities.shape[1])
    equal = float(sum(np.interp(1 / models, at, row) for row in utilities))
    cost = price_of_division(utilities)
    auction = proportional_share_of(utilities)
    reached = float(sum(np.interp(share, at, row) for share, row in zip(auction.shares, utilities, strict=True)))
    holds = auction.gap <= _LARGEST_GAP * max(abs(best.welfare), 1e-12)
    equilibria = (
        _claims_equilibrium("free", utilities, best.shares, 0.0),
        _claims_equilibrium("opportunity cost", utilities, best.shares, cost),
        Equilibrium("auction", auction.price, auction.shares, reached, reached, int(holds), False, auction.gap),
    )
    return Analysis(utilities, best.shares, best.welfare, equal, equilibria)


def price_of_anarchy(analysis: Analysis, equilibrium: Equilibrium) -> float:
    """Compute what selfishness costs: the best welfare over that of the worst equilibrium.

    Args:
        analysis: of the game.
        equilibrium: under one of its rules.

    Returns:
        A ratio, at least 1; infinite where the equilibrium's welfare is not above 0, NaN where there is none.

    Example:
        >>> analysis = analyze([[0.0, 1.0], [0.0, 0.5]])  # at a price of 0.5 the second does not mind what it has
        >>> [round(price_of_anarchy(analysis, equilibrium), 3) for equilibrium in analysis.equilibria]
        [1.333, 1.333, 1.2]
    """
    if not equilibrium.number:
        return float("nan")
    if equilibrium.welfare <= 0:
        return 1.0 if analysis.welfare <= 0 else float("inf")
    return max(analysis.welfare / equilibrium.welfare, 1.0)


def _claims_equilibrium(rule: str, progress: np.ndarray, optimum: np.ndarray, price: float) -> Equilibrium:
    models = len(progress)
    levels = _claims(optimum, models)
    tables, shares = claims_game(progress, levels, price)
    welfare = sum(tables) + price * shares.sum(axis=-1)
    profiles = pure_equilibria(tables, tolerance=1e-9)
    if len(profiles):
        values = np.array([welfare[tuple(profile)] for profile in profiles])
        worst = tuple(profiles[values.argmin()])
        return Equilibrium(
            rule, price, shares[worst], float(values.min()), float(values.max()), len(profiles), False, 0.0
        )
    pairs: list[Any] = bimatrix_equilibria(*tables) if models == 2 else []
    if not pairs:
        nan = float("nan")
        return Equilibrium(rule, price, np.full(models, nan), nan, nan, 0, False, nan)
    values = np.array([x @ welfare @ y for x, y in pairs])
    x, y = pairs[int(values.argmin())]
    mean = np.einsum("i,j,ijk->k", x, y, shares)
    return Equilibrium(rule, price, mean, float(values.min()), float(values.max()), len(pairs), True, 0.0)


def _claims(optimum: np.ndarray, models: int) -> np.ndarray:
    """What may be claimed: the fixed parts, an equal share, the best division's; as many as the tables can hold."""
    count = _MOST_STRATEGIES
    while count**models > _MOST_PROFILES:
        count -= 1
    needed = np.unique(np.round([0.0, 1.0, 1 / models, *optimum], 12))
    coarse = [claim for claim in CLAIMS if np.abs(needed - claim).min() > 1e-9]
    return np.sort(np.concatenate([needed, coarse[: max(0, count - len(needed))]]))
