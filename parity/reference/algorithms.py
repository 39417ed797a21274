"""MultiModelOptimizer's Algorithms 1, 2 and 3 and the factors of its learning rate, line by line.

``models`` is {name: literal parameters} and ``weights`` {name: w_i}. The published code differs from the paper in
places; those are the arguments, and the defaults are the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from parity.reference.parameters import Parameter

Models = Mapping[str, Sequence[Parameter]]


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """The published code's weights: they sum to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def members(models: Models) -> dict[tuple, int]:
    """How many parameters, over all models, have each (type, shape)."""
    count: dict[tuple, int] = {}
    for parameters in models.values():
        for p in parameters:
            count[p.key] = count.get(p.key, 0) + 1
    return count


def share_gradients(models: Models, weights: Mapping[str, float], alpha: float, *, skip_single: bool = False) -> None:
    """Algorithm 1, in place. ``skip_single`` is the published code's: a group of one parameter is left alone."""
    size = members(models)
    pool: dict[tuple, torch.Tensor] = {}  # 1
    for name, parameters in models.items():  # 2
        for p in parameters:  # 3
            if p.grad is None:
                continue
            if p.key not in pool:  # 5
                pool[p.key] = torch.zeros_like(p.grad)  # 6
            pool[p.key] = pool[p.key] + weights[name] * p.grad  # 8
    for parameters in models.values():  # 11
        for p in parameters:  # 12
            if p.grad is None or p.key not in pool:
                continue
            if skip_single and size[p.key] == 1:
                continue
            p.grad.copy_((1 - alpha) * p.grad + alpha * pool[p.key])  # 15


def synchronize_parameters(models: Models, weights: Mapping[str, float], beta: float) -> None:
    """Algorithm 2, in place. A group of one averages with itself alone, so that it needs no exception."""
    for key in members(models):  # 1
        average: torch.Tensor | float = 0.0  # 2
        total_weight = 0.0  # 3
        for name, parameters in models.items():  # 4
            for p in parameters:  # 5
                if p.key == key:
                    average = average + weights[name] * p.data  # 6
                    total_weight = total_weight + weights[name]  # 7
        if total_weight > 0:  # 10
            average = average / total_weight  # 11
            for parameters in models.values():  # 12
                for p in parameters:  # 13
                    if p.key == key:
                        p.data.copy_((1 - beta) * p.data + beta * average)  # 14


def slope(losses: Sequence[float]) -> float:
    """The slope of the least-squares line through (0, losses[0]), (1, losses[1]), …"""
    n = len(losses)
    mean_x = (n - 1) / 2
    mean_y = math.fsum(losses) / n
    above = math.fsum((x - mean_x) * (y - mean_y) for x, y in enumerate(losses))
    below = math.fsum((x - mean_x) ** 2 for x in range(n))
    return above / below


def convergence_rate(rate: float, history: Sequence[float], window: int, decay: float = 0.9) -> float:
    """Algorithm 3 for one model: its new rate r_i from the old one and its loss history."""
    if len(history) < window:  # 2
        return rate
    recent = history[-window:]  # 3
    norm_rate = 1 / (1 + abs(slope(recent)))  # 4, 5
    return decay * rate + (1 - decay) * norm_rate  # 6


def convergence_factor(rate: float, low: float = 0.5, high: float = 1.5) -> float:
    """f_conv: the paper leaves it open; the published scheduler clips 1/r."""
    return max(low, min(high, 1 / rate))


def warmup_factor(t: int, warmup: int) -> float:
    """f_warmup: from 0 to 1 over the first ``warmup`` steps; t counts the steps already made."""
    return min(1.0, t / warmup) if warmup else 1.0


def decay_factor(t: int, warmup: int, total: int) -> float:
    """f_decay: a cosine from 1 at the end of the warm-up to 0 at ``total``."""
    if t < warmup:
        return 1.0
    progress = min(1.0, (t - warmup) / (total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


def published_factor(step: int, warmup: int, horizon: int) -> float:
    """The published code's warm-up and cosine in one; ``step`` counts from 1 and the cosine never falls below a tenth.

    The cosine has made one step at least when it begins, and runs over a horizon that no end of training sets.
    """
    if step < warmup:
        return step / max(1, warmup)
    return max(0.1, 0.5 * (1 + math.cos(math.pi * max(1, step - warmup) / horizon)))
