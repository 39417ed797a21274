"""The baseline against itself: two sets of seeds that have none in common, judged as an arm would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_jax.compare.plan import Plan
from arena_jax.compare.verdict import decide, pair

RESAMPLED = 20
_DRAWS = 0  # seed of the resampling: the same records give the same splits


def null(plan: Plan, first: Sequence[float], second: Sequence[float], resampled: int = RESAMPLED) -> dict[str, Any]:
    """Compare the baseline with itself.

    Args:
        plan: of the study.
        first: its outcomes on the plan's seeds.
        second: its outcomes on as many others.
        resampled: further comparisons: all outcomes dealt into two halves and paired at random.

    Returns:
        What the first against the second gives (``estimate``, ``low``, ``high``, ``p``, ``pairs``, ``verdict``), and of
        the ``resampled`` ones how many claim a difference (``claims``): 1 in 20 is what 95 % allows.

    Example:
        >>> from arena_jax.compare.plan_file import EXAMPLE, read_plan
        >>> null(read_plan(EXAMPLE), [50, 55, 45, 60, 50, 55], [55, 50, 60, 45, 55, 50])["verdict"]
        'not shown'
    """
    result = pair(plan.outcome, first, second)
    values, random = np.asarray([*first, *second], np.float64), np.random.default_rng(_DRAWS)
    claims = 0
    for _ in range(resampled):
        a, b = np.split(random.permutation(values)[: len(values) // 2 * 2], 2)
        again = pair(plan.outcome, a.tolist(), b.tolist())
        claims += decide(plan.outcome, again, again.p) != "not shown"
    verdict = decide(plan.outcome, result, result.p)
    return {**result._asdict(), "verdict": verdict, "resampled": resampled, "claims": claims}
