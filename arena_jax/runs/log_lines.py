"""A run told in lines of text, from its records alone: what was derived, each interval, each score, and the end."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arena_jax.config.scores import SCORES
from arena_jax.runs import competition_lines, divergence_lines
from arena_jax.runs.columns import columns
from arena_jax.runs.speed_lines import speed_lines

WIDTH = 100
# The first of these that a model reports stands in the score column.
SCORE_COLUMN = ("f1", "entity_f1", "perplexity", "bits_per_byte", "accuracy", "loss")
_HEADINGS = {
    "f1": "F1 %",
    "entity_f1": "F1 %",
    "accuracy": "acc %",
    "perplexity": "ppl",
    "bits_per_byte": "bits/B",
    "loss": "",
}
# What stands beside the loss, in training and evaluation lines alike.
_EXTRA_METRIC = {"language-model": "perplexity"}
# A column heading is repeated after so many lines, about a screen.
_HEADING_EVERY = 40
_GAP = "   "
_SPEED = "Σ ex/s"  # of all models together; in the table at the end each has its own

Record = Mapping[str, Any]


class Narrator:
    """Turns records into lines, one record at a time; what it says depends on the records alone.

    Example:
        >>> narrator = Narrator()
        >>> narrator({"kind": "compile", "step": 0, "time": 0.0, "program": "step", "seconds": 6.21, "bytes": 84e6})
        ['compiled step in 6.2 s; it uses 84 MB per device']
    """

    def __init__(self) -> None:
        self.start: Record = {}
        self.records: list[Record] = []
        self._origin: Record | None = None
        self._fraction = 0.0  # of the run that is over, as its last record said
        self._layout: tuple[str, ...] = ()
        self._since_heading = 0
        self._best: dict[str, float] = {}
        self._tell = {
            "start": self._start,
            "resume": self._resume,
            "note": self._note,
            "resize": self._note,
            "race": self._note,
            "trouble": lambda record: _wrapped(record, "  ! "),
            "compile": self._compile,
            "train": self._train,
            "evaluation": self._evaluation,
            "allocation": self._allocation,
            "swap": lambda record: [competition_lines.swap_line(record)],
            "calibration": lambda record: [competition_lines.calibration_line(record)] if record["raised"] else [],
            "lineage": competition_lines.lineage_lines,
            "leaderboard": self._leaderboard,
            "end": self._end,
        }

    def __call__(self, record: Record) -> list[str]:
        """Return the lines that tell this record."""
        self._fraction = record.get("fraction", self._fraction)
        tell = self._tell.get(record["kind"])
        self.records.append(record)
        return tell(record) if tell else []

    def forget_clock(self) -> None:
        """Note that time passed outside the run: the time left is reckoned from the next record."""
        self._origin = None

    def _reckon_from(self, record: Record) -> None:
        """Reckon the time left from this record on."""
        self._origin = {"fraction": self._fraction, **record}

    def _start(self, record: Record) -> list[str]:
        self.start = record
        self._reckon_from(record)
        title = " · ".join(str(record[name]) for name in ("preset", "task", "run") if record.get(name))
        version = record.get("versions", {}).get("arena-jax", "")
        lines = [f"arena-jax {version} · {title}".replace("  ", " ")]
        models = [(short(name), *_model_words(about)) for name, about in record.get("models", {}).items()]
        lines += columns([("model", "parameters", "size", "vocabulary"), *models], right=(1,)) if models else []
        derived = [(d["name"], str(d["value"]), str(d.get("reason", ""))) for d in record.get("derived", [])]
        return [*lines, *([""] if models else []), *columns(derived), ""]

    def _resume(self, record: Record) -> list[str]:
        # A new terminal has not seen the heading.
        self._reckon_from(record)
        self._since_heading = _HEADING_EVERY
        end = next((r for r in self.records if r["kind"] == "end"), {})
        if end.get("reason") == "no gain":
            return [
                f"nothing is left to do: it ended after step {end['step']:,} without a gain",
                *summary(self.records),
            ]
        if record["step"] >= (self.start.get("steps") or math.inf) or self._fraction >= 1:
            return [f"nothing is left to do: all {record['step']:,} steps were taken", *summary(self.records)]
        return [f"resumed at step {record['step']:,} from {record.get('checkpoint', 'the last checkpoint')}"]

    def _note(self, record: Record) -> list[str]:
        return _wrapped(record, "  · ")

    def _compile(self, record: Record) -> list[str]:
        self._reckon_from(record)
        uses = f"; it uses {record['bytes'] / 1e6:,.0f} MB per device" if record.get("bytes") else ""
        did = "took from the cache:" if record.get("cached") else "compiled"
        return [f"{did} {record.get('program', 'a program')} in {record['seconds']:.1f} s{uses}"]

    def _train(self, record: Record) -> list[str]:
        left = self._time_left(record)
        if self._origin is None:
            self._reckon_from(record)
        speeds = [m.get("examples_per_second") for m in record["models"].values()]
        speed = record.get("examples_per_second") or sum(s for s in speeds if s)
        cells = {
            name: (number(m.get("loss"), 6), score_text(m, self._score(record), 5), rate(m.get("learning_rate")))
            for name, m in record["models"].items()
        }
        rows = self._rows(record, cells, f"{speed:,.0f}" if speed else "", left)
        return [*rows, *divergence_lines.skipped(record)]

    def _evaluation(self, record: Record) -> list[str]:
        cells: dict[str, tuple[str, str, str]] = {}
        others: dict[str, list[str]] = {}
        main_metric = self._score(record)
        for name, metrics in record["models"].items():
            score = score_of(metrics)
            best = self._improved(name, metrics.get(score), score)
            mark = "best" if best else ""
            cells[name] = (number(metrics.get("loss"), 6), score_text(metrics, main_metric, 5), mark)
            for metric, value in metrics.items():
                if metric not in ("loss", main_metric) and isinstance(value, int | float):
                    about = self.start.get("models", {}).get(name, {})
                    mark = competition_lines.bits_mark(about) if metric == "bits_per_byte" else ""
                    others.setdefault(metric, []).append(f"{name} {mark}{score_text(metrics, metric)}")
        rows = self._rows(record, cells, "", record.get("split", "validation"))
        rows += [f"{'':16}{words(metric)}: {' · '.join(scores)}" for metric, scores in others.items()]
        if "averages" in record:
            averages = [
                f"{name} {number(metrics.get('loss'), 6)} {score_text(metrics, main_metric)}"
                for name, metrics in record["averages"].items()
            ]
            rows.append(f"{'':16}of averages: {' · '.join(averages)}")
        return rows

    def _end(self, record: Record) -> list[str]:
        return ["", *summary(self.records)]

    def _allocation(self, record: Record) -> list[str]:
        # The time left is reckoned from here: steps cost what the shares make them cost.
        self._reckon_from(record)
        self._since_heading = _HEADING_EVERY
        rows, domains = competition_lines.allocation_rows(record), competition_lines.domain_rows(record)
        below = ["", *columns(domains, right=range(len(domains[0]) - 1))] if domains else []
        return ["", *columns(rows, right=range(5)), *below, ""]

    def _leaderboard(self, record: Record) -> list[str]:
        about = self.start.get("models", {})
        rows = competition_lines.leaderboard_rows(record, about)
        table = columns(rows, right=range(len(rows[0]) - 1), rule=True)
        note = competition_lines.bits_note(about) if "bits/byte" in rows[0] else ""
        result = [competition_lines.winner_line(record), *competition_lines.objective_lines(record)]
        result += competition_lines.specialization_lines(record)
        return ["", *table, *textwrap.wrap(note, WIDTH, subsequent_indent="  "), *result]

    def _improved(self, name: str, value: Any, score: str) -> bool:
        if not isinstance(value, int | float) or math.isnan(value):
            return False
        signed = SCORES[score].sign * value
        if signed <= self._best.get(name, -math.inf):
            return False
        self._best[name] = signed
        return True

    def _score(self, record: Record) -> str:
        """Name the metric in the score column: the same one for training and evaluation lines."""
        reported = set().union(*[set(metrics) for metrics in record["models"].values()])
        if self.start.get("task") in _EXTRA_METRIC:
            return _EXTRA_METRIC[self.start["task"]]
        column = self._layout[-1] if self._layout else ""
        return column if column in reported else next((score for score in SCORE_COLUMN if score in reported), "loss")

    def _time_left(self, record: Record) -> str:
        origin, steps = self._origin, self.start.get("steps")
        if origin is None or not (steps or "fraction" in record):
            return ""
        if "fraction" in record:
            before, now, whole = origin["fraction"], record["fraction"], 1.0
        else:
            before, now, whole = origin["step"], record["step"], steps or 0
        return duration((record["time"] - origin["time"]) / (now - before) * (whole - now)) if now > before else ""

    def _rows(self, record: Record, cells: dict[str, tuple[str, str, str]], speed: str, left: str) -> list[str]:
        names = tuple(cells)
        score = self._score(record)
        wide = 13 + len(names) * (len(_GAP) + 20) + 15 <= WIDTH
        lines = []
        if self._layout != (*names, score) or self._since_heading >= _HEADING_EVERY:
            lines = _heading(names, score, wide)
            self._layout, self._since_heading = (*names, score), 0
        self._since_heading += 1
        head = f"{record['step']:>7,} {record.get('epoch', 0):>5.2f}"
        tail = f"{speed:>8}{left:>7}" if speed else f"{left:>15}"
        texts = {name: f"{loss:>6} {value:>5} {last:>7}" for name, (loss, value, last) in cells.items()}
        if wide:
            return [*lines, (head + "".join(_GAP + text for text in texts.values()) + tail).rstrip()]
        longest = max(map(len, names))
        first, *rest = [f"{name:{longest}}{_GAP}{text}" for name, text in texts.items()]
        return [*lines, f"{head}{_GAP}{first}{tail}".rstrip(), *[f"{'':13}{_GAP}{text}".rstrip() for text in rest]]


def _wrapped(record: Record, mark: str) -> list[str]:
    return textwrap.wrap(
        str(record.get("text", "")),
        WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def narrate(records: Iterable[Record]) -> str:
    """The lines of a whole run: what the terminal showed, or would have."""
    narrator = Narrator()
    return "\n".join(line for record in records for line in narrator(record))


def summary(records: Sequence[Record]) -> list[str]:
    """The lines at the end of a run: a row per model, where the time went, and where everything is.

    Args:
        records: all records of the run.

    Returns:
        Lines of text.
    """
    start = next((r for r in records if r["kind"] == "start"), {})
    end = next((r for r in reversed(records) if r["kind"] == "end"), {})
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    trains = [r for r in records if r["kind"] == "train"]
    heading, *rows = model_rows(records)
    names = list(start.get("models") or (evaluations or trains or [{"models": {}}])[-1]["models"])
    lines = columns([heading, *rows], right=range(1, len(heading)), rule=True) if rows else []
    divergence = divergence_lines.totals(records)
    lines += ["", *divergence] if divergence else []
    compiling = end.get("compiling", 0)
    evaluating = sum(r.get("seconds", 0) for r in evaluations)
    if end:
        seconds = end.get("seconds", 0)
        reason = end.get("reason", "finished")
        how = (
            f"ended without a gain in {evaluations[-1]['without_gain']} evaluations," if reason == "no gain" else reason
        )
        lines += ["", f"{how} after {end['step']:,} steps in {duration(seconds)}:"]
        new_sizes = [r for r in records if r["kind"] == "compile" and r["program"].startswith("gradients of ")]
        beside = sum(r["seconds"] for r in new_sizes if r["step"] > 0)
        lines[-1] += f" compiling {compiling:.1f} s" + (f" ({beside:.1f} s of it beside training)" if beside else "")
        lines[-1] += f", evaluating {evaluating:.1f} s"
        lines[-1] += f", training and the rest {max(0, seconds - (compiling - beside) - evaluating):.1f} s"
        lines += speed_lines(trains)
    run = start.get("run")
    if run and end.get("reason", "finished") in ("finished", "no gain"):
        lines.append(f"all of it is in {run}; take a model out: arena-jax export {run} {[*names, 'MODEL'][0]} FOLDER")
    elif run:
        lines.append(f"all of it is in {run}; go on where it stopped: arena-jax resume {run}")
    return lines


def model_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Last losses, last and best score and speed of each model of a run, a row per model and one of headings before.

    Example:
        >>> model_rows([{"kind": "evaluation", "step": 4, "models": {"bert": {"loss": 0.25, "accuracy": 0.9}}}])[1]
        ('bert', '', '0.250', '90.0 %', '90.0 %', '4', '')
    """
    start = next((r for r in records if r["kind"] == "start"), {})
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    trains = [r for r in records if r["kind"] == "train"]
    names = list(start.get("models") or (evaluations or trains or [{"models": {}}])[-1]["models"])
    scores = {score_of(r["models"][name]) for r in evaluations[-1:] for name in names if name in r["models"]}
    score = words(scores.pop()) if len(scores) == 1 else "score"
    heading = ("model", "train loss", "valid loss", f"last {score}", f"best {score}", "at step", "own ex/s")
    return [heading, *((short(name), *_summary_row(name, evaluations, trains)) for name in names)]


