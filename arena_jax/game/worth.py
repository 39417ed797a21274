"""What each player of a coalition game is worth: leave-one-out, Shapley, weighted Banzhaf, and interactions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, count, random, real_number
from arena_jax.game.coalitions import EXACT_LIMIT, Oracle, Value, Values, coalitions, table, unseen

ROUNDING = 1e-6  # of the values: samples this near agree


def leave_one_out(value: Value, n: int) -> Values:
    """Measure what is lost when one player leaves: vᵢ = v(N) − v(N∖i).

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.

    Returns:
        Values from n + 1 evaluations; the standard errors are 0.

    Raises:
        ArenaError: the value function misbehaves.

    Example:
        >>> leave_one_out(lambda s: s @ [3.0, 1.0] + s[:, 0] * s[:, 1], 2).values.tolist()
        [4.0, 2.0]
    """
    oracle = Oracle(value, n)
    v = oracle(np.concatenate([np.ones((1, n), bool), ~np.eye(n, dtype=bool)]))
    return Values(v[0] - v[1:], np.zeros(n), oracle.evaluations, "leave-one-out")


def shapley(
    value: Value,
    n: int,
    *,
    evaluations: int | None = None,
    seed: int = 0,
    exact: bool | None = None,
    truncation: float | None = None,
) -> Values:
    """Share v(N) − v(∅) fairly: φᵢ = E_π[v(before i, and i) − v(before i)] over orders π.

    Sampled orders come in pairs, each with its reverse: a player's mean over a pair is exact for every game whose
    interactions are pairwise (2-additive), and efficiency holds after each pair.

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.
        evaluations: how many coalitions may be evaluated; a pair costs 2(n−1), and 2 more are needed once.
            Default: 20 pairs.
        seed: seed of the orders.
        exact: evaluate all 2ⁿ coalitions instead (n ≤ 16). Default: where these are no more than ``evaluations``.
        truncation: stop an order once |v(N) − v(S)| is below this, and give the rest of it 0 (Ghorbani and Zou
            2019): more orders for the same evaluations, a bias below the threshold, efficiency up to it.

    Returns:
        Values; standard errors over pairs, NaN when there was one pair, ``unseen`` where all pairs agree.

    Raises:
        ArenaError: too few evaluations for one pair, n too large for ``exact``, or the value function misbehaves.

    Example:
        >>> glove = lambda s: np.minimum(s[:, 0], s[:, 1] | s[:, 2])  # one left glove, two right ones
        >>> found = shapley(glove, 3)
        >>> found.values.round(4).tolist(), found.evaluations, found.method
        ([0.6667, 0.1667, 0.1667], 8, 'Shapley (exact)')
        >>> pairwise = lambda s: s @ [1.0, 2.0, 3.0] + s[:, 0] * s[:, 2]
        >>> shapley(pairwise, 3, evaluations=6, seed=0).values.round(12).tolist()
        [1.5, 2.0, 3.5]

    Source: Shapley 1953; antithetic orders: Mitchell, Cooper, Frank and Holmes 2022 (JMLR 23).
    """
    oracle = Oracle(value, n)
    if evaluations is None:
        evaluations = 2 + 40 * (n - 1)
    count(evaluations, "evaluations", "how many coalitions may be evaluated")
    if truncation is not None:
        real_number(truncation, "truncation", "a difference in value, at least 0", lambda x: x >= 0)
    if _exact(exact, n, evaluations):
        sizes = np.arange(n)
        weights = np.array([1 / (n * math.comb(n - 1, s)) for s in sizes])
        return _semivalue(oracle, weights, "Shapley (exact)")
    cost = 2 * (n - 1)
    if evaluations < 2 + cost:
        raise ArenaError(f"{evaluations} evaluations are too few for {n} players; one pair of orders needs {2 + cost}")
    v_none, v_all = oracle(np.stack([np.zeros(n, bool), np.ones(n, bool)]))
    rng = random(seed)
    marginals: list[Array] = []
    while (pairs := (evaluations - oracle.evaluations) // cost) > 0:
        before = oracle.evaluations
        orders = rng.permuted(np.tile(np.arange(n), (pairs, 1)), axis=1)
        orders = np.concatenate([orders, orders[:, ::-1]])
        if truncation is None:
            marginal_values = walk(oracle, orders, v_none, v_all)
        else:
            marginal_values = _walk_truncated(oracle, orders, v_none, v_all, truncation)
        marginals.append((marginal_values[:pairs] + marginal_values[pairs:]) / 2)
        # An order truncated at once costs nothing: then more of them teach nothing either.
        if truncation is None or oracle.evaluations - before < pairs:
            break
    result = average(np.concatenate(marginals), oracle, "Shapley (antithetic orders)")
    return dataclasses.replace(result, gap=float(result.values.sum() - (v_all - v_none)))


def banzhaf(
    value: Value,
    n: int,
    *,
    keep: float = 0.9,
    evaluations: int | None = None,
    seed: int = 0,
    exact: bool | None = None,
) -> Values:
    """Average a player's contribution over random coalitions: βᵢ = E[v(S ∪ i) − v(S∖i)], j ∈ S with probability keep.

    Each sample is one coalition and its n neighbours (player i added or removed), so all players share the same
    noise. Over the samples every player is present equally often (a Latin hypercube): this makes the estimate exact
    for 2-additive games when keep × samples is a whole number.

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.
        keep: the probability that another player is present. 0.9 stays near the whole model, which is what
            pruning asks about; 0.5 is the Banzhaf value; 1 is leave-one-out (there, and at 0, one sample is exact).
        evaluations: how many coalitions may be evaluated; one sample costs n + 1. Default: 40 samples.
        seed: seed of the samples.
        exact: evaluate all 2ⁿ coalitions instead (n ≤ 16). Default: where these are no more than ``evaluations``.

    Returns:
        Values; the standard errors are those of independent samples, which bound the balanced ones' from above
        (Owen 1997), NaN when there was one sample, ``unseen`` where all samples agree.

    Raises:
        ArenaError: too few evaluations for one sample, keep outside [0, 1], n too large for ``exact``, or the value
            function misbehaves.

    Example:
        >>> pairwise = lambda s: s @ [1.0, 2.0, 3.0] + s[:, 0] * s[:, 2]
        >>> banzhaf(pairwise, 3, evaluations=40, exact=False, seed=0).values.round(12).tolist()
        [1.9, 2.0, 3.9]

    Source: Dubey, Neyman and Weber 1981; weighted: Marichal and Mathonet 2011; for data: Wang and Jia 2023.
    """
    oracle = Oracle(value, n)
    real_number(keep, "keep", "a probability between 0 and 1", lambda x: 0 <= x <= 1)
    if evaluations is None:
        evaluations = 40 * (n + 1)
    count(evaluations, "evaluations", "how many coalitions may be evaluated")
    certain = keep in (0, 1)  # there is one coalition to average over
    if not certain and _exact(exact, n, evaluations):
        sizes = np.arange(n)
        return _semivalue(oracle, keep**sizes * (1 - keep) ** (n - 1 - sizes), f"Banzhaf (exact, keep {keep:g})")
    samples = 1 if certain else evaluations // (n + 1)
    if evaluations < n + 1:
        raise ArenaError(f"{evaluations} evaluations are too few for {n} players; one sample needs {n + 1}")
    rng = random(seed)
    strata = rng.permuted(np.tile(np.arange(samples), (n, 1)), axis=1).T
    present = (strata + rng.random((samples, n))) / samples < keep
    flip = np.concatenate([np.zeros((1, n), bool), np.eye(n, dtype=bool)])
    v = oracle((present[:, None, :] ^ flip).reshape(-1, n)).reshape(samples, n + 1)
    marginals = np.where(present, v[:, :1] - v[:, 1:], v[:, 1:] - v[:, :1])
    if certain:
        return Values(marginals[0], np.zeros(n), oracle.evaluations, f"Banzhaf (exact, keep {keep:g})")
    return average(marginals, oracle, f"Banzhaf (keep {keep:g})")


def interactions(value: Value, n: int, *, index: Literal["grand", "shapley"] = "grand") -> Values:
    """Measure pairs: Iᵢⱼ = v(S ∪ ij) − v(S ∪ i) − v(S ∪ j) + v(S), negative for substitutes, positive for complements.

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.
        index: "grand" takes S = N∖ij, around the whole (1 + n + n(n−1)/2 evaluations); "shapley" is the Shapley
            interaction index, the mean over all S weighted |S|!(n−|S|−2)!/(n−1)! (2ⁿ evaluations, n ≤ 16).

    Returns:
        Values, symmetric (n, n) with a zero diagonal; the standard errors are 0.

    Raises:
        ArenaError: an unknown index, n too large for "shapley", or the value function misbehaves.

    Example:
        >>> interactions(lambda s: s @ [1.0, 2.0, 3.0] - 5 * s[:, 0] * s[:, 2], 3).values.tolist()
        [[0.0, 0.0, -5.0], [0.0, 0.0, 0.0], [-5.0, 0.0, 0.0]]

    Source: Grabisch and Roubens 1999.
    """
    oracle = Oracle(value, n)
    result = np.zeros((n, n))
    i, j = np.triu_indices(n, 1)
    if index == "grand":
        without = ~np.eye(n, dtype=bool)
        v = oracle(np.concatenate([np.ones((1, n), bool), without, without[i] & without[j]]))
        singles, pairs_left = v[1 : n + 1], v[n + 1 :]
        result[i, j] = v[0] - singles[i] - singles[j] + pairs_left
    elif index == "shapley":
        v = table(oracle)
        members = coalitions(n)
        sizes = members.sum(axis=1)
        weights = np.array([1 / ((n - 1) * math.comb(n - 2, s)) for s in range(n - 1)])
        for a, b in zip(i, j, strict=True):
            rest = np.flatnonzero(~members[:, a] & ~members[:, b])
            second_differences = v[rest + (1 << a) + (1 << b)] - v[rest + (1 << a)] - v[rest + (1 << b)] + v[rest]
            result[a, b] = weights[sizes[rest]] @ second_differences
    else:
        raise ArenaError(f"unknown index {index!r}; known: grand, shapley")
    return Values(result + result.T, np.zeros((n, n)), oracle.evaluations, f"interactions ({index})")


def _exact(exact: bool | None, n: int, evaluations: int) -> bool:
    """Whether all coalitions are evaluated: as wanted, else where they are no more than the samples may be."""
    return n == 1 or (n <= EXACT_LIMIT and 2**n <= evaluations if exact is None else exact)


def _semivalue(oracle: Oracle, weights: Any, method: str) -> Values:
    """Sum weighted contributions over all coalitions; weights (n,) by the size of the others."""
    v = table(oracle)
    members = coalitions(oracle.n)
    sizes = members.sum(axis=1)
    values = np.empty(oracle.n)
    for i in range(oracle.n):
        rest = np.flatnonzero(~members[:, i])
        values[i] = weights[sizes[rest]] @ (v[rest + (1 << i)] - v[rest])
    return Values(values, np.zeros(oracle.n), oracle.evaluations, method)


def _prefixes(orders: Array, n: int) -> Array:
    """Who has come after each step of each order: (m, n) → (m, n, n) booleans."""
    position = np.argsort(orders, axis=1)
    return position[:, None, :] <= np.arange(n)[None, :, None]


def walk(oracle: Oracle, orders: Array, v_none: float, v_all: float) -> Array:
    """What each player adds in each order: orders (m, n) of players → (m, n).

    Args:
        oracle: of the value function.
        orders: permutations.
        v_none: v(∅).
        v_all: v(N).
    """
    m, n = orders.shape
    inner = oracle(_prefixes(orders, n)[:, :-1].reshape(-1, n)).reshape(m, n - 1)
    path = np.concatenate([np.full((m, 1), v_none), inner, np.full((m, 1), v_all)], axis=1)
    marginals = np.empty((m, n))
    np.put_along_axis(marginals, orders, np.diff(path, axis=1), axis=1)
    return marginals


def _walk_truncated(oracle: Oracle, orders: Array, v_none: float, v_all: float, threshold: float) -> Array:
    m, n = orders.shape
    prefixes = _prefixes(orders, n)
    marginals = np.zeros((m, n))
    current = np.full(m, v_none)
    active = np.abs(v_all - current) >= threshold
    for step in range(n):
        rows = np.flatnonzero(active)
        if len(rows) == 0:
            break
        after = oracle(prefixes[rows, step]) if step < n - 1 else np.full(len(rows), v_all)
        marginals[rows, orders[rows, step]] = after - current[rows]
        current[rows] = after
        active[rows] = np.abs(v_all - after) >= threshold
    return marginals


def average(marginals: Array, oracle: Oracle, method: str) -> Values:
    """The mean over samples, and its standard errors: NaN of one sample, ``unseen`` where all agree.

    Args:
        marginals: (samples, n).
        oracle: which counted the evaluations.
        method: name of the estimator.
    """
    samples = len(marginals)
    errors = np.full(oracle.n, np.nan)
    if samples > 1:
        errors = marginals.std(axis=0, ddof=1) / math.sqrt(samples)
        alike = np.ptp(marginals, axis=0) <= ROUNDING * max(abs(oracle.low), abs(oracle.high))
        errors = np.where(alike, unseen(samples, oracle.high - oracle.low), errors)
    return Values(marginals.mean(axis=0), errors, oracle.evaluations, method, samples=samples)
