"""Models compete for memory: learning progress, allocation policies, the memory oracle, and the competition."""

from arena_jax.arena.allocation import accumulation_steps, allocate, steps_per_round
from arena_jax.arena.batch_size import Choice, largest_batch
from arena_jax.arena.history import History
from arena_jax.arena.memory import Estimate, estimate, parse_bytes
from arena_jax.arena.policies import DEFAULT_POLICY, POLICIES, Policy, decide, policy
from arena_jax.arena.progress import efficiency_by_phase, learning_progress, resource_utilization_efficiency

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "Choice",
    "Estimate",
    "History",
    "Policy",
    "accumulation_steps",
    "allocate",
    "decide",
    "efficiency_by_phase",
    "estimate",
    "largest_batch",
    "learning_progress",
    "parse_bytes",
    "policy",
    "resource_utilization_efficiency",
    "steps_per_round",
]