def scores_table(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lay out scores, a row per model and a column per metric.

    Example:
        >>> scores_table({"bert": {"loss": 0.25, "accuracy": 0.9}})[-1].split()
        ['bert', '0.250', '90.0', '%']
    """
    metrics = list(dict.fromkeys(metric for row in scores.values() for metric in row))
    rows = [(short(name), *[score_text(row, metric) for metric in metrics]) for name, row in scores.items()]
    return columns([("model", *map(words, metrics)), *rows], right=range(1, len(metrics) + 1), rule=True)


def _summary_row(name: str, evaluations: Sequence[Record], trains: Sequence[Record]) -> tuple[str, ...]:
    scored = [(r["step"], r["models"][name]) for r in evaluations if name in r["models"]]
    trained = [r["models"][name] for r in trains if name in r["models"]]
    loss = number(trained[-1].get("loss"), 6) if trained else ""
    speeds = [m["examples_per_second"] for m in trained if m.get("examples_per_second")]
    # The median: the first interval also warms the machine up.
    speed = f"{statistics.median(speeds):,.0f}" if speeds else ""
    if not scored:
        return (loss, "", "", "", "", speed)
    score = score_of(scored[-1][1])
    sign = SCORES[score].sign
    finite = [(step, m) for step, m in scored if isinstance(m.get(score), int | float) and not math.isnan(m[score])]
    best: tuple[int, Record] = max(finite, key=lambda pair: sign * pair[1][score], default=(0, {}))
    last = scored[-1][1]
    at = f"{best[0]:,}" if finite else ""
    return (loss, number(last.get("loss"), 6), score_text(last, score), score_text(best[1], score), at, speed)


def score_of(metrics: Mapping[str, Any]) -> str:
    """Name the metric by which a model is judged: the first of `SCORE_COLUMN` that it reports."""
    return next((score for score in SCORE_COLUMN if score in metrics), "loss")


def short(name: str) -> str:
    """Cut a model's name to the 20 characters that a table has room for."""
    return name if len(name) <= 20 else name[:19] + "…"


def words(metric: str) -> str:
    """A metric's name as people write it."""
    return {"bits_per_byte": "bits/byte"}.get(metric, metric.replace("_", " ").replace("f1", "F1"))


def score_text(metrics: Mapping[str, Any], score: str, width: int = 0) -> str:
    """Write a score: shares as percent (with the sign where there is no heading for it), others as numbers.

    Example:
        >>> score_text({"accuracy": 0.9125}, "accuracy"), score_text({"perplexity": 31.416}, "perplexity", 5)
        ('91.2 %', '31.42')
    """
    value = metrics.get(score)
    if value is None and score == "perplexity" and isinstance(metrics.get("loss"), int | float):
        value = math.exp(min(metrics["loss"], 700.0))
    if not isinstance(value, int | float):
        return ""
    if score in SCORES and SCORES[score].percent and math.isfinite(value):
        return f"{100 * value:.1f}" + ("" if width else " %")
    return number(value, width or 5)


def number(value: Any, width: int) -> str:
    """Write a number in at most `width` characters, with as many digits as fit, at most 3 after the point.

    Example:
        >>> number(0.69314, 5), number(31.4159, 5), number(123456.0, 5), number(float("nan"), 5)
        ('0.693', '31.42', '1e+05', 'nan')
    """
    if not isinstance(value, int | float):
        return ""
    for digits in (3, 2, 1, 0):
        text = f"{value:.{digits}f}"
        if len(text) <= width:
            return text
    return f"{value:.0e}"


def rate(value: Any) -> str:
    """Write a learning rate in 7 characters.

    Example:
        >>> rate(0.00098)
        '9.80e-4'
    """
    if not isinstance(value, int | float):
        return ""
    return f"{value:.2e}".replace("e-0", "e-").replace("e+00", "e0") if value else "0"


def duration(seconds: float) -> str:
    """Write a time span.

    Example:
        >>> duration(9.21), duration(75), duration(4000), duration(200_000)
        ('0:09', '1:15', '1:06:40', '55 h')
    """
    whole = max(0, round(seconds))
    if whole >= 100_000:
        return f"{whole // 3600} h"
    minutes = f"{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return (f"{whole // 3600}:" if whole >= 3600 else "") + f"{minutes}:{whole % 60:02d}"


def _model_words(about: Mapping[str, Any]) -> tuple[str, str, str]:
    parameters = f"{about['parameters']:,}" if "parameters" in about else ""
    return parameters, str(about.get("size", "")), str(about.get("vocabulary", ""))


def _heading(names: Sequence[str], score: str, wide: bool) -> list[str]:
    headings = f"{'loss':>6} {_HEADINGS[score]:>5} {'rate':>7}"
    if wide:
        # Over each model's columns stands its name, the same width as they.
        over = "".join(_GAP + f" {name[:18]} ".center(20, "─") for name in names)
        return [f"{'':13}{over}", f"{'step':>7} epoch{(_GAP + headings) * len(names)}{_SPEED:>8}{'left':>7}"]
    longest = max(map(len, names))
    return [f"{'step':>7} epoch{_GAP}{'model':{longest}}{_GAP}{headings}{_SPEED:>8}{'left':>7}"]
