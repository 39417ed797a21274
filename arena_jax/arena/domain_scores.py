"""A model's scores where there are several domains: of each by itself, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_jax.arena.setup import Setup
from arena_jax.arena.specialization import Domains
from arena_jax.arena.state import State
from arena_jax.config.objective import scores_of
from arena_jax.training.evaluation import mean_metrics
from arena_jax.training.score_intervals import score_with_error

Scored = tuple[dict[str, float], float]  # {metric: value}, and the standard error of the run's score


def score_rows(setup: Setup, name: str, params: Any, rows: Any, batches: int | None) -> Scored:
    """Score parameters of a model on some rows; the error is NaN where none is known."""
    size = setup.config.training.evaluation_batch_size
    if setup.evaluate is not None:
        return setup.evaluate(setup.step, params, name, rows, size), math.nan
    return score_with_error(setup.step, params, name, rows, size, setup.config.training.score, batches)


def score_domains(setup: Setup, state: State, name: str, params: Any) -> dict[str, Scored]:
    """Score parameters of a model on the validation rows of each domain; nothing where there is one alone."""
    domains = setup.parts.domains.get(name, {})
    batches = state.evaluation_batches
    each = None if batches is None else -(-batches // len(domains)) if domains else batches
    return {d: score_rows(setup, name, params, splits["validation"], each) for d, splits in domains.items()}


def mean_score(scored: Mapping[str, Scored]) -> Scored:
    """The mean over domains, which count alike, and its standard error.

    Example:
        >>> mean_score({"a": ({"loss": 1.0}, 0.3), "b": ({"loss": 2.0}, 0.4)})
        ({'loss': 1.5}, 0.25)
    """
    metrics = mean_metrics({domain: of for domain, (of, _) in scored.items()})
    return metrics, math.hypot(*(error for _, error in scored.values())) / len(scored)


def extend_domains(setup: Setup, state: State, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Add an evaluation, ``{model: {domain: {metric: value}}}``, to what the state knows of the domains."""
    names = list(next(iter(metrics.values())))
    state.domain_metrics = {d: {name: dict(metrics[name][d]) for name in setup.names} for d in names}
    scores = [scores_of(state.domain_metrics[d], setup.config.training.score) for d in names]
    row = np.array([[of_domain[name] for name in setup.names] for of_domain in scores])
    assert state.division is not None
    before = state.domains or Domains(np.zeros((0, *row.shape)), np.zeros((0, *row.shape)))
    state.domains = Domains(
        np.concatenate([before.scores, row[None]]), np.concatenate([before.shares, state.division[None]])
    )
