"""The page of a comparison: its verdicts, its arms and pairs, the curves, and the plan."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.compare.paired import Paired
from arena_jax.compare.plan import Plan
from arena_jax.compare.verdict import arms_that_never_arrive, at, cost_unit, goal, interval, of_which
from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.reports import comparison_figures
from arena_jax.runs import document
from arena_jax.runs.document import Block, Heading, Items, Listing, Paragraph, Table
from arena_jax.runs.records import encode


def write(plan: Plan, result: Mapping[str, Any], folder: Path) -> str:
    """Write ``result.json``, ``result.md``, ``result.html`` and the figures of a comparison.

    Args:
        plan: of the study.
        result: as `arena_jax.compare.results` gives it.
        folder: of the study.

    Returns:
        The page for a terminal.

    Raises:
        ArenaError: the folder cannot be written.
    """
    try:
        pictures = comparison_figures.draw(plan, result, folder)
        blocks = describe(plan, result)
        whole = [*blocks, *pictures, *_plan_blocks(result)]
        (folder / "result.json").write_text(
            json.dumps(encode(dict(result)), indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / "result.md").write_text(document.markdown(whole) + "\n", encoding="utf-8")
        (folder / "result.html").write_text(document.page(plan.name, whole), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write to '{folder}': {error.strerror or error}; make room, and start again") from None
    return document.text(blocks)


def describe(plan: Plan, result: Mapping[str, Any]) -> list[Block]:
    """The verdicts and the numbers behind them."""
    blocks: list[Block] = [
        Heading(plan.name, 1),
        Items([_capital(comparison["sentence"]) for comparison in result["comparisons"]]),
        Paragraph(_judged(plan)),
        *([Items(result["notes"])] if result.get("notes") else []),
        Heading("Comparisons"),
        _comparisons(plan, result),
        Heading("Arms"),
        _arms(plan, result),
        *_by_model(plan, result),
        Heading("Pairs"),
        _pairs(plan, result),
    ]
    if result["tuning"]:
        blocks += [Heading("Tuning"), *_tuning(plan, result)]
    return blocks


def _capital(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _judged(plan: Plan) -> str:
    outcome = plan.outcome
    if outcome.kind == "score":
        what = f"{SCORES[outcome.metric].title}{of_which(plan)} {at(outcome)}"
        test = {
            "t": "Student's interval of the paired differences, and the paired t-test",
            "bootstrap": "bootstrap interval of the paired differences, and the permutation test",
        }[outcome.interval]
    else:
        what = f"{cost_unit(outcome)} to {goal(plan)}".replace(", to", " to")
        test = "median of the paired ratios with its rank-based interval, and the sign test"
    return (
        f"Judged by: {what}. {_capital(test)} Intervals are of 95 %; an arm is better or worse only if p is below 0.05 "
        "after Holm's correction for all comparisons."
    )


def _comparisons(plan: Plan, result: Mapping[str, Any]) -> Table:
    rows = []
    for comparison in result["comparisons"]:
        of_both = dict(zip((comparison["arm"], comparison["against"]), comparison["outcomes"], strict=True))
        never = arms_that_never_arrive(plan.outcome, of_both)
        paired = Paired(*(comparison[name] for name in Paired._fields))
        rows.append(
            (
                f"{comparison['arm']} / {comparison['against']}",
                comparison["verdict"],
                "yes" if comparison["success"] else "no",
                f"{never} arrives" if never else interval(paired, ".3g"),
                f"{comparison['p']:.2g}",
                f"{comparison['p_holm']:.2g}",
                str(comparison["pairs"]),
            )
        )
    header = ("arm / compared with", "verdict", "success", "estimate [95 %]", "p", "p, Holm", "pairs")
    return Table(header, rows, 3)


def _arms(plan: Plan, result: Mapping[str, Any]) -> Table:
    rows = []
    for arm in plan.arms:
        records = result["cells"][arm.name]
        outcomes = [record["outcome"] for record in records if record["outcome"] is not None]
        middle = f"{statistics.median(outcomes):.4g}".replace("inf", "∞") if outcomes else "–"
        settings = (result["tuning"].get(arm.name) or {}).get("settings", {})
        what = [f"{name} {value}" for name, value in {**arm.changes, **settings}.items()]
        what += [place.rpartition("/")[2] for place in (arm.configure, arm.train) if place]
        spent = [statistics.median(record[name] for record in records) for name in ("seconds", "compile_seconds")]
        counts = [
            sum(record["status"] == status for record in records) for status in ("finished", "diverged", "failed")
        ]
        rows.append(
            (arm.name, ", ".join(what) or "as the base", middle, *map(str, counts), *(f"{s:.1f}" for s in spent))
        )
    seconds = ("training, device-s", "compiling, device-s")
    return Table(("arm", "differs in", "outcome, median", "finished", "diverged", "failed", *seconds), rows, 2)


def _by_model(plan: Plan, result: Mapping[str, Any]) -> list[Block]:
    """Each arm's models side by side: the median over seeds, and how far it is from the arm it is compared with."""
    models = list(dict.fromkeys(row["model"] for row in result["by_model"]))
    if not models:
        return []
    cells = {(row["arm"], row["model"]): _of_model(row) for row in result["by_model"]}
    rows = [
        (
            arm.name,
            "" if arm.name == plan.baseline else plan.against(arm),
            *(cells.get((arm.name, model), "–") for model in models),
        )
        for arm in plan.arms
    ]
    what = "difference" if plan.outcome.kind == "score" else "ratio"
    text = (
        f"The same outcome of each model alone: median over seeds; {what} of the pairs, with its interval. Beside what "
        "the plan judges by: no correction, no verdict."
    )
    return [Heading("Each model"), Paragraph(text), Table(("arm", "compared with", *models), rows, 2)]


