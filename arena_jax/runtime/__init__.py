"""Compiled programs and their memory: the largest batch that fits, devices, processes, the cache of programs."""

from arena_jax.runtime.batch_search import Choice, largest_batch
from arena_jax.runtime.devices import make_mesh, place_batch, replicated
from arena_jax.runtime.memory import Estimate, estimate, parse_bytes

__all__ = [
    "largest_batch",
    "Choice",
    "Estimate",
    "estimate",
    "parse_bytes",
    "make_mesh",
    "place_batch",
    "replicated",
]
