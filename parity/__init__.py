"""The parity suite: each layer of arena_jax compared with PyTorch, and faults that must be caught.

``python -m parity`` prints the table; ``pytest parity`` runs the same checks. ``reference`` is PyTorch only; ``checks``
holds one file per layer of the cake; ``mutants`` are the deliberate faults.
"""
