"""What a competition is for: its objectives, and one number for each from the scores of its models."""

from __future__ import annotations

import math
from collections.abc import Mapping

from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.config.tasks import LANGUAGE_MODELS

# The best model, the models' weighted ensemble, their mean, the cost until one reaches a score, and score against size.
OBJECTIVES = ("mean", "best", "ensemble", "target", "pareto")
# Those that set one model's score beside another's.
COMPARING = ("best", "ensemble", "target", "pareto")


def scores_of(metrics: Mapping[str, Mapping[str, float]], score: str) -> dict[str, float]:
    """The scores that models compete by: more is better, whatever the metric.

    Args:
        metrics: ``{model: {metric: value}}``.
        score: of `arena_jax.config.scores.SCORES`.

    Returns:
        ``{model: S}``; NaN where the metric is not there.

    Example:
        >>> scores_of({"bert": {"loss": 2.0, "accuracy": 0.5}}, "loss")
        {'bert': -2.0}
    """
    return {name: SCORES[score].sign * float(of_model.get(score, math.nan)) for name, of_model in metrics.items()}


def objective_value(objective: str, scores: Mapping[str, float], costs: Mapping[str, float] | None = None) -> float:
    """What the models' scores are worth by an objective; more is better.

    - mean: their mean
    - best, target: the best of them
    - pareto: (1/N) Σᵢ max {Sⱼ: cost of j ≤ cost of i}, the mean over the sizes of the best score that is to be had
      with no more

    The ensemble's score is no function of the models' scores: `arena_jax.training.ensemble.mixture_loss` has it.

    Args:
        objective: of `OBJECTIVES`, but "ensemble".
        scores: ``{model: S}``; a model whose score is not finite is never the best.
        costs: ``{model: parameters, or seconds}``, of pareto.

    Returns:
        The value; NaN where no score is finite, and for the mean where one is not.

    Example:
        >>> scores, costs = {"small": 0.6, "middle": 0.5, "large": 0.8}, {"small": 1.0, "middle": 2.0, "large": 4.0}
        >>> objective_value("best", scores), round(objective_value("pareto", scores, costs), 3)
        (0.8, 0.667)
    """
    finite = {name: score for name, score in scores.items() if math.isfinite(score)}
    if objective == "mean":
        return sum(scores.values()) / len(scores) if len(finite) == len(scores) else math.nan
    if not finite:
        return math.nan
    if objective in ("best", "target"):
        return max(finite.values())
    if objective != "pareto" or costs is None:
        raise ArenaError(f"objective_value: '{objective}' is no function of scores{' and costs' * (costs is None)}")
    worst = min(finite.values())  # of a size at which no model has a score
    reached = [
        max((score for other, score in finite.items() if costs[other] <= costs[name]), default=worst) for name in scores
    ]
    return sum(reached) / len(reached)


def pareto_front(scores: Mapping[str, float], costs: Mapping[str, float]) -> list[str]:
    """The models that no other beats at no more cost, the cheapest first.

    Example:
        >>> pareto_front({"a": 0.6, "b": 0.5, "c": 0.8}, {"a": 1.0, "b": 2.0, "c": 4.0})
        ['a', 'c']
    """

    def beaten(name: str) -> bool:
        return any(
            costs[other] <= costs[name]
            and scores[other] >= scores[name]
            and (costs[other] < costs[name] or scores[other] > scores[name])
            for other in scores
            if math.isfinite(scores[other])
        )

    front = [name for name in scores if math.isfinite(scores[name]) and not beaten(name)]
    return sorted(front, key=lambda name: (costs[name], name))


def check_objective(
    objective: str, score: str, tasks: Mapping[str, str], left_out: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse models whose scores do not compare, where the objective compares them.

    Args:
        objective: of `OBJECTIVES`.
        score: of the run.
        tasks: ``{model: task}``.
        left_out: ``{model: what its tokenizer leaves out of a text}``.

    Raises:
        ArenaError: with the reason.

    Example:
        >>> check_objective("best", "bits_per_byte", {"a": "causal-lm", "b": "masked-lm"}, {})
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: objective best compares scores, and causal-lm (a) and masked-lm (b) have none that do: \
a masked model sees both sides of a token; compete with one kind, or give --objective mean
    """
    kinds: dict[str, list[str]] = {}
    for name, task in tasks.items():
        kinds.setdefault(task, []).append(name)
    if objective not in COMPARING or not set(kinds) & set(LANGUAGE_MODELS):
        return
    begin, instead = f"objective {objective} compares scores", "or give --objective mean"
    if len(kinds) > 1:
        named = " and ".join(f"{task} ({', '.join(names)})" for task, names in kinds.items())
        raise ArenaError(
            f"{begin}, and {named} have none that do: a masked model sees both sides of a token; compete with one kind,"
            f" {instead}"
        )
    if objective != "ensemble" and score != "bits_per_byte":
        raise ArenaError(
            f"{begin}, and {score} of language models depends on their tokenizers; give --score bits_per_byte,"
            f" {instead}"
        )
    texts: dict[tuple[str, ...], str] = {}
    for name, lost in left_out.items():
        texts.setdefault(tuple(lost), name)
    if len(texts) > 1:
        (lost, name), (others, other) = list(texts.items())[:2]
        raise ArenaError(
            f"{begin}, and the tokenizers of {name} and {other} leave different things out of a text"
            f" ({', '.join(lost) or 'nothing'}; {', '.join(others) or 'nothing'}), so that their bytes are of different"
            f" texts; give them one tokenizer, {instead}"
        )
