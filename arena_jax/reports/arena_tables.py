"""The paper's Tables 1 and 2, and what every arm has spent, from the runs of an experiment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from arena_jax.arena.progress import resource_utilization_efficiency
from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.config.units import parse_spend
from arena_jax.reports.arms import CONTROL, Arms, Run, pairs
from arena_jax.runs.competition_lines import bits_mark
from arena_jax.runs.document import Table
from arena_jax.transforms.learning_progress import learning_progress

PHASES = {"early": (0.0, 0.3), "middle": (0.3, 0.7), "late": (0.7, 1.0), "overall": (0.0, 1.0)}
# Totals may differ by this part of the control's and still be called the same: a run ends with a whole round.
SAME_COST = 0.02
_WITHIN = {"share": (0.0, 1.0), "mean_share": (0.0, 1.0)}


def progress_at(run: Run, evaluation: int) -> np.ndarray:
    """Learning progress [models] as it stood at an evaluation: equation 1, with the run's own window."""
    arena = run.config.arena
    window = (arena.progress_window if arena else None) or 5
    return np.asarray(learning_progress(run.scores[max(0, evaluation - window) : evaluation + 1], window), float)


def efficiency(gains: np.ndarray, shares: np.ndarray) -> float:
    """Equation 8, memory as a part of the budget."""
    return float(resource_utilization_efficiency(gains, shares))


def gains(run: Run, phase: tuple[float, float]) -> np.ndarray:
    """What the scores [models] rose by in a phase."""
    return run.score_at(phase[1]) - run.score_at(phase[0])


def table1(arms: Arms) -> tuple[Table, dict[str, Any]]:
    """Final score, progress, share and batch size of each model in each arm: Table 1.

    Args:
        arms: from `gather`.

    Returns:
        The table, and its numbers as ``{model: {policy: {name: ConfidenceInterval}}}``.
    """
    names = list(next(iter(arms.values()))[0].models)
    of_run: dict[str, Callable[[Run], np.ndarray]] = {
        "score": lambda run: run.scores[-1],
        "progress": lambda run: progress_at(run, len(run.scores) - 1),
        "share": lambda run: run.shares[-1],
        "mean_share": lambda run: run.share_between(0, 1),
        "batch": lambda run: run.batch,
        "bits_per_byte": lambda run: run.bits,
        "examples": lambda run: run.examples,
    }
    values = {
        policy: {key: np.array([take(run) for run in runs]) for key, take in of_run.items()}
        for policy, runs in arms.items()
    }
    header = ["model", "policy", "score", "score − static", "progress", "share %", "mean share %", "batch", "bits/byte"]
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, dict[str, dict[str, ConfidenceInterval]]] = {}
    for i, name in enumerate(names):
        numbers[name] = {}
        mark = bits_mark(next(iter(arms.values()))[0].models[name])
        for policy in arms:
            intervals = {
                key: confidence_interval(of[:, i].tolist(), _WITHIN.get(key)) for key, of in values[policy].items()
            }
            ahead = confidence_interval(
                [float(run.scores[-1, i] - other.scores[-1, i]) for run, other in pairs(arms, policy)]
            )
            numbers[name][policy] = {**intervals, "score_minus_static": ahead}
            rows.append(
                (
                    name if policy == next(iter(arms)) else "",
                    policy,
                    intervals["score"].plus_minus(".3f"),
                    "" if policy == CONTROL else ahead.text("+.3f"),
                    intervals["progress"].plus_minus(".5f"),
                    intervals["share"].plus_minus(".1f", 100),
                    intervals["mean_share"].plus_minus(".1f", 100),
                    _range(values[policy]["batch"][:, i], ".0f"),
                    mark + intervals["bits_per_byte"].plus_minus(".3f")
                    if math.isfinite(intervals["bits_per_byte"].mean)
                    else "",
                )
            )
    return Table(header, rows, numbers=2), numbers


def table2(arms: Arms) -> tuple[Table, dict[str, Any]]:
    """Resource utilization efficiency of each phase in each arm, and relative to static: Table 2.

    Beside each arm's ratio stands what its shares would make of the *static* runs' gains: equation 8 divides by the
    share, so that uneven shares raise it even where no model has learnt more for them.

    Args:
        arms: from `gather`.

    Returns:
        The table, and its numbers as ``{phase: {policy: {name: ConfidenceInterval}}}``.
    """
    header: list[str] = ["phase"]
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, dict[str, dict[str, ConfidenceInterval]]] = {}
    for policy in arms:
        header += [policy] if policy == CONTROL else [policy, "/ static", "by uneven shares alone"]
    for phase, (first, last) in PHASES.items():
        cells, numbers[phase] = [], {}
        for policy, runs in arms.items():
            efficiency_interval = confidence_interval(
                [efficiency(gains(run, (first, last)), run.share_between(first, last)) for run in runs]
            )
            cells.append(efficiency_interval.text(".3f"))
            numbers[phase][policy] = {"efficiency": efficiency_interval}
            if policy != CONTROL:
                ratio, alone = ratios(arms, policy, (first, last))
                cells += [ratio.text(".2f"), alone.text(".2f")]
                numbers[phase][policy] |= {"relative_to_static": ratio, "by_uneven_shares_alone": alone}
        title = phase if phase == "overall" else f"{phase} ({100 * first:.0f}–{100 * last:.0f} %)"
        rows.append((title, *cells))
    return Table(header, rows), numbers


