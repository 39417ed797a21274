"""What is drawn from a run's records: figures."""

from arena_jax.reports.figures import draw

__all__ = ["draw"]
