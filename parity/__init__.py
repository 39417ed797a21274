"""The parity suite: each layer of arena_jax compared with PyTorch, and faults that must be caught.

``python -m parity`` prints the table; ``pytest parity`` runs the same checks. ``reference`` is PyTorch only; ``checks``
holds one file per layer of the cake; ``mutants`` are the deliberate faults.
"""

from __future__ import annotations

from typing import Any

__all__ = ["compare"]


def __getattr__(name: str) -> Any:
    """`compare` of a user's own functions, imported where it is asked for: without PyTorch the package can be named."""
    if name == "compare":
        from parity.twin import compare

        return compare
    raise AttributeError(f"parity has no {name}")
