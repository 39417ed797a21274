"""What each part of a model is worth, by seven measures with one signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.game.ablation import AblationGame
from arena_jax.game.coalitions import Values, with_names
from arena_jax.game.gradients import aumann_shapley, second_order
from arena_jax.game.players import HEAD
from arena_jax.game.worth import banzhaf, leave_one_out, shapley
from arena_jax.models.flops import BACKWARD


def _banzhaf(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    return banzhaf(game, len(game.table), evaluations=evaluations, seed=seed)


def _shapley(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    return shapley(game, len(game.table), evaluations=evaluations, seed=seed)


def _leave_one_out(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    return leave_one_out(game, len(game.table))


def _sensitivity(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    rows = np.abs(game.example_gradients())
    m = len(rows)
    errors = rows.std(axis=0, ddof=1) / np.sqrt(m) if m > 1 else np.full(rows.shape[1], np.nan)
    return Values(rows.mean(axis=0), errors, 1, "sensitivity", samples=m, gradients=1)


def _second_order(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    return second_order(game.loss, len(game.table))


def _aumann_shapley(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    return aumann_shapley(lambda gates: -game.loss(gates), len(game.table))


def _entropy(game: AblationGame, evaluations: int | None, seed: int) -> Values:
    values = np.full(len(game.table), np.nan)
    heads = np.array([kind == HEAD for kind in game.table.kinds])
    values[heads] = game.observed.entropy.ravel()
    return Values(values, np.zeros(len(values)), 1, "attention entropy")


METHODS: dict[str, Callable[[AblationGame, int | None, int], Values]] = {
    "banzhaf": _banzhaf,
    "leave-one-out": _leave_one_out,
    "shapley": _shapley,
    "sensitivity": _sensitivity,
    "second-order": _second_order,
    "aumann-shapley": _aumann_shapley,
    "entropy": _entropy,
}


def measure(game: AblationGame, method: str = "banzhaf", *, evaluations: int | None = None, seed: int = 0) -> Values:
    """Measure what each player is worth.

    ===============  ==================================================================================
    method           what it is
    ===============  ==================================================================================
    banzhaf          the default: contribution to random coalitions that keep 0.9 of the others
    leave-one-out    v(N) − v(N∖i)
    shapley          for its axioms; as a pruning score it was worse than leave-one-out
    sensitivity      Michel's mean over sequences of |∂L/∂g|: one backward pass
    second-order     −∂L/∂g + ½ ∂²L/∂g²
    aumann-shapley   the gates' gradients along the diagonal: a cheap relative of Shapley
    entropy          of the attention, 0 … 1: describes heads, NaN for neurons; says nothing about worth
    ===============  ==================================================================================

    Args:
        game: of the model.
        method: one of the above.
        evaluations: coalitions that banzhaf and shapley may evaluate; their own default if not given.
        seed: of their samples.

    Returns:
        Values in nats, higher for a player that matters more, with standard errors, names and cost
        (``evaluations``, ``gradients``, ``flops``). Entropy alone is a share of the largest possible, from 0 to 1, and
        ranks nobody.

    Raises:
        ArenaError: an unknown method, or too few evaluations for one sample.

    Example:
        >>> from arena_jax import game, models
        >>> probe = [{"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}]
        >>> played = game.AblationGame(models.create("gpt2-tiny", task="causal-lm"), probe)
        >>> found = measure(played, "sensitivity")
        >>> found.names[0], found.gradients, found.flops > 0
        ('0.head0', 1, True)
    """
    if method not in METHODS:
        raise ArenaError(f"unknown utility {method!r}; {nearest(str(method), METHODS)}")
    values = METHODS[method](game, evaluations, seed)
    flops = game.flops * (values.evaluations + (1 + BACKWARD) * values.gradients)
    return dataclasses.replace(with_names(values, game.table.names), flops=flops)
