"""What the cells show: each arm beside the one it is compared with, in numbers and in a sentence to quote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.compare.confidence import CONFIDENCE
from arena_jax.compare.paired import Paired, difference, holm, ratio
from arena_jax.compare.plan import OBJECTIVES_ALONE, Outcome, Plan
from arena_jax.config.scores import SCORES

Records = Mapping[str, Sequence[Mapping[str, Any]]]


def pair(outcome: Outcome, arm: Sequence[float], baseline: Sequence[float]) -> Paired:
    """Compare two arms' outcomes, seed by seed, by the test that belongs to the outcome."""
    if outcome.kind == "score":
        return difference(arm, baseline, outcome.interval)
    return ratio(arm, baseline)


def judge(plan: Plan, records: Records, others: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Compare every arm with its baseline.

    Args:
        plan: of the study.
        records: ``{arm: its final cells' records, in the order of the plan's seeds}``.
        others: p-values of comparisons that were made before on the same baseline, and count in Holm's correction.

    Returns:
        A dictionary per comparison: ``arm``, ``against``, ``estimate``, ``low``, ``high``, ``p``, ``p_holm``,
        ``pairs``, ``outcomes`` of both by seed, ``verdict`` ("better", "worse" or "not shown": better or worse only
        where the interval leaves out no difference and p after Holm's correction is below 0.05), ``success`` (better,
        and by the effect that the plan names) and ``sentence``.
    """
    arms = [arm for arm in plan.arms if arm.name != plan.baseline]
    outcomes = {name: [_number(record) for record in of_arm] for name, of_arm in records.items()}
    results = [pair(plan.outcome, outcomes[arm.name], outcomes[plan.against(arm)]) for arm in arms]
    comparisons = []
    corrections = holm([*(result.p for result in results), *others])
    for arm, result, corrected in zip(arms, results, corrections, strict=False):
        against = plan.against(arm)
        verdict = decide(plan.outcome, result, corrected)
        comparisons.append(
            {
                "arm": arm.name,
                "against": against,
                **result._asdict(),
                "p_holm": corrected,
                "outcomes": [outcomes[arm.name], outcomes[against]],
                "verdict": verdict,
                "success": verdict == "better" and _large(plan, result),
                "sentence": _sentence(
                    plan,
                    arm.name,
                    against,
                    result,
                    verdict,
                    arms_that_never_arrive(plan.outcome, {arm.name: outcomes[arm.name], against: outcomes[against]}),
                    _doubt(plan, records, arm.name, result, corrected, len(corrections)),
                ),
            }
        )
    return comparisons


def _number(record: Mapping[str, Any]) -> float:
    return math.nan if record["outcome"] is None else float(record["outcome"])


def decide(outcome: Outcome, result: Paired, p: float) -> str:
    """Decide "better", "worse" or "not shown".

    Args:
        outcome: of the plan.
        result: of the pairs.
        p: after correction.

    Example:
        >>> decide(Outcome("steps", "accuracy", target=0.9), Paired(0.5, 0.4, 0.6, 0.01, 9), 0.01)
        'better'
    """
    neutral = 0.0 if outcome.kind == "score" else 1.0
    if not p < 1 - CONFIDENCE or not (result.low > neutral or result.high < neutral):
        return "not shown"
    more = result.low > neutral
    good = more == (SCORES[outcome.metric].sign > 0) if outcome.kind == "score" else not more
    return "better" if good else "worse"


def _large(plan: Plan, result: Paired) -> bool:
    effect = plan.success.effect
    if effect is None:
        return True
    if plan.outcome.kind == "score":
        return SCORES[plan.outcome.metric].sign * result.estimate >= effect
    return result.estimate <= effect


# ---- in words ----


def arms_that_never_arrive(outcome: Outcome, outcomes: Mapping[str, Sequence[float]]) -> str:
    """Say which arms reach the target in no run; nothing where all do in some, or there is no target.

    Args:
        outcome: of the plan.
        outcomes: ``{arm: what its runs took}``, infinite where a run never arrived.

    Example:
        >>> arms_that_never_arrive(Outcome("steps", "accuracy", target=0.9), {"a": [math.inf] * 2, "b": [5, math.inf]})
        'no run of arm a'
    """
    never = [name for name, values in outcomes.items() if values and all(map(math.isinf, values))]
    return f"no run of arm {' and none of arm '.join(never)}" if never and outcome.kind != "score" else ""


def _sentence(plan: Plan, arm: str, against: str, result: Paired, verdict: str, never: str, doubt: str) -> str:
    role = "baseline" if against == plan.baseline else "arm"
    seeds = f"({result.pairs} paired seeds)"
    if plan.outcome.kind == "score":
        unit, scale, form = _unit(plan.outcome)
        where = f"{unit} {at(plan.outcome)} {seeds}"
        if verdict == "not shown":
            numbers = interval(result, f"+{form}", scale)
            text = f"not shown: arm {arm} differs from {role} {against} by {numbers} {where}"
        else:
            up = result.estimate > 0
            size = result if up else result._replace(estimate=-result.estimate, low=-result.high, high=-result.low)
            text = f"arm {arm} is {verdict} than {role} {against} by {interval(size, form, scale)} {where}"
    else:
        unit = cost_unit(plan.outcome)
        needs = f"arm {arm} needs {interval(result, '.2f')} of the {unit} of {role} {against} to {goal(plan)}"
        text = f"{f'{never} arrives at {goal(plan)}' if never else needs} {seeds}"
        text = f"not shown: {text}" if verdict == "not shown" else text
    if verdict == "better" and not _large(plan, result):
        text += f"; better, but not by the effect of {plan.success.effect:g} that the plan names"
    return f"{text}; {doubt}" if doubt else text


def _doubt(plan: Plan, records: Records, arm: str, result: Paired, p: float, comparisons: int) -> str:
    """What a reader must know of the pairs beside the interval."""
    both = (*records[arm], *records[plan.against(plan.arm(arm))])
    doubts = []
    for status in ("failed", "diverged"):
        count = sum(record["status"] == status for record in both)
        if count:
            doubts.append(f"{count} of {len(both)} runs {status}")
    endless = sum(math.isinf(_number(record)) for record in both)
    if endless and plan.outcome.kind != "score":
        doubts.append(f"{endless} of {len(both)} runs did not reach the target")
    if plan.outcome.kind == "score" and "diverged" not in " ".join(doubts):
        missing = sum(record["status"] == "finished" and math.isnan(_number(record)) for record in both)
        if missing:
            doubts.append(f"{missing} of {len(both)} runs have no score there")
    neutral = 0.0 if plan.outcome.kind == "score" else 1.0
    if (result.low > neutral or result.high < neutral) and not p < 1 - CONFIDENCE:
        doubts.append(f"p = {p:.2g} after Holm's correction for {comparisons} comparisons")
    if plan.outcome.timed and len({(record["machine"], record["device"]) for record in both}) > 1:
        doubts.append("the runs were timed on different machines")
    return ", ".join(doubts)


def interval(result: Paired, form: str, scale: float = 1.0) -> str:
    """Write an estimate with its interval; ∞ where it is open.

    Example:
        >>> interval(Paired(0.75, 0.5, math.inf, 0.1, 6), ".2f")
        '0.75 [0.50, ∞)'
    """

    def text(value: float) -> str:
        if math.isnan(value):
            return "?"
        return ("−" if value < 0 else "") + "∞" if math.isinf(value) else format(value * scale, form).replace("-", "−")

    if math.isnan(result.low) and math.isnan(result.high):
        return text(result.estimate) + " [no interval]" if not math.isnan(result.estimate) else "? [no interval]"
    return f"{text(result.estimate)} [{text(result.low)}, {text(result.high)}{')' if math.isinf(result.high) else ']'}"


def _unit(outcome: Outcome) -> tuple[str, float, str]:
    score = SCORES[outcome.metric]
    if score.percent:
        return f"points of {score.title}", 100.0, ".1f"
    return {"loss": "nats of validation loss"}.get(outcome.metric, f"in {score.title}"), 1.0, ".3f"


def at(outcome: Outcome) -> str:
    """When a score is taken, in words."""
    if outcome.at_step is not None:
        return f"after {outcome.at_step:,} steps"
    if outcome.at_seconds is not None:
        return f"after {outcome.at_seconds:g} device-seconds{', compiling counted,' if outcome.compiling else ''}"
    return "at the end"


def cost_unit(outcome: Outcome) -> str:
    """What a target takes, in words."""
    if outcome.kind != "seconds":
        return {"steps": "steps", "flops": "counted operations"}[outcome.kind]
    return "device-seconds, compiling counted," if outcome.compiling else "device-seconds"


def goal(plan: Plan) -> str:
    """The target in words.

    Example:
        >>> from arena_jax.compare.plan_file import EXAMPLE, read_plan
        >>> goal(read_plan(EXAMPLE))
        '90 % accuracy (mean of 3 models)'
    """
    outcome = plan.outcome
    score, target = SCORES[outcome.metric], outcome.target or 0.0
    words = f"{100 * target:g} % {score.title}" if score.percent else f"{score.title} {target:g}"
    return words + of_which(plan)


def of_which(plan: Plan) -> str:
    """Which models a score is of, in words; nothing where there is one only."""
    over, count = plan.outcome.over, len(plan.base.models)
    if over in OBJECTIVES_ALONE:
        return f" of {count} models ({over})"
    if over not in ("mean", "worst", "best"):
        return f" ({over})"
    return f" ({over} of {count} models)" if count > 1 else ""