def ratios(arms: Arms, policy: str, phase: tuple[float, float]) -> tuple[ConfidenceInterval, ConfidenceInterval]:
    """A policy's efficiency relative to static's, pair by pair: as it was, and with static's own gains."""
    as_it_was, alone = zip(*(ratios_of_pair(*pair, phase) for pair in pairs(arms, policy)), strict=True)
    return confidence_interval(as_it_was), confidence_interval(alone)


def ratios_of_pair(run: Run, control: Run, phase: tuple[float, float]) -> tuple[float, float]:
    """A run's efficiency relative to its control's: as it was, and with the control's own gains."""
    shares, below = run.share_between(*phase), efficiency(gains(control, phase), control.share_between(*phase))
    return efficiency(gains(run, phase), shares) / below, efficiency(gains(control, phase), shares) / below


def spent_table(arms: Arms) -> tuple[Table, dict[str, Any], list[str]]:
    """What every arm has spent.

    Args:
        arms: from `gather`.

    Returns:
        The table, its numbers, and a sentence for each arm that has not spent what static has.
    """
    of_run: dict[str, tuple[str, Callable[[Run], float]]] = {
        "device_seconds": ("device s", lambda run: run.device_seconds),
        "tflop": ("TFLOP", lambda run: float(run.flops.sum() / 1e12)),
        "examples": ("examples", lambda run: float(run.examples.sum())),
        "rounds": ("rounds", lambda run: float(run.rounds)),
        "wall": ("seconds in all", lambda run: run.wall),
        "compiling": ("compiling s", lambda run: run.compiling),
        "evaluating": ("evaluating s", lambda run: run.evaluating),
        "deferred": ("sizes late", lambda run: float(run.deferred)),
    }
    forms = dict.fromkeys(of_run, ",.0f") | {"device_seconds": ",.1f", "tflop": ",.3g"}
    rows, numbers, notes = [], {}, []
    for policy, runs in arms.items():
        intervals = {key: confidence_interval([take(run) for run in runs]) for key, (_, take) in of_run.items()}
        numbers[policy] = intervals
        seeds = ", ".join(str(run.seed) for run in runs)
        rows.append(
            (policy, seeds, *[_range([take(run) for run in runs], forms[key]) for key, (_, take) in of_run.items()])
        )
        if policy == CONTROL:
            continue
        run_pairs = [(run.seed, run.device_seconds, other.device_seconds) for run, other in pairs(arms, policy)]
        numbers[policy]["device_seconds_relative_to_static"] = confidence_interval(
            [seconds / control_seconds for _, seconds, control_seconds in run_pairs]
        )
        apart = [pair for pair in run_pairs if abs(pair[1] / pair[2] - 1) > SAME_COST]
        if apart:
            seed, seconds, control_seconds = max(apart, key=lambda pair: abs(pair[1] / pair[2] - 1))
            notes.append(
                f"NOT AT EQUAL DEVICE-SECONDS: {policy} took {seconds:,.1f} device-seconds and static "
                f"{control_seconds:,.1f} with seed {seed}, {100 * (seconds / control_seconds - 1):+.1f} %; "
                f"{len(apart)} of {len(run_pairs)} pairs are more than {100 * SAME_COST:.0f} % apart."
            )
    if notes:
        notes.append(f"What follows compares runs of different cost; to equalise it, {_equalise(arms)}.")
    return Table(["policy", "seeds", *[title for title, _ in of_run.values()]], rows, numbers=2), numbers, notes


def _equalise(arms: Arms) -> str:
    arena = arms[CONTROL][0].config.arena
    if arena is not None and arena.spend is not None and parse_spend(arena.spend).of == "seconds":
        return f"give more than --spend {arena.spend}: each run's last round then is a smaller part of it"
    longest = max(run.device_seconds for run in arms[CONTROL])
    return f"train all runs, static ones too, with --spend {max(1, round(longest))}s"


def device_seconds_table(arms: Arms) -> Table:
    """Device-seconds of every run, all its models together, a row per seed."""
    by_seed = {policy: {run.seed: run.device_seconds for run in runs} for policy, runs in arms.items()}
    seeds = sorted({seed for runs in by_seed.values() for seed in runs})
    rows = [(str(seed), *[f"{runs[seed]:,.1f}" if seed in runs else "" for runs in by_seed.values()]) for seed in seeds]
    return Table(["seed", *arms], rows)


def _range(values: Sequence[float] | np.ndarray, form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low}–{high}"
