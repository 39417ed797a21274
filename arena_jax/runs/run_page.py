"""The page of a run, or of several: what it is, its curves, where its time goes, and commands that go on from it."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import competition_lines, document
from arena_jax.runs.curves import Record, cycle, label, metrics_in, model_names, series
from arena_jax.runs.document import Block, Chart, Heading, Items, Line, Listing, Paragraph, Table
from arena_jax.runs.folder import load_run
from arena_jax.runs.histograms import of_record
from arena_jax.runs.log_lines import duration, model_rows
from arena_jax.runs.records import FILE, read

PAGE = "report.html"
# Of training records, beside what is scored.
_MORE = ("gradient_norm", "examples_per_second", "share", "batch_size")


class RunFacts(NamedTuple):
    """A run as its page shows it.

    Attributes:
        folder: of the run.
        config: of the run.
        records: so far.
    """

    folder: Path
    config: RunConfig
    records: Sequence[Record]

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.records) and self.records[-1]["kind"] == "end"

    def of(self, kind: str) -> list[Record]:
        """The records of a kind."""
        return [record for record in self.records if record["kind"] == kind]


def read_facts(folder: Path) -> RunFacts:
    """A run's folder as it is now.

    Raises:
        ArenaError: it is none, or its records are damaged.
    """
    config = load_run(folder)
    return RunFacts(folder, config, read(folder) if (folder / FILE).exists() else [])


def write(runs: Sequence[RunFacts], path: Path) -> None:
    """Write the page of one run, or of several side by side, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(render(runs), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def render(runs: Sequence[RunFacts]) -> str:
    """The page as HTML that needs no other file."""
    return document.page(" · ".join(_names(runs)), compose(runs))


def compose(runs: Sequence[RunFacts]) -> list[Block]:
    """The blocks of the page.

    Args:
        runs: one, or several that are laid over one another.

    Raises:
        ArenaError: there is none.
    """
    if not runs:
        raise ArenaError("nothing to show: name the folder of a run")
    names = _names(runs)
    blocks: list[Block] = [
        Heading(" · ".join(names), 1),
        Items([_state(name, run) for name, run in zip(names, runs, strict=True)]),
        *_scores(names, runs),
        *_charts(names, runs),
        *_histograms(names, runs),
        *_seconds(names, runs),
    ]
    for name, run in zip(names, runs, strict=True):
        of_run = f" of {name}" if len(runs) > 1 else ""
        for board in run.of("leaderboard")[-1:]:
            about = run.of("start")[0]["models"]
            heading, *rows = competition_lines.leaderboard_rows(board, about)
            blocks += [Heading(f"Leaderboard{of_run}"), Table(heading, rows, 0)]
            note = competition_lines.bits_note(about)
            blocks += [Paragraph(note)] if note else []
        for record in run.of("allocation")[-1:]:
            rows = competition_lines.domain_rows(record)
            lines = [line for board in run.of("leaderboard") for line in competition_lines.specialization_lines(board)]
            blocks += [Heading(f"Domains{of_run}"), Table(rows[0], rows[1:], 0), Items(lines)] if rows else []
        if run.of("lineage"):
            heading, *rows = competition_lines.lineage_rows(run.of("lineage"))
            blocks += [Heading(f"Lineage{of_run}"), Table(heading, rows, 5)]
        texts = [
            f"step {record['step']:,}: {record['text']}"
            for record in (*run.of("note"), *run.of("resize"), *run.of("race"), *run.of("trouble"))
        ]
        blocks += [Heading(f"Notes and troubles{of_run}"), Items(texts)] if texts else []
        derived = [
            (d["name"], str(d["value"]), str(d["reason"])) for start in run.of("start") for d in start["derived"]
        ]
        if derived:
            blocks += [
                Heading(f"Values that were not simply given{of_run}"),
                Table(("name", "value", "why"), derived, 3),
            ]
    blocks += _configurations(names, runs)
    blocks += _environments(names, runs)
    blocks += [Heading("Commands"), Listing("\n".join(line for run in runs for line in _commands(run)))]
    return blocks


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """The runs by their folders' names, or by their paths where two have one name."""
    names = [run.folder.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _state(name: str, run: RunFacts) -> str:
    what = f"{name}: {run.config.preset}, {run.config.task}, seed {run.config.training.seed}"
    if not run.records:
        return f"{what}; nothing is recorded yet"
    step, last = run.records[-1]["step"], run.records[-1]
    total = next((start["steps"] for start in run.of("start")), None)
    unit = "rounds" if run.config.arena else "steps"
    length = f"{step:,}" if total is None else f"{step:,} of {total:,}"
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(last["time"]))
    ends = {"finished": "ended", "no gain": "ended without a further gain"}
    state = ends.get(last["reason"], last["reason"]) if run.over else "not at its end"
    return f"{what}; {length} {unit}, {state}; last record {when}"


def _scores(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    tables = [model_rows(run.records) for run in runs]
    if not any(len(table) > 1 for table in tables):
        return []
    blocks: list[Block] = [Heading("Scores")]
    headings = list(dict.fromkeys(table[0] for table in tables))
    for heading in headings:  # runs of different tasks have different scores
        rows = [
            (name, *row) for name, table in zip(names, tables, strict=True) if table[0] == heading for row in table[1:]
        ]
        blocks.append(Table(("run", *heading), rows, 2))
    return blocks


def _charts(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    drawn = [[r for r in run.records if r["kind"] in ("train", "evaluation")] for run in runs]
    models = list(dict.fromkeys(name for run in runs for name in model_names(run.records)))
    colours = dict(zip(models, cycle(len(models)), strict=True))
    reported = {m for records in drawn for r in records for of_model in r["models"].values() for m in of_model}
    metrics = dict.fromkeys(metric for records in drawn for metric in metrics_in(records))
    rounds = {"round" if run.config.arena else "step" for run in runs}
    charts: list[Block] = []
    for metric in (*metrics, *(metric for metric in _MORE if metric in reported)):
        lines: list[Line] = []
        for i, (name, records) in enumerate(zip(names, drawn, strict=True)):
            for model in models:
                title = f"{name} · {model}" if len(runs) > 1 else model
                for kind in ("evaluation", "train"):
                    x, y = series(records, model, metric, kind)
                    alone = kind == "train" and (not lines or lines[-1].name != f"{title}, validation")
                    which = "" if alone else ", training" if kind == "train" else ", validation"
                    if x:
                        lines.append(Line(title + which, x, y, colours[model], kind == "train" and not alone, i > 0))
        if lines:
            charts.append(Chart(label(metric), " or ".join(sorted(rounds)), lines, metric == "perplexity"))
    return [Heading("Curves"), *charts] if charts else []


def _histograms(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    """The last ones of each run, a chart for each model's gradients and one for its weights."""
    charts: list[Block] = []
    steps: list[str] = []
    for name, run in zip(names, runs, strict=True):
        record = next((record for record in reversed(run.of("train")) if record.get("histograms")), {})
        lines: dict[tuple[str, str], list[Line]] = {}
        for model, kind, part, histogram in of_record(record):
            drawn = lines.setdefault((model, kind), [])
            total = max(1, sum(histogram.counts))
            shares = [100 * count / total for count in histogram.counts]
            drawn.append(Line(part, histogram.centres.tolist(), shares, cycle(len(drawn) + 1)[-1]))
        for (model, kind), drawn in lines.items():
            title = f"{kind} of {f'{name} · ' if len(runs) > 1 else ''}{model} (% of a part's values)"
            charts.append(Chart(title, "value", drawn))
        steps += [f"{name}: step {record['step']:,}"] if record else []
    return [Heading("Histograms"), Items(steps), *charts] if charts else []


def _seconds(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    """Where the time went, in seconds."""
    rows = []
    for name, run in zip(names, runs, strict=True):
        compiles = run.of("compile")
        # A competition compiles new sizes while it trains.
        beside = sum(r["seconds"] for r in compiles if r["program"].startswith("gradients of ") and r["step"] > 0)
        parts = {
            "training": sum(r.get("seconds", 0.0) for r in run.of("train")),
            "compiling": sum(r["seconds"] for r in compiles) - beside,
            "evaluating": sum(r.get("seconds", 0.0) for r in run.of("evaluation")),
            "saving": sum(r["seconds"] for r in run.of("checkpoint")),
        }
        if run.over:
            whole = run.records[-1]["seconds"]
            parts["compiling"] = run.records[-1]["compiling"] - beside
        else:
            whole = sum(parts.values())
        parts["the rest"] = max(0.0, whole - sum(parts.values()))
        cells = [f"{seconds:.1f} s, {100 * seconds / whole:.0f} %" if whole else "" for seconds in parts.values()]
        rows.append((name, *cells, duration(whole)))
    header = ("run", "training", "compiling", "evaluating", "saving", "the rest", "in all")
    return [
        Heading("Where the time went"),
        Table(header, rows),
        Paragraph("Training is counted in whole log intervals, compiling where training waits for it."),
    ]


def _configurations(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    blocks: list[Block] = []
    if len(runs) > 1:
        others = [
            f"{names[0]} → {name}: {', '.join(configuration.differences(runs[0].config, run.config)) or 'the same'}"
            for name, run in zip(names[1:], runs[1:], strict=True)
        ]
        blocks += [Heading("Where their configurations differ"), Items(others)]
    of_first = f" of {names[0]}" if len(runs) > 1 else ""
    text = json.dumps(configuration.to_dict(runs[0].config), indent=1, ensure_ascii=False)
    return [*blocks, Heading(f"Configuration{of_first}"), Listing(text)]


def _environments(names: Sequence[str], runs: Sequence[RunFacts]) -> list[Block]:
    columns = [_environment(start) for run in runs for start in (run.of("start")[:1] or [{}])]
    fields = list(dict.fromkeys(field for column in columns for field in column))
    rows = [(field, *(column.get(field, "") for column in columns)) for field in fields]
    return [Heading("Environment"), Table(("", *names), rows, len(names) + 1)] if rows else []


def _environment(start: Mapping[str, Any]) -> dict[str, str]:
    if "versions" not in start:
        return {}
    devices = start["devices"]
    kinds = ", ".join(f"{devices.count(kind)} × {kind}" for kind in dict.fromkeys(devices))
    plain = {"commit": start["commit"] or "none", "platform": start["platform"], "devices": kinds}
    return {**start["versions"], **plain, "processes": str(start["processes"]), **start["flags"]}


def _commands(run: RunFacts) -> list[str]:
    folder = shlex.quote(str(run.folder))
    models = [shlex.quote(model.name) for model in run.config.models]
    return [
        *([] if run.over else [f"arena-jax resume {folder}"]),
        f"arena-jax evaluate {folder} --checkpoint best",
        *(f"arena-jax export {folder} {model} FOLDER" for model in models),
        f"arena-jax train --config {shlex.quote(str(run.folder / 'config.json'))}",
    ]
