"""Who gets how much: policies look at a history and return the next shares.

A policy is a pure function of a `History`, so it can be compiled, simulated and tested without a model. The ones here
are frozen dataclasses whose fields are their parameters; any function of a history will do (see `decide`).
"""

import dataclasses

from arena_jax.arena.policies.hyperband import Hyperband
from arena_jax.arena.policies.markets import FisherMarket, ProportionalShareAuction, SecondPriceAuction
from arena_jax.arena.policies.modelarena import ModelArena
from arena_jax.arena.policies.multi_objective import MultiObjective
from arena_jax.arena.policies.objective_weights import LearnedObjectives, StagedObjectives
from arena_jax.arena.policies.optuna_pruners import OptunaHalving, OptunaMedian
from arena_jax.arena.policies.predictive import Predictive
from arena_jax.arena.policies.protocol import Policy, decide, name_of, prepare
from arena_jax.arena.policies.rising_bandit import RisingBandit
from arena_jax.arena.policies.static import Static
from arena_jax.arena.policies.successive_halving import SuccessiveHalving
from arena_jax.config.errors import ArenaError, nearest

POLICIES: dict[str, type] = {
    "static": Static,
    "modelarena": ModelArena,
    "successive-halving": SuccessiveHalving,
    "multi-objective": MultiObjective,
    "multi-objective-staged": StagedObjectives,
    "multi-objective-learned": LearnedObjectives,
    "predictive": Predictive,
    "proportional-share-auction": ProportionalShareAuction,
    "second-price-auction": SecondPriceAuction,
    "fisher-market": FisherMarket,
    "rising-bandit": RisingBandit,
    "hyperband": Hyperband,
    "optuna-median": OptunaMedian,
    "optuna-halving": OptunaHalving,
}

# Chosen in the simulator (benchmarks/policies.py): never more than 5 % worse than static there, and better on average.
DEFAULT_POLICY = "predictive"

# What policies are given for an objective, where it differs from their defaults, which are for the mean.
# Set by what they mean, and not searched for: benchmarks/policies.py has them beside the defaults.
_TO_THE_BEST: dict[str, object] = {"ambition": 1.0, "patience": 0.3}
_BY_OBJECTIVE: dict[str, dict[str, dict[str, object]]] = {
    "predictive": {
        "best": _TO_THE_BEST,
        "target": _TO_THE_BEST,
        "pareto": {"ambition": 0.75, "patience": 0.5},
        "ensemble": {"ambition": 0.0},
    },
    "multi-objective": {
        "best": {"progress": 0.25, "level": 0.75, "cost": 0.0},
        "target": {"progress": 0.5, "level": 0.5, "cost": 0.0},
    },
}


def policy(name: str, **options: object) -> Policy:
    """Make a policy from its name and the parameters that differ from their defaults.

    Args:
        name: one of ``POLICIES``.
        **options: fields of that policy.

    Returns:
        The policy.

    Raises:
        ArenaError: there is no such policy or no such parameter.

    Example:
        >>> policy("modelarena", window=3)
        ModelArena(window=3, smoothing=0.7, floor=0.05, epsilon=1e-06, variant='paper')
    """
    if name not in POLICIES:
        raise ArenaError(f"unknown allocation policy {name!r}; {nearest(name, POLICIES)}")
    kind = POLICIES[name]
    fields = [field.name for field in dataclasses.fields(kind)]
    for option in options:
        if option not in fields:
            raise ArenaError(f"policy {name!r} has no parameter {option!r}; {nearest(option, fields)}")
    instance: Policy = kind(**options)
    return instance


def policy_for(name: str, objective: str, target: float | None = None, **options: object) -> Policy:
    """Make a policy for what a competition is for.

    `ModelArena` and `Static` are the same for every objective. Policies that drop models (halving, Hyperband, the
    bandit, Optuna's) look for the best whatever they are asked for. `Predictive` and `MultiObjective` change their
    parameters, and `Predictive` knows the target.

    Args:
        name: one of ``POLICIES``.
        objective: of `arena_jax.config.objective.OBJECTIVES`.
        target: the score of objective target, higher being better.
        **options: fields of that policy; they come before the objective's.

    Returns:
        The policy.

    Raises:
        ArenaError: there is no such policy or no such parameter.

    Example:
        >>> policy_for("predictive", "best").ambition, policy_for("predictive", "mean") == policy("predictive")
        (1.0, True)
    """
    parameters = dict(_BY_OBJECTIVE.get(name, {}).get(objective, {}))
    if target is not None and name == "predictive":
        parameters["target"] = target
    return policy(name, **{**parameters, **options})


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "FisherMarket",
    "Hyperband",
    "LearnedObjectives",
    "ModelArena",
    "MultiObjective",
    "OptunaHalving",
    "OptunaMedian",
    "Policy",
    "Predictive",
    "ProportionalShareAuction",
    "RisingBandit",
    "SecondPriceAuction",
    "StagedObjectives",
    "Static",
    "SuccessiveHalving",
    "decide",
    "name_of",
    "policy",
    "policy_for",
    "prepare",
]
