"""What is drawn from the records of runs: a run's figures, and the report of an experiment of several runs."""

from arena_jax.reports.experiment import report
from arena_jax.reports.figures import draw

__all__ = ["draw", "report"]
