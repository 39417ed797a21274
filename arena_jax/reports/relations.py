"""The page of what models have to do with one another: the system as it ran, influence, likeness, agreement."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.compare.confidence import confidence_interval
from arena_jax.compare.paired import difference
from arena_jax.compare.relations import Related, asymmetry, compared, likeness
from arena_jax.compare.verdict import interval
from arena_jax.config.errors import ArenaError
from arena_jax.reports import relation_figures
from arena_jax.runs import document
from arena_jax.runs.document import Block, Heading, Paragraph, Table
from arena_jax.runs.records import encode

Pairs = Sequence[tuple[Related, Related]]
_TITLES = {
    "mean": "accuracy, mean of the models",
    "best": "accuracy, best model",
    "ensemble": "accuracy of the mean of their probabilities",
    "gain": "what the ensemble adds to the mean of the models",
    "agreement": "two models answer alike",
    "kappa": "the same beyond chance (Cohen's kappa)",
}


def write(pairs: Pairs, folder: Path, split: str) -> str:
    """Write ``relations.json``, ``relations.md``, ``relations.html`` and the figures.

    Args:
        pairs: (joint run, lone run) of each seed.
        folder: where to; made if it is not there.
        split: that answers were scored on.

    Returns:
        The page for a terminal.

    Raises:
        ArenaError: the folder cannot be written.
    """
    joint, lone = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    blocks = describe(pairs, split)
    values = {
        "split": split,
        "seeds": [run.config.training.seed for run in joint],
        "joint less lone": {name: paired._asdict() for name, paired in compared(pairs).items()},
        "asymmetry": {f"{a} to {b}": paired._asdict() for (a, b), paired in asymmetry(joint).items()},
        "likeness": {"joint": likeness(joint), "lone": likeness(lone)},
        "runs": [[_plain(run) for run in pair] for pair in pairs],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = [*blocks, *relation_figures.draw(pairs, folder)]
        text = json.dumps(encode(values), indent=1, allow_nan=False, ensure_ascii=False)
        (folder / "relations.json").write_text(text + "\n", encoding="utf-8")
        (folder / "relations.md").write_text(document.markdown(whole) + "\n", encoding="utf-8")
        (folder / "relations.html").write_text(document.page("Relations", whole), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write to '{folder}': {error.strerror or error}; make room, and start again") from None
    return document.text(blocks)


def _plain(run: Related) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "scores": run.scores,
        "accuracies": run.accuracies,
        "sharing": {f"{giver} to {taker}": kinds for (taker, giver), kinds in run.sharing.items()},
        "correlation": {f"{giver} to {taker}": r for (taker, giver), r in run.correlation.items()},
        "influence": {
            kind: {
                taker: {giver: effect._asdict() for giver, effect in givers.items()} for taker, givers in takers.items()
            }
            for kind, takers in run.influence.items()
        },
    }


def describe(pairs: Pairs, split: str) -> list[Block]:
    """The numbers as tables."""
    joint, lone = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    seeds = ", ".join(str(run.config.training.seed) for run in joint)
    return [
        Heading("Relations", 1),
        Paragraph(
            f"{len(pairs)} joint and as many lone runs, seeds {seeds}. Intervals are of 95 %, over seeds; nothing is"
            " corrected for."
        ),
        Heading("The system as it ran"),
        Paragraph(
            "The part of a model's numbers of each kind that is in groups with another model: whose gradients may be "
            "pooled."
        ),
        _sharing(joint[0]),
        Heading("Joint against alone"),
        Paragraph(f"On the {split} split, paired by seed, points."),
        _scores(pairs),
        Heading("Influence"),
        Paragraph(
            "By how much a model's loss falls, in 1/1000 nat, by a step of 1 % of its parameters' norm along another's "
            "shared gradient, less the same with shuffled numbers; mean over the joint runs, interval over seeds. Rows "
            "that the gradient has not seen. Above 0: it helps."
        ),
        _influence(joint),
        Paragraph("The same summed over kinds, the first direction less the second; and the correlation of a model's "
                  "gradient norm with the fall of another's loss (the paper's reading), mean over the joint runs."),
        _asymmetry(joint),
        Heading("Likeness"),
        Paragraph(
            "Linear CKA of mean hidden states on held-out texts, and relative distance of attention matrices; means "
            "over runs. Two seeds of one model are the yardstick."
        ),
        _likeness(joint, lone),
    ]  # fmt: skip


def _sharing(run: Related) -> Table:
    kinds = list(dict.fromkeys(kind for parts in run.sharing.values() for kind in parts))
    rows = [
        (taker, giver, *(f"{100 * parts[kind]:.0f} %" if kind in parts else "–" for kind in kinds))
        for (taker, giver), parts in run.sharing.items()
    ]
    return Table(("of", "with", *kinds), rows, 2)


def _scores(pairs: Pairs) -> Table:
    rows = []
    for name, paired in compared(pairs).items():
        means = [100 * float(np.mean([run.scores[name] for run in side])) for side in zip(*pairs, strict=True)]
        rows.append(
            (_TITLES[name], *(f"{mean:.1f}" for mean in means), interval(paired, "+.1f", 100), f"{paired.p:.2g}")
        )
    return Table(("", "joint", "alone", "joint less alone [95 %]", "p"), rows, 1)


def _influence(runs: Sequence[Related]) -> Table:
    names, rows = sorted(runs[0].hidden), []
    for kind, takers in runs[0].influence.items():
        for taker, givers in takers.items():
            cells = []
            for giver in names:
                if giver not in givers:
                    cells.append("–")
                    continue
                gains = [run.influence[kind][taker][giver] for run in runs]
                mean = confidence_interval([gain.gain - gain.shuffled for gain in gains])
                cells.append(mean.text("+.2f", 1000).replace("-", "−"))
            rows.append((kind, taker, *cells))
    return Table(("kind", "taker", *(f"from {name}" for name in names)), rows, 2)


def _asymmetry(runs: Sequence[Related]) -> Table:
    rows = []
    for (giver, taker), paired in asymmetry(runs).items():
        there, back = (np.asarray([run.correlation[pair] for run in runs]) for pair in ((taker, giver), (giver, taker)))
        rows.append(
            (
                f"{giver} to {taker} less {taker} to {giver}",
                interval(paired, "+.2f", 1000),
                f"{paired.p:.2g}",
                f"{there.mean():+.2f}".replace("-", "−"),
                f"{back.mean():+.2f}".replace("-", "−"),
            )
        )
    header = ("", "1/1000 nat [95 %]", "p", "correlation, first", "second")
    return Table(header, rows, 1)


def _likeness(joint: Sequence[Related], lone: Sequence[Related]) -> Table:
    sides: list[Mapping[str, Mapping[str, list[float]]]] = [likeness(joint), likeness(lone)]
    rows = []
    for label in dict.fromkeys(label for side in sides for label in side["cka"]):
        means = {what: [_mean(side[what].get(label, [])) for side in sides] for what in ("cka", "distance")}
        # Two models of one run have a value for each seed; two seeds of one model have none that belongs to a seed.
        by_seed = not label.endswith(", seeds")
        less = interval(difference(sides[0]["cka"][label], sides[1]["cka"][label]), "+.2f") if by_seed else "–"
        rows.append((label, *means["cka"], less, *means["distance"]))
    header = ("", "CKA, joint", "CKA, alone", "joint less alone [95 %]", "distance, joint", "distance, alone")
    return Table(header, rows, 1)


def _mean(values: Sequence[float]) -> str:
    numbers = [value for value in values if not math.isnan(value)]
    return f"{np.mean(numbers):.2f}" if numbers else "–"
