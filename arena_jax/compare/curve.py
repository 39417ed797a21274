"""What a run's records say of its way: a point per evaluation, with the steps and the seconds spent until then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.compare.plan import OBJECTIVES_ALONE, Outcome
from arena_jax.config.scores import SCORES, of_models

Point = Mapping[str, Any]


def curve(records: Sequence[Mapping[str, Any]], devices: int) -> list[dict[str, Any]]:
    """The evaluations of a run.

    What a relay's leader took alone comes before the first point: its steps and its seconds are counted in all.

    Args:
        records: of the run, as `arena_jax.runs.records.read` gives them.
        devices: that it trained on.

    Returns:
        ``step`` (of a competition: round), ``epoch``, ``seconds`` (device-seconds of training: no compiling, and no
        evaluation but in a competition, which pays for it), ``flops`` (counted operations; None but in a competition),
        ``compile_seconds`` (device-seconds until then), ``models`` ``{name: {metric: value}}``, and ``objective``
        ``{name: value}``, more being better: what a competition was for; a point per evaluation on validation data.

    Example:
        >>> records = [{"kind": "train", "step": 10, "seconds": 2.0, "models": {}},
        ...            {"kind": "evaluation", "step": 5, "split": "validation", "models": {"m": {"loss": 1.0}}}]
        >>> curve(records, devices=2)[0]["seconds"]
        2.0
    """
    before = relay(records)
    steps, spent = [0.0], [before["seconds"]]
    for record in records:
        if record["kind"] == "train" and "seconds" in record:
            steps.append(float(record["step"]))
            spent.append(spent[-1] + float(record["seconds"]))
    points, compiling = [], before["compile_seconds"]
    for record in records:
        if record["kind"] == "compile":
            compiling += float(record["seconds"])
        if record["kind"] != "evaluation" or record.get("split") != "validation":
            continue
        accounts = record.get("accounts")
        flops = None
        if accounts:  # a competition counts device-seconds itself
            seconds = float(sum(account["seconds"] for account in accounts.values()))
            flops = float(sum(account["flops"] for account in accounts.values()))
        else:
            seconds = float(np.interp(record["step"], steps, spent)) * devices
        points.append(
            {
                "step": int(before["steps"]) + record["step"],
                "epoch": record.get("epoch"),
                "seconds": seconds,
                "flops": flops,
                "compile_seconds": compiling * devices,
                "objective": _objective(record.get("judgement")),
                "models": {name: dict(scores) for name, scores in record["models"].items()},
            }
        )
    return points


def _objective(judgement: Mapping[str, Any] | None) -> dict[str, float]:
    return {judgement["objective"]: judgement["value"]} if judgement else {}


def relay(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What a run spent on a relay's leader, and on the race for it, before its first step.

    Returns:
        "steps", "seconds" of training and "compile_seconds"; of a relay also who led, and what each did in the race.

    Example:
        >>> relay([{"kind": "start", "step": 0}])
        {'steps': 0, 'seconds': 0.0, 'compile_seconds': 0.0}
    """
    no_leader = {"steps": 0, "seconds": 0.0, "compile_seconds": 0.0}
    start = next((record for record in records if record["kind"] == "start"), {})
    spent: Mapping[str, Any] = start.get("relay", no_leader)
    return spent


def values(points: Sequence[Point], outcome: Outcome) -> list[float]:
    """The score at each point, one number for all models."""
    if outcome.over in OBJECTIVES_ALONE:
        sign = SCORES[outcome.metric].sign
        return [sign * point["objective"].get(outcome.over, math.nan) for point in points]
    return [of_models(point["models"], outcome.metric, outcome.over) for point in points]


def seconds(points: Sequence[Point], outcome: Outcome) -> list[float]:
    """The device-seconds at each point, as the plan counts them; operations where it counts these."""
    if outcome.kind == "flops":
        return [math.nan if point["flops"] is None else point["flops"] for point in points]
    return [point["seconds"] + (point["compile_seconds"] if outcome.compiling else 0.0) for point in points]


def measure(points: Sequence[Point], outcome: Outcome) -> float:
    """The outcome of one run.

    Args:
        points: of its curve.
        outcome: of the plan.

    Returns:
        A score: at the step, at the device-seconds (on a straight line between evaluations) or at the end; NaN where
        the run did not come so far. Or the steps, device-seconds or operations at the first evaluation that reached the
        target; infinite where none did.

    Example:
        >>> points = [{"step": 5 * k, "seconds": float(k), "compile_seconds": 0.0,
        ...            "models": {"m": {"accuracy": k / 10}}} for k in range(1, 9)]
        >>> measure(points, Outcome("steps", "accuracy", target=0.5))
        25.0
        >>> measure(points, Outcome("score", "accuracy", at_seconds=2.5))
        0.25
    """
    scores, spent = values(points, outcome), seconds(points, outcome)
    if not points:
        return math.nan if outcome.kind == "score" else math.inf
    if outcome.at_step is not None:
        at_step = (score for point, score in zip(points, scores, strict=True) if point["step"] == outcome.at_step)
        return next(at_step, math.nan)
    if outcome.at_seconds is not None:
        if not spent[0] <= outcome.at_seconds <= spent[-1]:
            return math.nan
        return float(np.interp(outcome.at_seconds, spent, scores))
    if outcome.target is None:
        return scores[-1]
    sign = SCORES[outcome.metric].sign
    for point, score, cost in zip(points, scores, spent, strict=True):
        if sign * score >= sign * outcome.target:
            return float(point["step"]) if outcome.kind == "steps" else cost
    return math.inf


def outcome_of(status: str, points: Sequence[Point], outcome: Outcome) -> float | None:
    """The outcome of a run by how it ended.

    Args:
        status: "finished", "diverged" or "failed".
        points: of its curve.
        outcome: of the plan.

    Returns:
        None for a run that failed; NaN for the score of one that diverged, as what it scored before is no score of the
        run; else `measure`.

    Example:
        >>> outcome_of("diverged", [], Outcome("steps", "accuracy", target=0.9))
        inf
    """
    if status == "failed":
        return None
    if status == "diverged" and outcome.kind == "score":
        return math.nan
    return measure(points, outcome)
