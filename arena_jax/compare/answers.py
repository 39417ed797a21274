"""What the baseline alone answers: how many seeds an effect needs, and whether it differs from itself."""

from __future__ import annotations

import math

from arena_jax.compare.cells import Cell, null_seeds
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.null import null
from arena_jax.compare.paired import Paired, fewest_pairs
from arena_jax.compare.plan import Plan
from arena_jax.compare.power import MOST, seeds_for_difference, seeds_for_ratio
from arena_jax.compare.verdict import goal, interval
from arena_jax.config.errors import ArenaError


def power_answer(plan: Plan, ledger: Ledger) -> str:
    """How many seeds show the effect that the plan names, by the baseline's own runs.

    Raises:
        ArenaError: the plan names none, or a run is not over.
    """
    effect = plan.success.effect
    if effect is None:
        raise ArenaError("--power asks for the seeds that show an effect: give success.effect in the plan")
    outcomes = _outcomes(plan, ledger, plan.seeds)
    score, comparisons = plan.outcome.kind == "score", len(plan.arms) - 1
    count = (seeds_for_difference if score else seeds_for_ratio)(
        outcomes, effect, power=plan.success.power, comparisons=comparisons
    )
    what = f"a difference of {effect:g}" if score else f"a ratio of {effect:g} to {goal(plan)}"
    by = f"by the spread of {len(outcomes)} runs of {plan.baseline}; the plan has {len(plan.seeds)}"
    if not score:
        by += f", and fewer than {fewest_pairs(comparisons)} show nothing"
    if count is None:
        return f"{what} is not to be shown: no spread to go by, or more than {MOST:,} seeds ({by})"
    return f"{what} is shown with probability {plan.success.power:g} by {count} paired seeds ({by})"


def null_answer(plan: Plan, ledger: Ledger) -> str:
    """Whether the baseline differs from itself.

    Raises:
        ArenaError: a run is not over.
    """
    answer = null(plan, _outcomes(plan, ledger, plan.seeds), _outcomes(plan, ledger, null_seeds(plan)))
    paired = Paired(*(answer[name] for name in Paired._fields))
    what = "difference" if plan.outcome.kind == "score" else f"ratio of {plan.outcome.kind}"
    verdict = (
        "nothing is shown, as it should be" if answer["verdict"] == "not shown" else f"it claims {answer['verdict']}"
    )
    return (
        f"{plan.baseline} against itself, {paired.pairs} pairs of seeds: {what} {interval(paired, '.3g')}: {verdict}; "
        f"of {answer['resampled']} resampled comparisons {answer['claims']} claim a difference (1 in 20 is expected)"
    )


def _outcomes(plan: Plan, ledger: Ledger, seeds: tuple[int, ...]) -> list[float]:
    outcomes = []
    for seed in seeds:
        record = ledger.read(Cell(plan.baseline, seed))
        if record is None:
            raise ArenaError(f"the run {Cell(plan.baseline, seed).name} is not over")
        outcomes.append(math.nan if record["outcome"] is None else float(record["outcome"]))
    return outcomes
