"""Models compete for memory: learning progress, allocation policies, a simulator, and the competition."""

from arena_jax.arena.allocation import accumulation_steps, allocate, steps_per_round
from arena_jax.arena.history import History
from arena_jax.arena.limit import limit_of_shares
from arena_jax.arena.policies import DEFAULT_POLICY, POLICIES, Policy, decide, policy
from arena_jax.arena.progress import efficiency_by_phase, resource_utilization_efficiency
from arena_jax.transforms.learning_progress import learning_progress

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "History",
    "Policy",
    "accumulation_steps",
    "allocate",
    "decide",
    "efficiency_by_phase",
    "learning_progress",
    "limit_of_shares",
    "policy",
    "resource_utilization_efficiency",
    "steps_per_round",
]