def _of_model(row: Mapping[str, Any]) -> str:
    numbers = [value for value in row["outcomes"] if not math.isnan(value)]
    middle = f"{statistics.median(numbers):.4g}".replace("inf", "∞") if numbers else "–"
    if "against" not in row:
        return middle
    if numbers and all(map(math.isinf, row["outcomes"])):
        return "no run arrives"
    return f"{middle}; {interval(Paired(*(row[name] for name in Paired._fields)), '.3g')}"


def _pairs(plan: Plan, result: Mapping[str, Any]) -> Table:
    names = [arm.name for arm in plan.arms]
    rows = [(str(seed), *(_outcome(result["cells"][name][i]) for name in names)) for i, seed in enumerate(plan.seeds)]
    return Table(("seed", *names), rows, 0)


def _outcome(record: Mapping[str, Any]) -> str:
    value = record["outcome"]
    if value is None or math.isnan(value):
        return record["status"] if record["status"] != "finished" else "none"
    return "∞" if math.isinf(value) else f"{value:.4g}"


def _tuning(plan: Plan, result: Mapping[str, Any]) -> list[Block]:
    assert plan.tuning is not None
    rows, edges = [], []
    for name, choice in result["tuning"].items():
        for trial in choice["trials"]:
            settings = ", ".join(f"{field} {value}" for field, value in trial["settings"].items())
            outcomes = ", ".join("∞" if math.isinf(value) else f"{value:.4g}" for value in trial["outcomes"])
            rows.append((name, settings, outcomes, "chosen" if trial["settings"] == choice["settings"] else ""))
        edges += [
            f"{name}: {field} was chosen at an end of its grid: a better one may lie beyond" for field in choice["edge"]
        ]
    seeds = ", ".join(map(str, plan.tuning.seeds))
    table = Table(("arm", "settings", f"outcome, seeds {seeds}", ""), rows, 4)
    return [table, *([Items(edges)] if edges else [])]


def _plan_blocks(result: Mapping[str, Any]) -> list[Block]:
    identity = result["identity"]
    versions = ", ".join(f"{name} {version}" for name, version in identity["versions"].items())
    return [
        Heading("The plan"),
        Paragraph(
            f"Frozen {result['begun']} with its first run: plan {identity['plan'][:12]}, "
            f"source {identity['source'][:12]}, commit {(identity['commit'] or 'none')[:12]}; {versions}."
        ),
        Listing(json.dumps(encode(result["plan"]), indent=1, ensure_ascii=False)),
    ]
