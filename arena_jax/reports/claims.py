"""The claims of the ModelArena paper, each judged on the runs of an experiment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.config.scores import SCORES
from arena_jax.reports.arena_tables import PHASES, efficiency, gains, progress_at, ratios_of_pair
from arena_jax.reports.arms import CONTROL, Arms, Run, pairs

HOLDS, FAILED, OPEN, UNKNOWN = "holds", "does not hold", "not shown", "not judged"
SPREAD = 0.05  # shares this far apart have moved apart
ALIKE = 0.02  # final metrics this near are alike, as a part of the control's
RULE = (
    "A claim holds where the whole 95 % interval over seeds is on its side, does not hold where the whole interval is "
    "on the other side, and is not shown where the interval reaches to both; about one in twenty is "
    "misjudged by chance. Differences are of pairs with the same seed."
)


class Finding(NamedTuple):
    """A claim judged on the runs of one policy.

    Attributes:
        claim: what the paper says, with its section.
        policy: the arm it was judged on.
        verdict: "holds", "does not hold", "not shown" or "not judged".
        evidence: the numbers that say so, or what is missing.
        value: the number that decides, with its interval; None where nothing could be judged.
    """

    claim: str
    policy: str
    verdict: str
    evidence: str
    value: ConfidenceInterval | None


class NotJudged(Exception):
    """Why a claim cannot be judged on these runs."""


class Form(NamedTuple):
    """How a number is written, and between which values it must lie."""

    form: str
    scale: float = 1.0
    bounds: tuple[float, float] | None = None


# What is measured: value per pair, threshold, +1 (above it) or −1 (below it), a sentence with {} for the number.
Measure = tuple[Sequence[float], float, int, str, Form]
_PERCENT = Form("+.1f", 100.0)
_PART = Form(".1f", 100.0, (0.0, 1.0))
_PARTS_APART = Form("+.1f", 100.0, (-1.0, 1.0))  # a part less another


def judge(arms: Arms) -> list[Finding]:
    """Judge every claim for every policy but the control.

    Args:
        arms: from `gather`.

    Returns:
        Findings, by claim and policy.
    """
    return [
        _finding(claim, policy, measure, pairs(arms, policy))
        for claim, measure in CLAIMS.items()
        for policy in arms
        if policy != CONTROL
    ]


def _finding(
    claim: str, policy: str, measure: Callable[[list[tuple[Run, Run]]], Measure], run_pairs: list[tuple[Run, Run]]
) -> Finding:
    try:
        values, threshold, side, sentence, form = measure(run_pairs)
    except NotJudged as reason:
        return Finding(claim, policy, UNKNOWN, str(reason), None)
    value = confidence_interval(values, form.bounds)
    evidence = sentence.format(value.text(form.form, form.scale))
    return Finding(claim, policy, verdict(value, threshold, side), evidence + _doubt(value), value)


def verdict(value: ConfidenceInterval, threshold: float, side: int) -> str:
    """Judge an interval against a threshold.

    Args:
        value: the interval.
        threshold: what the claim is about.
        side: +1 if it says "above", −1 if it says "below".

    Example:
        >>> ends = (1, 3), (-1, 5), (math.nan, math.nan)
        >>> [verdict(ConfidenceInterval(2, *pair, 3), 0, +1) for pair in ends]
        ['holds', 'not shown', 'not judged']
        >>> verdict(ConfidenceInterval(2, 1, 3, 3), 0, -1)
        'does not hold'
    """
    if not value.finite:
        return UNKNOWN
    if min(side * (value.low - threshold), side * (value.high - threshold)) > 0:
        return HOLDS
    return FAILED if max(side * (value.low - threshold), side * (value.high - threshold)) < 0 else OPEN


def _doubt(value: ConfidenceInterval) -> str:
    if value.finite:
        return ""
    if not math.isfinite(value.mean):
        return "; a score is not finite: a model diverged"
    return "; one seed has no interval: train more seeds"


# ---- 5.1: memory ----


def moved_apart(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """Largest less smallest share at the end."""
    values = [float(np.ptp(run.shares[-1])) for run, _ in run_pairs]
    sentence = f"largest less smallest share at the end: {{}} points (above {100 * SPREAD:.0f}: apart)"
    return values, SPREAD, +1, sentence, _PART


def nobody_takes_all(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The largest share at the end."""
    return [float(run.shares[-1].max()) for run, _ in run_pairs], 0.5, -1, "largest share at the end: {} %", _PART


