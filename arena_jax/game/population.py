"""Population-based training: members train side by side, the worst copy the best and change what they copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, ask, count, finite_array, random, real_number

State = TypeVar("State")


@dataclass(frozen=True)
class Population(Generic[State]):
    """What a population found.

    Attributes:
        schedule: (rounds, K) multipliers of the best member's line of ancestors, in the order in which they acted.
        score: its last.
        state: its last.
        scores: (rounds, members), NaN where a member's was not finite.
        copied: how many times a member took another's place.
    """

    schedule: Array
    score: float
    state: State
    scores: Array
    copied: int


def train_population(
    start: Callable[[int], State],
    advance: Callable[[State, Array, int], State],
    score: Callable[[State], float],
    copy: Callable[[State], State],
    *,
    components: int,
    members: int = 8,
    rounds: int = 5,
    truncation: float = 0.2,
    factors: tuple[float, float] = (0.8, 1.25),
    spread: float = 2.0,
    seed: int = 0,
) -> Population[State]:
    """Train a population over multipliers.

    Args:
        start: makes member i.
        advance: (state, multipliers (K,), round) → state, after one round of training.
        score: of a state, higher is better.
        copy: of a state; ``advance`` may consume what it is given.
        components: K.
        members: at least 3.
        rounds: pieces that a full training is cut into; at most 10, so that each tells something.
        truncation: the fraction at the bottom that copies a random member of the same fraction at the top.
        factors: one of them, by chance, multiplies each number that is copied.
        spread: first multipliers are log-uniform in [1/spread, spread]; member 0 starts with all ones.
        seed: of all chance.

    Returns:
        The best member with the schedule that made it.

    Raises:
        ArenaError: numbers out of range, a function that raises, a score that is no number, or a round without a
            finite one.

    Example:
        >>> found = train_population(
        ...     lambda i: 0.0, lambda s, m, r: s - abs(np.log(m[0] / 1.5)), lambda s: s, lambda s: s, components=1
        ... )
        >>> found.schedule.shape, found.score > -2.02  # all ones: −5 ln 1.5
        ((5, 1), True)

    Source: Jaderberg et al. 2017 (arXiv 1711.09846), truncation selection.
    """
    count(members, "members", "the size of the population", 3)
    count(components, "components", "how many multipliers there are")
    if count(rounds, "rounds", "how many pieces a training is cut into") > 10:
        raise ArenaError(f"rounds is {rounds}; give at most 10, so that each tells something")
    real_number(truncation, "truncation", "a fraction in (0, 0.5]", lambda x: 0 < x <= 0.5)
    real_number(spread, "spread", "a factor of at least 1", lambda x: 1 <= x < np.inf)
    changes = finite_array(factors, "factors", 1)
    rng = random(seed)
    multipliers = np.exp(rng.uniform(-np.log(spread), np.log(spread), size=(members, components)))
    multipliers[0] = 1.0
    states = [ask(start, f"start, asked for member {i},", i) for i in range(members)]
    lines: list[list[Array]] = [[] for _ in range(members)]
    scores = np.full((rounds, members), np.nan)
    few, copied = max(1, round(truncation * members)), 0
    for turn in range(rounds):
        for i in range(members):
            states[i] = ask(advance, f"advance, in round {turn},", states[i], multipliers[i], turn)
            lines[i].append(multipliers[i].copy())
            value = real_number(ask(score, "score", states[i]), "what score returned", "one number", lambda x: True)
            scores[turn, i] = value if np.isfinite(value) else np.nan
        if np.isnan(scores[turn]).all():
            raise ArenaError(f"no member of the population has a finite score in round {turn + 1}; lower its rates")
        if turn + 1 == rounds:
            break
        order = np.argsort(np.nan_to_num(scores[turn], nan=-np.inf), kind="stable")
        for loser in order[:few]:
            winner = int(rng.choice(order[-few:]))
            states[loser] = ask(copy, "copy", states[winner])
            lines[loser] = list(lines[winner])
            multipliers[loser] = multipliers[winner] * rng.choice(changes, size=components)
            copied += 1
    winner = int(np.nanargmax(scores[-1]))
    return Population(np.array(lines[winner]), float(scores[-1, winner]), states[winner], scores, copied)
