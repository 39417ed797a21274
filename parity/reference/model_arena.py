"""ModelArena's equations 1 to 8 and the bookkeeping of its Algorithm 1, in plain Python over lists.

``scores[t][i]`` is model i's evaluation score at evaluation t; shares are fractions of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any


def learning_rate(scores: Sequence[float], window: int = 5) -> float:
    """Equation 1: λ = (1/w) Σ_{j=1..w} (S(t−j+1) − S(t−j)) / (1 + |S(t)|), for one model's scores so far.

    With fewer scores than the window the paper is silent; the published code uses those that are there, and 0 for one
    score. Both are silent about a score that is no number: an improvement from or to it is none and does not count,
    and a model whose last score is none makes no progress.
    """
    t = len(scores) - 1
    if not math.isfinite(scores[t]):
        return 0.0
    total, w = 0.0, 0
    for j in range(1, min(window, t) + 1):
        if math.isfinite(scores[t - j + 1]) and math.isfinite(scores[t - j]):
            total += (scores[t - j + 1] - scores[t - j]) / (1 + abs(scores[t]))
            w += 1
    return total / w if w else 0.0


def weights(progress: Sequence[float], epsilon: float = 1e-6) -> list[float]:
    """Equation 2."""
    raised = [max(value, epsilon) for value in progress]
    return [value / sum(raised) for value in raised]


def smoothed(w: Sequence[float], shares: Sequence[float], alpha: float = 0.7) -> list[float]:
    """Equation 3."""
    return [alpha * share + (1 - alpha) * new for new, share in zip(w, shares, strict=True)]


def floored(w: Sequence[float], delta: float = 0.05) -> list[float]:
    """Equation 4."""
    return [delta if value < delta else value for value in w]


def normalised(w: Sequence[float]) -> list[float]:
    """Equation 5."""
    return [value / sum(w) for value in w]


def allocate(
    progress: Sequence[float],
    shares: Sequence[float],
    *,
    alpha: float = 0.7,
    delta: float = 0.05,
    epsilon: float = 1e-6,
) -> list[float]:
    """Equations 2 to 6, as shares: m_i = w̄_i · B with B = 1."""
    return normalised(floored(smoothed(weights(progress, epsilon), shares, alpha), delta))


def allocate_published(
    progress: Sequence[float], shares: Sequence[float], *, alpha: float = 0.7, delta: float = 0.05
) -> list[float]:
    """The published code: equal shares when nobody progresses, or ε is a tenth of the smallest positive progress.

    Equal shares are returned as they are, without smoothing.
    """
    n = len(progress)
    if all(value <= 0 for value in progress):
        return [1 / n] * n
    smallest = min(value for value in progress if value > 0)
    raised = [max(value, 0.1 * smallest) for value in progress]
    w = [value / sum(raised) for value in raised]
    return normalised(floored(normalised(smoothed(w, shares, alpha)), delta))


def batch_size(memory_of: Callable[[int], float], memory: float, largest: int = 10_000) -> int:
    """Equation 7: the largest b whose need fits; 0 when not even one example does."""
    best = 0
    for b in range(1, largest + 1):
        if memory_of(b) <= memory:
            best = b
    return best


def steps_per_round(share: float | Fraction) -> int:
    """Line 14 of Algorithm 1. A share of whole numbers may be given as a fraction: nothing is then rounded."""
    return max(1, math.floor(10 * share))


def resource_utilization_efficiency(gains: Sequence[float], memory: Sequence[float]) -> float:
    """Equation 8."""
    return sum(abs(gain) / m for gain, m in zip(gains, memory, strict=True)) / len(gains)


def train(
    scores_at: Callable[[int, int], float],
    memory_of: Sequence[Callable[[int], float]],
    *,
    budget: float,
    rounds: int,
    evaluate_every: int,
    reallocate_every: int,
    window: int = 5,
) -> list[dict[str, Any]]:
    """Algorithm 1 without the training itself: what every round used. ``scores_at(i, t)`` stands for Evaluate.

    Returns:
        One record per round: the shares it ran under, the batch sizes and the steps, per model.
    """
    n = len(memory_of)
    shares = [1 / n] * n  # 3
    history = [[scores_at(i, 0)] for i in range(n)]  # 7-10
    progress = [0.0] * n
    records = []
    t = 0  # 6
    while t < rounds:  # 11
        sizes = [batch_size(memory_of[i], shares[i] * budget, 256) for i in range(n)]  # 13
        records.append({"shares": list(shares), "sizes": sizes, "steps": [steps_per_round(s) for s in shares]})  # 14
        t += 1  # 22
        if t % evaluate_every == 0:  # 23
            for i in range(n):
                history[i].append(scores_at(i, t))  # 25
                progress[i] = learning_rate(history[i], window)  # 26
        if t % reallocate_every == 0:  # 29
            shares = allocate(progress, shares)  # 30-32
    return records
