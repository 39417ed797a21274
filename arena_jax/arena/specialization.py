r"""Who learns what best: memory and data of several domains, and how far models divide them among themselves.

The paper expects that models specialise where there are several tasks (section 6.2.2), and gives no equation. Here:

- **Division.** The policy divides each domain as a competition of its own, by the models' scores in that domain:
  :math:`W_{id}` is model i's share of domain d, :math:`\sum_i W_{id} = 1`. Domains count alike, so that model i gets
  the memory :math:`m_i = \frac{1}{D}\sum_d W_{id}`, and of its rows the part :math:`W_{id} / \sum_e W_{ie}` is of d.
- **Index.** With :math:`P_{id}` the part of what was spent (operations, or seconds with ``--price seconds``) that went
  to model i in domain d, :math:`S = I(P) / \log\min(N, D)`: the mutual information of model and domain, as a part of
  the most there can be. 0: what a model does says nothing of the domain, as where one model, or none, is preferred in
  all of them; 1: each domain has models of its own.
- **Null distribution.** Models are exchanged within each domain, independently: who is good at one domain then says
  nothing of who is good at another. An index as large comes up by chance with the probability p.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from arena_jax.arena import policies
from arena_jax.arena.history import History
from arena_jax.config.errors import ArenaError

EXACT = 5_000  # exchanges of models at most that are all tried; of more, as many are drawn
_SMALL = 1e-12


class Specialization(NamedTuple):
    """How far models divide the domains among themselves.

    Attributes:
        value: S, the index, from 0 to 1.
        p: probability of an index as large if models are exchanged within domains.
        mean: of the index under these exchanges.
        exchanges: how many were looked at.
        exact: whether these are all that there are.
    """

    value: float
    p: float
    mean: float
    exchanges: int
    exact: bool


class Domains(NamedTuple):
    """What is recorded of several domains, evaluation after evaluation.

    Attributes:
        scores: [evaluations, domains, models], higher is better.
        shares: [evaluations, domains, models], W in force up to each evaluation; a domain's shares sum to 1.
    """

    scores: np.ndarray
    shares: np.ndarray


def data_parts(shares: ArrayLike) -> np.ndarray:
    """Which part of each model's rows is of which domain.

    Args:
        shares: W, [..., domains, models].

    Returns:
        As many; a model's sum to 1. One that has no share in any domain has equal parts of all.

    Example:
        >>> print(data_parts([[0.75, 0.25], [0.25, 0.75]])[:, 0])
        [0.75 0.25]
    """
    shares = np.asarray(shares, float)
    total = shares.sum(-2, keepdims=True)
    has_some = total > 0
    parts: np.ndarray = np.where(has_some, shares / np.where(has_some, total, 1), 1 / shares.shape[-2])
    return parts


def spent_by_domain(history: History, domains: Domains) -> np.ndarray:
    """Device-seconds (or whatever the history counts) of each model in each domain, up to each evaluation.

    Args:
        history: of the competition.
        domains: its domains, as many evaluations.

    Returns:
        [evaluations, domains, models].
    """
    return _by_domain(history.seconds, domains)


def divide(policy: policies.Policy, history: History, domains: Domains) -> np.ndarray:
    """Divide each domain among the models, as a competition of its own.

    Args:
        policy: from a history to shares.
        history: of the competition; its last shares are in force.
        domains: as many evaluations; its last shares are in force.

    Returns:
        W, [domains, models]; a domain's shares sum to 1.

    Raises:
        ArenaError: what the policy returned are no shares.

    Example:
        >>> from arena_jax.arena.history import extend, start
        >>> row = {"scores": [1, 1], "shares": [0.5, 0.5], "seconds": [1, 1], "steps": [1, 1], "fraction": 1}
        >>> history = extend(start([0.0, 0.0]), **row)
        >>> scores = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
        >>> domains = Domains(scores, np.full((2, 2, 2), 0.5))
        >>> divide(policies.policy("modelarena", smoothing=0.0), history, domains).round(2)
        array([[0.95, 0.05],
               [0.05, 0.95]])
    """
    seconds, steps = (_by_domain(spent, domains) for spent in (history.seconds, history.steps))
    return np.stack(
        [
            policies.decide(
                policy,
                history._replace(
                    scores=domains.scores[:, d],
                    shares=domains.shares[:, d],
                    seconds=seconds[:, d],
                    steps=steps[:, d],
                ),
            )
            for d in range(domains.scores.shape[1])
        ]
    )


def specialization(spent: ArrayLike, *, exchanges: int = EXACT, seed: int = 0) -> Specialization:
    """The index of specialisation, and its probability if models are exchanged within domains.

    Args:
        spent: [domains, models], from 0 up: what each model was given in each domain.
        exchanges: looked at, at most; all of them if there are no more.
        seed: of the exchanges, where they are drawn.

    Returns:
        The index with its null distribution's mean, and p = (1 + as large) / (1 + drawn); exactly where all are tried.

    Raises:
        ArenaError: fewer than two models or domains, or numbers that are no parts.

    Example:
        >>> specialization(np.eye(3))  # of 27 ways to choose three winners, 6 have three different ones
        Specialization(value=1.0, p=0.2222..., mean=0.6084..., exchanges=36, exact=True)
        >>> specialization(np.full((2, 4), 0.25)).p
        1.0
    """
    parts = np.asarray(spent, float)
    if parts.ndim != 2 or min(parts.shape) < 2:
        raise ArenaError(f"specialisation takes two models and two domains at least, not {parts.shape}")
    if not np.isfinite(parts).all() or (parts < 0).any() or not parts.sum() > 0:
        raise ArenaError("specialisation is read off parts from 0 up: these are none")
    count, models = parts.shape
    index = _index(parts)
    # Exchanging all models alike changes nothing, so that the first domain keeps its own.
    possible = math.factorial(models) ** (count - 1)
    exact = possible <= exchanges
    if exact:
        orders = np.array(list(itertools.permutations(range(models))))
        combinations = itertools.product(range(len(orders)), repeat=count - 1)
        every = (orders[list(numbers)] for numbers in combinations)
    else:
        rng = np.random.default_rng(seed)
        every = (rng.permuted(np.tile(np.arange(models), (count - 1, 1)), axis=1) for _ in range(exchanges))
    null = np.array([_index(np.concatenate([parts[:1], np.take_along_axis(parts[1:], order, 1)])) for order in every])
    larger, extra = int((null >= index - _SMALL).sum()), int(not exact)
    p = (larger + extra) / (len(null) + extra)
    return Specialization(index, p, float(null.mean()), len(null), exact)


def _index(spent: np.ndarray) -> float:
    joint = spent / spent.sum()
    apart = joint.sum(0, keepdims=True) * joint.sum(1, keepdims=True)
    there = joint > 0
    information = float((joint[there] * np.log(joint[there] / apart[there])).sum())
    index = information / math.log(min(joint.shape))
    # Of whole parts it is exact, and its sum of logarithms is not.
    return 0.0 if index < _SMALL else 1.0 if index > 1 - _SMALL else index


def _by_domain(spent: ArrayLike, domains: Domains) -> np.ndarray:
    """What models spent, [evaluations, models], by domain: each interval goes by the rows of its time."""
    spent = np.asarray(spent, float)
    each = np.diff(spent, axis=0, prepend=0)
    split: np.ndarray = np.cumsum(each[:, None] * data_parts(domains.shares), axis=0)
    return split
