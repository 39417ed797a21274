"""Who gets how much: policies look at a history and return the next shares.

A policy is a pure function of a `History`, so it can be compiled, simulated and tested without a model. The ones here
are frozen dataclasses whose fields are their parameters; any function of a history will do (see `decide`).
"""

import dataclasses

from arena_jax.arena.policies.markets import FisherMarket, ProportionalShareAuction, SecondPriceAuction
from arena_jax.arena.policies.modelarena import ModelArena
from arena_jax.arena.policies.multi_objective import MultiObjective
from arena_jax.arena.policies.objective_weights import LearnedObjectives, StagedObjectives
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
}

# Chosen in the simulator (benchmarks/policies.py): never more than 5 % worse than static there, and better on average.
DEFAULT_POLICY = "predictive"


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


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "FisherMarket",
    "LearnedObjectives",
    "ModelArena",
    "MultiObjective",
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
    "prepare",
]
