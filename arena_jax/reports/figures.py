"""Figures of a run, drawn from its records alone: loss, score and effective learning rate, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.runs.curves import Record, cycle, in_percent, label, metrics_in, model_names, series
from arena_jax.runs.log_lines import words
from arena_jax.runs.records import read

_INK, _FAINT = "#333333", "#e4e4e4"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": _INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 150,
}
_TICKS = 7  # at most: steps at which models were scored
_SIZE = (7.0, 4.2)  # inches; 1050 × 630 pixels


def draw(run: str | Path) -> list[Path]:
    """Draw every figure that a run's records hold something for, into its folder ``figures``.

    Args:
        run: the run's folder.

    Returns:
        The files: ``loss.png``, one per score (``accuracy.png``, ``perplexity.png``, …), ``learning_rate.png`` and, if
        there are two or more, ``overview.png`` with the three first side by side.

    Raises:
        ArenaError: no records, or a folder that cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    records = [record for record in read(run) if record["kind"] in ("start", "train", "evaluation", "resize")]
    metrics = metrics_in(records)
    folder = Path(run) / "figures"
    paths = []
    try:
        folder.mkdir(exist_ok=True)
        with rc_context(STYLE):
            for metric in metrics:
                figure = Figure(figsize=_SIZE, layout="constrained")
                panel(figure.subplots(), records, metric)
                paths.append(folder / f"{metric}.png")
                figure.savefig(paths[-1])
            if len(metrics) > 1:
                panels = [metrics[0], *metrics[1:-1][:1], metrics[-1]]
                figure = Figure(figsize=(4.8 * len(panels), 3.9), layout="constrained")
                figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
                for axes, metric in zip(figure.subplots(1, len(panels)), panels, strict=True):
                    panel(axes, records, metric)
                paths.append(folder / "overview.png")
                figure.savefig(paths[-1])
    except OSError as error:
        raise ArenaError(f"cannot write figures to {folder}: {error.strerror or error}") from error
    return paths


def panel(axes: Any, records: Sequence[Record], metric: str) -> None:
    """Draw one metric over the steps: validation strong, training thin behind it, one colour per model.

    A dotted line stands where a model changed its shape.

    Args:
        axes: of matplotlib.
        records: of kinds train, evaluation and resize.
        metric: its name in the records.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    names = model_names(records)
    curves = []
    for i, (colour, name) in enumerate(zip(cycle(len(names)), names, strict=True)):
        training = series(records, name, metric, "train")
        validation = series(records, name, metric, "evaluation")
        alone = not validation[0]
        if training[0]:
            # Learning rates are often equal: the first lines are broader, so that all are seen.
            strength = {"linewidth": 1.8 + 1.8 * (len(names) - 1 - i)} if alone else {"linewidth": 0.9, "alpha": 0.45}
            axes.plot(*training, color=colour, **strength, label=name if alone else None)
        if validation[0]:
            dots = {"marker": "o", "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.8}
            # Where dots would touch they hide the line.
            axes.plot(*validation, color=colour, linewidth=2.0, label=name, **dots if len(validation[0]) <= 25 else {})
        curves.append((training[0], validation[0]))
        for resize in (record for record in records if record["kind"] == "resize" and record["model"] == name):
            axes.axvline(resize["step"], color=colour, linestyle=":", linewidth=1.2)
    axes.set_title(_title(metric))
    axes.set_xlabel("round" if any("accounts" in record for record in records) else "step")
    # Of all panels the same, where models were scored.
    scored = sorted({record["step"] for record in records if record["kind"] == "evaluation"})
    axes.xaxis.set_major_locator(
        FixedLocator(scored[:: -(-len(scored) // _TICKS)])
        if len(scored) > 1
        else MaxNLocator("auto", integer=True, min_n_ticks=1)
    )
    axes.set_ylabel(label(metric))
    axes.margins(x=0.02)
    if metric == "perplexity":
        _perplexity_axis(axes)
    if metric == "learning_rate":
        _rate_axis(axes)
    low, high = axes.get_ylim()
    # From 0 where the curves come near it: elsewhere that would only flatten them.
    if (metric in ("loss", "learning_rate") or in_percent(metric)) and low < 0.3 * high:
        axes.set_ylim(bottom=0.0)
    two_kinds = any(training and validation for training, validation in curves)
    _legend(axes, two_kinds)


def _title(metric: str) -> str:
    return {"f1": "F1", "entity_f1": "Entity F1", "learning_rate": "Effective learning rate"}.get(
        metric, words(metric).capitalize()
    )


def _rate_axis(axes: Any) -> None:
    """Put the power of ten into the label: above the axis it would push the title up."""
    from matplotlib.ticker import FuncFormatter

    power = math.floor(math.log10(max(axes.get_ylim()[1], 1e-30)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}"))
    axes.set_ylabel(f"learning rate ($10^{{{power}}}$ per step)")


def _perplexity_axis(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, two_kinds: bool) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    if two_kinds:
        handles.append(Line2D([], [], color="#777777", linewidth=2.0, marker="o", markersize=5))
        handles.append(Line2D([], [], color="#777777", linewidth=0.9, alpha=0.6))
        labels += ["validation", "training"]
    if handles:
        axes.legend(handles, labels)
