"""Compiled programs and their memory: the largest batch that fits, devices, processes, the cache of programs."""

from arena_jax.runtime.batch_search import BatchChoice, largest_batch
from arena_jax.runtime.devices import make_mesh, place_batch, replicated
from arena_jax.runtime.memory import parse_bytes
from arena_jax.runtime.program import Program, ProgramBytes, compile_program
from arena_jax.runtime.program_cache import use_compilation_cache
from arena_jax.runtime.target import Target, target

__all__ = [
    "largest_batch",
    "BatchChoice",
    "Program",
    "ProgramBytes",
    "compile_program",
    "use_compilation_cache",
    "parse_bytes",
    "target",
    "Target",
    "make_mesh",
    "place_batch",
    "replicated",
]
