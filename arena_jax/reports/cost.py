"""The page of what a result cost: device-seconds and matrix products, joint and each model by itself (Figure 7)."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arena_jax.compare.cost import Cost, Way
from arena_jax.compare.plan import Plan
from arena_jax.compare.verdict import goal, interval
from arena_jax.config.errors import ArenaError
from arena_jax.reports.figures import STYLE
from arena_jax.runs import document
from arena_jax.runs.curves import COLOURS
from arena_jax.runs.document import Block, Heading, Paragraph, Picture, Table
from arena_jax.runs.environment import environment
from arena_jax.runs.records import encode

_FIELDS = {"elapsed": "time on the clock", "device_seconds": "device-seconds", "products": "matrix products"}


def write(plan: Plan, cost: Cost, folder: Path) -> str:
    """Write ``cost.json``, ``cost.md``, ``cost.html`` and ``cost.png``.

    Args:
        plan: of the study.
        cost: as `arena_jax.compare.cost.cost` measures it.
        folder: of the study.

    Returns:
        The page for a terminal.

    Raises:
        ArenaError: the folder cannot be written.
    """
    about = {"date": time.strftime("%Y-%m-%d"), **environment()}
    values = {
        "environment": about,
        "steps": {name: step._asdict() for name, step in cost.steps.items()},
        "ways": [way._asdict() for way in cost.ways],
        "ratios": {
            f"{arm} / {other}": {field: paired._asdict() for field, paired in fields.items()}
            for (arm, other), fields in cost.ratios.items()
        },
    }
    blocks = describe(plan, cost)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = [*blocks, draw(cost.ways, folder / "cost.png")]
        text = json.dumps(encode(values), indent=1, allow_nan=False, ensure_ascii=False)
        (folder / "cost.json").write_text(text + "\n", encoding="utf-8")
        (folder / "cost.md").write_text(document.markdown(whole) + "\n", encoding="utf-8")
        (folder / "cost.html").write_text(document.page(f"{plan.name}: cost", whole), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write to '{folder}': {error.strerror or error}; make room, and start again") from None
    return document.text(blocks)


def describe(plan: Plan, cost: Cost) -> list[Block]:
    """The numbers as tables."""
    rounds = len(next(iter(cost.steps.values())).seconds)
    until = f"until {goal(plan)} is reached" if plan.outcome.target is not None else "for all steps of the runs"
    return [
        Heading(f"{plan.name}: cost", 1),
        Paragraph(
            f"Training {until}, {len(plan.seeds)} seeds. In parallel, each model has a device of its own, which is "
            "held until all have arrived; in sequence, one device trains one model after the other. Both are put "
            "together from the steps of each model alone; no second device was used."
        ),
        Heading("A step"),
        Paragraph(
            f"Median of {rounds} rounds in which all take turns, with its quartiles. Matrix products are counted from "
            "the models' shapes, and measured in the program of the step."
        ),
        _steps(cost),
        Heading("To the end"),
        Paragraph("Median over seeds."),
        _ways(cost.ways),
        Heading("Joint, over each model by itself"),
        Paragraph("Median of the paired ratios with its rank-based interval of 95 %; nothing is corrected for."),
        _ratios(cost),
    ]


def _steps(cost: Cost) -> Table:
    rows = []
    for name, step in cost.steps.items():
        low, _, high = statistics.quantiles(step.seconds, n=4, method="inclusive")
        times = f"{1000 * step.median:.1f} ({1000 * low:.1f}–{1000 * high:.1f})"
        rows.append((name, times, f"{step.counted / 1e9:.4g}", f"{step.measured / 1e9:.4g}"))
    return Table(("step of", "milliseconds", "GFLOP, counted", "GFLOP, measured"), rows, 1)


def _ways(ways: Sequence[Way]) -> Table:
    rows = [
        (
            way.name,
            *(_middle(values) for values in (way.elapsed, way.device_seconds)),
            _middle([value / 1e12 for value in way.products]),
        )
        for way in ways
    ]
    return Table(("", "seconds on the clock", "device-seconds", "TFLOP of matrix products"), rows, 1)


def _middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g}".replace("inf", "∞").replace("nan", "–")


def _ratios(cost: Cost) -> Table:
    rows = [
        (f"{arm} / {other}", *(interval(fields[field], ".2f") for field in _FIELDS))
        for (arm, other), fields in cost.ratios.items()
    ]
    return Table(("", *_FIELDS.values()), rows, 1)


def draw(ways: Sequence[Way], path: Path) -> Picture:
    """Draw the bars: device-seconds and matrix products of every way, median over seeds.

    Args:
        ways: as `arena_jax.compare.cost.Cost` holds them.
        path: of the picture.

    Returns:
        It.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 1.4 + 0.5 * len(ways)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        titles = {"device_seconds": ("device-seconds", 1.0), "products": ("TFLOP of matrix products", 1e12)}
        for axes, (field, (title, unit)) in zip(panels, titles.items(), strict=True):
            for row, way in enumerate(ways):
                values = [value / unit for value in getattr(way, field)]
                _bar(axes, row, values, COLOURS[row % len(COLOURS)])
            axes.set(xlabel=title, xlim=(0, None))
        for row, way in enumerate(ways):
            seconds = statistics.median(way.elapsed)
            if math.isfinite(seconds):
                panels[0].plot(seconds, row, "D", ms=6, mfc="white", color="#333333", zorder=3)
        panels[0].set_yticks(range(len(ways)), [way.name for way in ways])
        panels[0].invert_yaxis()
        figure.savefig(path)
    text = (
        "Bar: median over seeds; line: from the lowest to the highest; diamond: seconds on the clock; ∞: not reached."
    )
    return Picture(path, text)


def _bar(axes: Any, row: int, values: Sequence[float], colour: str) -> None:
    middle = statistics.median(values)
    if not math.isfinite(middle):
        axes.text(0, row, " ∞", va="center")
        return
    axes.barh(row, middle, color=colour, alpha=0.6, height=0.6)
    finite = [value for value in values if math.isfinite(value)]
    axes.plot([min(finite), max(finite)], [row, row], color="#333333", lw=1.5)
