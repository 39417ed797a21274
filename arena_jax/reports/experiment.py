"""An experiment's report: policies against their static control, from the records of their runs alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arena_jax.compare.confidence import ConfidenceInterval
from arena_jax.config.errors import ArenaError
from arena_jax.reports import claims
from arena_jax.reports.arena_figures import draw_figures
from arena_jax.reports.arena_objective import objective_table
from arena_jax.reports.arena_tables import device_seconds_table, spent_table, table1, table2
from arena_jax.reports.arms import CONTROL, Arms, gather, pairs
from arena_jax.runs import document
from arena_jax.runs.competition_lines import bits_note
from arena_jax.runs.document import Block, Heading, Items, Paragraph


def report(folders: Sequence[str | Path], output: str | Path) -> str:
    """Compare competitions that differ in policy and seed: the paper's tables, figures and claims.

    Args:
        folders: of finished runs, at least one of the policy ``static``, the control.
        output: a folder, made if it is not there; ``report.md``, ``report.html`` (which needs no other file),
            ``report.json`` and the figures are written into it.

    Returns:
        The report as plain text.

    Raises:
        ArenaError: runs that cannot be compared, see `arena_jax.reports.arms.gather`, or a folder that cannot be
            written.
    """
    arms = gather(folders)
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        blocks, numbers = compose(arms, output)
        title = next(block.text for block in blocks if isinstance(block, Heading))
        (output / "report.md").write_text(document.markdown(blocks) + "\n", encoding="utf-8")
        (output / "report.html").write_text(document.page(title, blocks), encoding="utf-8")
        text = json.dumps(_plain(numbers), indent=1, ensure_ascii=False, allow_nan=False)
        (output / "report.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write the report to '{output}': {error.strerror or error}") from error
    return document.text(blocks)


def compose(arms: Arms, folder: Path) -> tuple[list[Block], dict[str, Any]]:
    """Put the report together.

    Args:
        arms: from `gather`.
        folder: for the figures.

    Returns:
        Its blocks, and all its numbers.
    """
    run = arms[CONTROL][0]
    seeds = {policy: [arm_run.seed for arm_run in runs] for policy, runs in arms.items()}
    policies = [policy for policy in arms if policy != CONTROL]
    spent, spending, notes = spent_table(arms)
    goal, goal_numbers, goal_sentence = objective_table(arms)
    first, final = table1(arms)
    second, phases = table2(arms)
    findings = claims.judge(arms)
    if min(map(len, seeds.values())) < 2:
        notes.append("An arm has one seed only: it has no intervals, and no claim can be judged on it.")
    unpaired = sorted({f"{policy} {s}" for policy in seeds for s in set(seeds[policy]) ^ set(seeds[CONTROL])})
    if unpaired:
        notes.append(f"Without a partner in static or from it, and in no difference: seeds {', '.join(unpaired)}.")
    late = [arm_run.deferred > 0 for runs in arms.values() for arm_run in runs]
    if any(late):
        notes.append(
            f"In {sum(late)} of {len(late)} runs batch sizes came later than planned, or not at all, as programs were "
            "still compiled: they hang on how fast this machine compiles; with --late-swaps wait they do not."
        )
    arena = run.config.arena
    length = f"{run.config.training.steps} rounds" if run.config.training.steps else str(arena and arena.spend)
    about_bits = bits_note(run.models)
    blocks: list[Block] = [
        Heading(f"{run.config.preset}: {', '.join(policies)} against static", 1),
        Paragraph(
            f"{len(run.models)} models on {run.config.data.name}; each run {length}, all models together."
            + (_intervals(arms) if max(map(len, seeds.values())) > 1 else "")
        ),
        *([Items(notes)] if notes else []),
        Heading("What it was for"),
        goal,
        Paragraph(goal_sentence),
        Heading("What was spent"),
        spent,
        Paragraph("Device-seconds of each run, all models together:"),
        device_seconds_table(arms),
        Heading("Table 1: at the end"),
        first,
        Paragraph(f"Score: {run.score_title}. Batch: last in force, over seeds. Shares are of what is divided."),
        *([Paragraph(f"{about_bits}.")] if about_bits and any(row[-1] for row in first.rows) else []),
        Heading("Table 2: resource utilization efficiency (equation 8)"),
        second,
        Paragraph(
            "|score gained| / share of the memory, mean over models. “By uneven shares alone”: static's gains "
            "divided by this policy's shares, relative to static; what is left of “/ static” beyond it was learnt."
        ),
        *draw_figures(arms, folder),
        Heading("The paper's claims"),
        Paragraph(claims.RULE),
    ]
    for claim in dict.fromkeys(finding.claim for finding in findings):
        sentences = [
            f"{finding.policy}: {finding.verdict} — {finding.evidence}"
            for finding in findings
            if finding.claim == claim
        ]
        blocks += [Heading(claim, 3), Items(sentences)]
    numbers = {
        "preset": run.config.preset,
        "length": length,
        "runs": {policy: {str(arm_run.seed): str(arm_run.folder) for arm_run in runs} for policy, runs in arms.items()},
        "notes": notes,
        "objective": goal_numbers,
        "spent": spending,
        "device_seconds": {
            policy: {str(arm_run.seed): arm_run.device_seconds for arm_run in runs} for policy, runs in arms.items()
        },
        "table1": final,
        "table2": phases,
        "claims": claims.as_json(findings),
    }
    return blocks, numbers


def _intervals(arms: Arms) -> str:
    return (
        f" ± and brackets: 95 % intervals of the mean over seeds (Student's t), {_counts(arms)}; those of shares end at"
        " 0 and 100 %, where shares do."
    )


def _counts(arms: Arms) -> str:
    """How many seeds there are, and pairs with static's where those are fewer."""
    seeds = {policy: len(runs) for policy, runs in arms.items()}
    pair_counts = {policy: len(pairs(arms, policy)) for policy in arms}
    if len({*seeds.values(), *pair_counts.values()}) == 1:
        return f"n = {seeds[CONTROL]}"
    of_means = ", ".join(f"{count} of {policy}" for policy, count in seeds.items())
    of_pairs = ", ".join(f"{count} of {policy}" for policy, count in pair_counts.items() if policy != CONTROL)
    return f"n = {of_means}, and in differences from static n = {of_pairs}"


def _plain(value: Any) -> Any:
    """Intervals to dictionaries, what is not finite to null."""
    if isinstance(value, ConfidenceInterval):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
