"""MultiModelOptimizer's Algorithms 1, 2 and 3 and the factors of its learning rate, line by line.

``models`` is {name: literal parameters} and ``weights`` {name: w_i}. The published code and this project's default form
differ from the paper in places; those are the arguments, and the defaults are the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch

from parity.reference.parameters import Parameter

Models = Mapping[str, Sequence[Parameter]]
Key = Callable[[str, Parameter], Hashable]


def type_and_shape(name: str, p: Parameter) -> Hashable:
    """The paper's classification: what a parameter of a model shares with those of an equal key."""
    return p.key


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """The published code's weights: they sum to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def members(models: Models, key: Key = type_and_shape) -> dict[Hashable, int]:
    """How many parameters, over all models, have each (type, shape)."""
    count: dict[Hashable, int] = {}
    for name, parameters in models.items():
        for p in parameters:
            count[key(name, p)] = count.get(key(name, p), 0) + 1
    return count


def share_gradients(
    models: Models,
    weights: Mapping[str, float],
    alpha: float,
    *,
    skip_single: bool = False,
    mean: bool = False,
    key: Key = type_and_shape,
) -> None:
    """Algorithm 1, in place. ``skip_single`` is the published code's: a group of one parameter is left alone.

    ``mean`` divides a pool by the sum of its weights: the default form's.
    """
    size = members(models, key)
    pool: dict[Hashable, torch.Tensor] = {}  # 1
    total: dict[Hashable, float] = {}
    for name, parameters in models.items():  # 2
        for p in parameters:  # 3
            if p.grad is None:
                continue
            k = key(name, p)  # 4
            if k not in pool:  # 5
                pool[k], total[k] = torch.zeros_like(p.grad), 0.0  # 6
            pool[k] = pool[k] + weights[name] * p.grad  # 8
            total[k] += weights[name]
    for name, parameters in models.items():  # 11
        for p in parameters:  # 12
            k = key(name, p)  # 13
            if p.grad is None or k not in pool:
                continue
            if skip_single and size[k] == 1:
                continue
            shared = pool[k] / total[k] if mean else pool[k]
            p.grad.copy_((1 - alpha) * p.grad + alpha * shared)  # 15


def synchronize_parameters(
    models: Models, weights: Mapping[str, float], beta: float, *, key: Key = type_and_shape
) -> None:
    """Algorithm 2, in place. A group of one averages with itself alone, so that it needs no exception."""
    for group in members(models, key):  # 1
        average: torch.Tensor | float = 0.0  # 2
        total_weight = 0.0  # 3
        for name, parameters in models.items():  # 4
            for p in parameters:  # 5
                if key(name, p) == group:
                    average = average + weights[name] * p.data  # 6
                    total_weight = total_weight + weights[name]  # 7
        if total_weight > 0:  # 10
            average = average / total_weight  # 11
            for name, parameters in models.items():  # 12
                for p in parameters:  # 13
                    if key(name, p) == group:
                        p.data.copy_((1 - beta) * p.data + beta * average)  # 14


def slope(losses: Sequence[float]) -> float:
    """The slope of the least-squares line through (0, losses[0]), (1, losses[1]), …"""
    n = len(losses)
    mean_x = (n - 1) / 2
    mean_y = math.fsum(losses) / n
    above = math.fsum((x - mean_x) * (y - mean_y) for x, y in enumerate(losses))
    below = math.fsum((x - mean_x) ** 2 for x in range(n))
    return above / below


def standard_error(losses: Sequence[float]) -> float:
    """Of the slope: the root of the residual variance over n − 2 degrees of freedom, over the spread of x."""
    n, s = len(losses), slope(losses)
    mean_x, mean_y = (n - 1) / 2, math.fsum(losses) / n
    residuals = math.fsum((y - mean_y - s * (x - mean_x)) ** 2 for x, y in enumerate(losses))
    return math.sqrt(residuals / (n - 2) / math.fsum((x - mean_x) ** 2 for x in range(n)))


def convergence_rate(
    rate: float, history: Sequence[float], window: int, decay: float = 0.9, kind: str = "absolute"
) -> float:
    """Algorithm 3 for one model: its new rate r_i from the old one and its loss history.

    ``kind`` "signed" counts a falling loss alone, "studentized" its slope over the standard error.
    """
    if len(history) < window:  # 2
        return rate
    recent = history[-window:]  # 3
    s = slope(recent)  # 4
    progress = abs(s) if kind == "absolute" else max(-s, 0.0)
    if kind == "studentized":
        progress /= standard_error(recent)
    norm_rate = 1 / (1 + progress)  # 5
    return decay * rate + (1 - decay) * norm_rate  # 6


def convergence_factor(rate: float, low: float = 0.5, high: float = 1.5) -> float:
    """f_conv: the paper leaves it open; the published scheduler clips 1/r."""
    return max(low, min(high, 1 / rate))


def validation_weights(
    weights: Mapping[str, float], first: Mapping[str, float], losses: Mapping[str, float]
) -> dict[str, float]:
    """Weights that follow validation: w_i e^(p_i) with p_i = 1 − L_i / L_i at first, brought back to the sum of w."""
    grown = {name: w * math.exp(1 - losses[name] / first[name]) for name, w in weights.items()}
    return {name: g * sum(weights.values()) / sum(grown.values()) for name, g in grown.items()}


def warmup_factor(t: int, warmup: int) -> float:
    """f_warmup: from 0 to 1 over the first ``warmup`` steps; t counts the steps already made."""
    return min(1.0, t / warmup) if warmup else 1.0


def decay_factor(t: int, warmup: int, total: int, kind: str = "cosine") -> float:
    """f_decay: from 1 at the end of the warm-up to 0 at ``total``; "constant" stays at 1."""
    if t < warmup:
        return 1.0
    progress = min(1.0, (t - warmup) / (total - warmup))
    return {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}[kind]


def competition_rate(peak: float, steps: int, warmup: int, fraction: float, kind: str) -> float:
    """ModelArena, section 4.2: warm-up by the model's own steps, decay by how much of the run is over."""
    falling = {"cosine": 0.5 * (1 + math.cos(math.pi * fraction)), "linear": 1 - fraction, "constant": 1.0}[kind]
    return peak * warmup_factor(steps, warmup) * falling


def published_factor(step: int, warmup: int, horizon: int) -> float:
    """The published code's warm-up and cosine in one; ``step`` counts from 1 and the cosine never falls below a tenth.

    The cosine has made one step at least when it begins, and runs over a horizon that no end of training sets.
    """
    if step < warmup:
        return step / max(1, warmup)
    return max(0.1, 0.5 * (1 + math.cos(math.pi * max(1, step - warmup) / horizon)))
