"""Comparisons: a plan that is frozen before it runs, its cells in a ledger, and verdicts with their intervals."""

from arena_jax.compare.cells import Cell, Share, final_cells, null_cells, tuning_cells
from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.compare.engine import Progress, all_cells, estimate, results, run_cells
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.paired import Paired, difference, holm, ratio
from arena_jax.compare.plan import Arm, Outcome, Plan, Success, Tuning
from arena_jax.compare.plan_file import plan_from, plan_to_dict, read_plan
from arena_jax.compare.run import compare
from arena_jax.compare.verdict import judge

__all__ = [
    "compare",
    "read_plan",
    "plan_from",
    "plan_to_dict",
    "Plan",
    "Arm",
    "Outcome",
    "Tuning",
    "Success",
    "Ledger",
    "Cell",
    "Share",
    "Progress",
    "run_cells",
    "results",
    "estimate",
    "all_cells",
    "tuning_cells",
    "final_cells",
    "null_cells",
    "judge",
    "difference",
    "ratio",
    "holm",
    "Paired",
    "confidence_interval",
    "ConfidenceInterval",
]