def settled(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """How far shares move per reallocation, second half less first half."""

    def change(run: Run) -> float:
        movements = np.abs(np.diff(run.shares, axis=0)).mean(1)
        late = run.dealt[1:] >= 0.5
        if late.all() or not late.any():
            raise NotJudged("a half of the run has no reallocation: reallocate more often")
        return float(movements[late].mean() - movements[~late].mean())

    sentence = "points that a share moves at a reallocation, second half less first: {}"
    return [change(run) for run, _ in run_pairs], 0.0, -1, sentence, _PARTS_APART._replace(form="+.2f")


# ---- 5.2: learning progress ----


def small_learns_fastest(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """How often the smallest causal model has the highest progress."""
    run = run_pairs[0][0]
    sizes = {i: run.models[name]["parameters"] for i, name in enumerate(run.models) if _causal(run, name)}
    if len(set(sizes.values())) < 2:
        raise NotJudged("it needs two causal models of different sizes")
    smallest = min(sizes, key=lambda i: sizes[i])

    def often(run: Run) -> float:
        return float(np.mean([progress_at(run, k).argmax() == smallest for k in range(1, len(run.scores))]))

    sentence = f"{list(run.models)[smallest]} has the highest progress at {{}} % of the evaluations (above 50: most)"
    return [often(run) for run, _ in run_pairs], 0.5, +1, sentence, _PART._replace(form=".0f")


def masked_flatten_first(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The part of its whole improvement that a model makes early: masked models less causal ones."""

    def early(run: Run) -> np.ndarray:
        return gains(run, PHASES["early"]) / gains(run, PHASES["overall"])

    masked, causal = _kinds(run_pairs[0][0])
    if not masked or not causal:
        raise NotJudged("it needs masked and causal models")
    values = [float(early(run)[masked].mean() - early(run)[causal].mean()) for run, _ in run_pairs]
    sentence = "of a model's whole improvement, made in the first 30 % of the run: masked less causal {} points"
    return values, 0.0, +1, sentence, _PERCENT


def best_has_least(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The share of the best model less the smallest share of the others."""

    def ahead(run: Run) -> float:
        best = int(run.scores[-1].argmax())
        return float(run.shares[-1, best] - np.delete(run.shares[-1], best).min())

    sentence = f"share of the best model ({_winners(run_pairs, 0)}) less the smallest other share: {{}} points"
    return [ahead(run) for run, _ in run_pairs], 0.0, -1, sentence, _PARTS_APART


# ---- 5.3: convergence ----


def causal_converge_sooner(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """When the causal models reach the score that both arms reach, against the control."""
    _, causal = _kinds(run_pairs[0][0])
    if not causal:
        raise NotJudged("it needs a causal model")
    values = [float(np.mean([_sooner(run, control, i) for i in causal])) for run, control in run_pairs]
    title = _metric(run_pairs[0][0])
    sentence = (
        f"points of the run that causal models need more (+) or less (−) than static to reach the {title} both "
        "reach: {}"
    )
    return values, 0.0, -1, sentence, _PARTS_APART


def masked_lose_nothing(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """Final metric of masked models that were given less, relative to the control; at most a little more."""
    if SCORES[run_pairs[0][0].config.training.score].sign > 0:
        raise NotJudged("it needs a score of which less is better")
    less = _with_shares(run_pairs, -1)
    values = [float((run.scores[-1, less] / other.scores[-1, less]).mean() - 1) for run, other in run_pairs]
    names = _named(run_pairs, less)
    sentence = (
        f"final {_metric(run_pairs[0][0])} of {names}, given less than an equal share: {{}} % against static (up to "
        f"{100 * ALIKE:.0f}: alike)"
    )
    return values, ALIKE, -1, sentence, Form("+.2f", 100.0)


def masked_gain_from_more(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """Final score of masked models that were given more, against the control."""
    more = _with_shares(run_pairs, +1)
    values = [float((run.scores[-1, more] - other.scores[-1, more]).mean()) for run, other in run_pairs]
    return values, 0.0, +1, f"final score of {_named(run_pairs, more)}, given more, against static: {{}}", Form("+.4f")


# ---- 5.4: efficiency ----


def efficiency_claim(phase: str) -> Callable[[list[tuple[Run, Run]]], Measure]:
    """Relative efficiency in a phase, less 1."""

    def measure(run_pairs: list[tuple[Run, Run]]) -> Measure:
        by_shares = confidence_interval([ratios_of_pair(*pair, PHASES[phase])[1] for pair in run_pairs])
        values = [_efficiency(run, phase) / _efficiency(control, phase) - 1 for run, control in run_pairs]
        alone = f"{(by_shares.mean - 1) * 100:+.1f} %"
        sentence = f"{{}} % against static; static's own gains over these shares would give {alone}"
        return values, 0.0, +1, sentence, _PERCENT

    return measure


def most_efficient_early(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The advantage in efficiency, early less late."""

    def advantage(run: Run, control: Run, phase: str) -> float:
        return _efficiency(run, phase) - _efficiency(control, phase)

    values = [advantage(*pair, "early") - advantage(*pair, "late") for pair in run_pairs]
    return values, 0.0, +1, "advantage over static in RUE, early less late: {}", Form("+.3f")


# ---- abstract and section 8 ----


def favours_the_promising(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The mean share of the model that wins under static, less an equal share."""

    def more(run: Run, control: Run) -> float:
        return float(run.share_between(0, 1)[int(control.scores[-1].argmax())] - 1 / len(run.models))

    sentence = (
        f"mean share of the model that wins under static ({_winners(run_pairs, 1)}) less an equal share: {{}} points"
    )
    return [more(*pair) for pair in run_pairs], 0.0, +1, sentence, _PARTS_APART


def best_is_better(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The best final score, against the control's best."""
    values = [float(run.scores[-1].max() - control.scores[-1].max()) for run, control in run_pairs]
    return values, 0.0, +1, "best final score against static's best: {}", Form("+.4f")


def all_are_better(run_pairs: list[tuple[Run, Run]]) -> Measure:
    """The models' mean final score, against the control's."""
    values = [float(run.scores[-1].mean() - control.scores[-1].mean()) for run, control in run_pairs]
    return values, 0.0, +1, "mean final score of all models against static: {}", Form("+.4f")


CLAIMS: dict[str, Callable[[list[tuple[Run, Run]]], Measure]] = {
    "5.1 Shares move apart from equal ones": moved_apart,
    "5.1 No winner takes all: nobody ends with more than half": nobody_takes_all,
    "5.1 Shares settle in the second half": settled,
    "5.2 The smaller autoregressive model learns fastest most of the time": small_learns_fastest,
    "5.2 Masked models reach their plateau sooner than autoregressive ones": masked_flatten_first,
    "5.2 The best model ends with the smallest share": best_has_least,
    "5.3 Autoregressive models converge sooner than under static": causal_converge_sooner,
    "5.3 A masked model that is given less ends no worse": masked_lose_nothing,
    "5.3 A masked model that is given more ends better": masked_gain_from_more,
    "5.4 Resource utilization efficiency is higher early (the paper: +30 %)": efficiency_claim("early"),
    "5.4 Resource utilization efficiency is higher in the middle (+36 %)": efficiency_claim("middle"),
    "5.4 Resource utilization efficiency is higher late (+35 %)": efficiency_claim("late"),
    "5.4 Resource utilization efficiency is higher overall (+32 %)": efficiency_claim("overall"),
    "5.4 The advantage is largest early": most_efficient_early,
    "8 Models with more potential are found and given more": favours_the_promising,
    "8 The most promising model gets further for the same cost": best_is_better,
    "8 The models together get further for the same cost": all_are_better,
}


# ---- parts ----


def _causal(run: Run, name: str) -> bool:
    return str(run.models[name].get("task")) == "causal-lm"


def _kinds(run: Run) -> tuple[list[int], list[int]]:
    """The columns of the masked models and of the causal ones."""
    columns = list(enumerate(run.models))
    masked = [i for i, name in columns if run.models[name].get("task") == "masked-lm"]
    return masked, [i for i, name in columns if _causal(run, name)]


def _with_shares(run_pairs: list[tuple[Run, Run]], side: int) -> list[int]:
    """The masked models that were given clearly more (+1) or less (−1) than an equal share, on average over seeds."""
    run = run_pairs[0][0]
    mean = np.mean([run.share_between(0, 1) for run, _ in run_pairs], axis=0)
    columns = [i for i in _kinds(run)[0] if side * (mean[i] - 1 / len(run.models)) > 0.005]
    if not columns:
        raise NotJudged(f"no masked model was given {'more' if side > 0 else 'less'} than an equal share")
    return columns


def _metric(run: Run) -> str:
    """What scores are made of, in words: of a metric of which less is better, not its negative."""
    return SCORES[run.config.training.score].title.removesuffix(" (nats)")


def _named(run_pairs: list[tuple[Run, Run]], columns: Sequence[int]) -> str:
    names = list(run_pairs[0][0].models)
    return " and ".join(names[i] for i in columns)


def _winners(run_pairs: list[tuple[Run, Run]], of: int) -> str:
    best = {int(pair[of].scores[-1].argmax()) for pair in run_pairs}
    return " or ".join(list(run_pairs[0][0].models)[i] for i in sorted(best))


def _efficiency(run: Run, phase: str) -> float:
    return efficiency(gains(run, PHASES[phase]), run.share_between(*PHASES[phase]))


def _sooner(run: Run, control: Run, model: int) -> float:
    """The fraction at which a model first has the lower of both final scores, less that of the control."""
    goal = min(run.scores[-1, model], control.scores[-1, model])
    return _reached(run, model, goal) - _reached(control, model, goal)


def _reached(run: Run, model: int, goal: float) -> float:
    scores = run.scores[:, model]
    if not math.isfinite(goal):
        return math.nan
    k = int(np.argmax(scores >= goal))
    if k == 0:
        return float(run.fraction[0])
    part = (goal - scores[k - 1]) / (scores[k] - scores[k - 1])
    return float(run.fraction[k - 1] + part * (run.fraction[k] - run.fraction[k - 1]))


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON holds them."""
    return [finding._asdict() | {"value": finding.value and finding.value._asdict()} for finding in findings]
