"""What a run writes down: one JSON line per event, and the same numbers as TensorBoard events.

Every record has ``kind``, ``step`` and ``time`` (seconds since 1970). The kinds, and what else they hold:

=========== =========================================================================================================
start       preset, task, run (folder), steps (in all; null where that is not known before), models {name: {"size",
            "parameters", "vocabulary", "family", "task", "left_out" (of texts, by its tokenizer), "start" (of those
            that began with what others know: "from", "parts", "matched" tokens, "seconds")}}, derived [{"name",
            "value", "reason"}], relay ("leader"; and what was spent before the first step, on it alone and on a race:
            "steps", "seconds", "compile_seconds"; "race" {name: {"progress", "speed" (progress per second), "steps",
            "seconds", "compile_seconds"}}), versions, commit, platform, devices, processes, flags, settings
resume      checkpoint; printed, not recorded: the records are those of a run that was never interrupted
note        text: something a person should know, e.g. how many examples were cut
resize      of a model whose shape changes: model, text, before (parameters), about (what it is now, as in start),
            moments ("carried over", or "from 0" where the optimizer's cannot follow), seconds
race        of a model against its children: model, text, gradients {part: norm over that of its parameters}, contenders
            [{"change", "steps", "flops", "score"}], winner (its change), parameters [before, after], seconds
compile     program, seconds, bytes (of the program, per device), cached (there already, on disk or in this process)
train       epoch, seconds (of training, since the last), steps (in them), models {name: {"loss", "accuracy" or
            "perplexity", "learning_rate", "gradient_norm", "examples_per_second", "skipped" (steps left out), and of
            students "divergence" (from their teachers, T² KL)}};
            of joint training also tokens_per_second (of all models, without padding), mfu (part of the devices' peak
            that matrix products took, forward and backward) and peak (operations per second), where that is known
            and histograms {model: {"gradients" and "weights": {part: {"low", "high", "counts" (of bins of one width
            between these), "nonfinite"}}}}, where they are asked for
evaluation  epoch, split, seconds, models {name: {metric: value}}, score (the models' mean of training.score; of a
            competition with another objective than "mean" its value by that, in the same unit), without_gain
            (evaluations in a row, up to this, without a better one); weights {name: weight} where they follow
            validation; teachers [name] from now on, where models teach;
            averages {name: {metric: value}} of parameters over steps, where they are kept
checkpoint  path, seconds (that training waited for it; the rest is done in the background)
trouble     what ("checkpoint", "damaged", "records", "page", "mirror", "non-finite", "out of memory"), text, and what
            belongs to it (model, action, checkpoint, …): something went wrong, and the run goes on
allocation  of a competition, whose steps are rounds: fraction (of the run that is over), budget, resident (bytes per
            device), code (bytes per device of programs that are alive and not in force), models {name: {"share",
            "progress", "steps" (per round), "allowed" (bytes), "batch_size", "accumulation", "memory" (bytes),
            "executables", "evicted", "noise_scale" (examples; where it was measured)}}, domains {domain: {name: share}}
            where there are several; train records then also hold
            fraction and for each model "share", "batch_size" and its account (steps, examples, tokens, padding,
            text_bytes, flops (of matrix products), seconds, and of these two evaluation_flops, evaluation_seconds);
            evaluation records fraction, shares {name: share}, accounts {name: account} and judgement {"objective",
            "score" (the metric), "value" (by the objective, more being better), "errors" {name: standard error of its
            score}; for the ensemble also "ensemble" {"loss", "error", "weights"}, for pareto "costs" {name: cost} and
            "front" [name]}, and domains {domain: {name: {metric: value}}} where there are several
swap        model, before, batch_size, accumulation, memory, executables, evicted, waited (seconds), late (rounds),
            reason
calibration of a competition on a GPU (none has run one yet), a batch size's first run: model, size, estimated and
            measured (bytes per device), margin (part added to the model's estimates from now on), raised (whether it
            was less before)
lineage     of a competition, at a reallocation: how ("distillation" or "crossover"), parents [name], models {name: of
            those that learnt "steps", "loss" (of their labels) and "divergence" (T² KL), means over the lesson; of the
            one whose place was at stake "before" and "loss" (of it and of the mixture), "taken" (whether it gave
            way)}; of crossover also barrier and losses (at equal distances between the parents), in nats
leaderboard winner, efficiency, what the last judgement holds but for errors (objective, score, value; ensemble; costs,
            front), target, reached (whether a model has it), models {name: {"place", "score", "error" (standard),
            "baseline", "progress", "share", "mean_share", "bits_per_byte", and the account}}, the best first;
            specialization {"value", "p", "mean", "exchanges", "exact"} where there are several domains
end         epoch, seconds (of all sessions), compiling (of these, what a resumed run had to make again at once
            included, which has no compile record), reason ("finished"; "no gain" where evaluations ended it); of a
            competition also deferred (batch sizes that came later than planned, or not at all, as programs were still
            compiled)
=========== =========================================================================================================
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.histograms import Histogram, of_record
from arena_jax.runs.tensorboard import Events, write_all
from arena_jax.runs.trackers import RunTracker, open_trackers
from arena_jax.runtime import processes

FILE = "records.jsonl"
# JSON has no such numbers; these texts stand for them in the file and are turned back by `read`.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Records:
    """The records of one run, open for writing. Each line is on its way to the disk when `write` returns.

    On a full disk lines wait in memory, and are written, in order, as soon as there is room: training goes on, and the
    file never holds a part of a line.

    Args:
        folder: the run's folder; it must exist.
        resume_at: go on where a checkpoint was taken: the `position` at that moment. What was written after it is cut
            off, because it is about to happen again.
        tensorboard: write TensorBoard events too, into ``folder/tensorboard``.
        trackers: that get the numbers of the events, too.

    Raises:
        ArenaError: the folder cannot be written, already holds records, or has lost some that the checkpoint saw.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Records(folder, tensorboard=False) as records:
        ...     _ = records.write("train", 1, epoch=0.1, models={"bert": {"loss": 0.7}})
        >>> [(record["kind"], record["models"]["bert"]["loss"]) for record in read(folder)]
        [('train', 0.7)]
    """

    def __init__(
        self,
        folder: str | Path,
        resume_at: int | None = None,
        *,
        tensorboard: bool = True,
        trackers: Sequence[RunTracker] = (),
    ) -> None:
        self.path = Path(folder) / FILE
        try:
            # Unbuffered: Python's buffer would keep what a full disk refused, and write it a second time.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - it stays open as long as the run
        except OSError as error:
            raise ArenaError(f"cannot write records to {self.path}: {error.strerror or error}") from error
        size = self._file.tell()
        try:
            self._check(size, resume_at)
        except ArenaError:
            self._file.close()
            raise
        if resume_at is not None:
            self._file.truncate(resume_at)
            self._file.seek(0, os.SEEK_END)
        self._size = self._file.tell()
        self._waiting: list[bytes] = []
        self._failure: str | None = None
        self._sinks: list[Events | RunTracker] = [*trackers]
        if tensorboard:
            self._sinks.append(self._open_events(resume_at))

    def _check(self, size: int, resume_at: int | None) -> None:
        if resume_at is None:
            if size:
                raise ArenaError(f"{self.path} already holds a run: resume it, or give another --output")
            return
        if not 0 <= resume_at <= size:
            raise ArenaError(
                f"{self.path} has {size} bytes, the checkpoint was taken at {resume_at}: records are lost;"
                " put the whole file back"
            )
        if resume_at:
            with open(self.path, "rb") as file:
                file.seek(resume_at - 1)
                if file.read(1) != b"\n":
                    raise ArenaError(
                        f"{self.path} does not end a line at byte {resume_at}: put the run's own file back"
                    )

    def _open_events(self, resume_at: int | None) -> Events:
        purge = None
        if resume_at:
            steps = [record["step"] for record in read(self.path.parent)]
            # TensorBoard drops what it has read from this step on: those steps are taken again.
            purge = max(steps, default=0) + 1
        return Events(self.path.parent / "tensorboard", purge)

    @property
    def position(self) -> int:
        """How many bytes are written; kept in a checkpoint and given back as `resume_at`."""
        return self._size

    @property
    def waiting(self) -> int:
        """How many lines the disk has refused so far; with some waiting there is no `position` to keep."""
        return len(self._waiting)

    def trouble(self) -> str | None:
        """The reason, returned once, why lines are waiting or events are dropped; None where all is well."""
        reason, self._failure = self._failure, None
        for sink in self._sinks:
            if reason is None:
                reason, sink.trouble = sink.trouble, None
        return reason

    def sync(self) -> None:
        """Wait until the lines are on the disk: a checkpoint must not outlive the records it counts on."""
        os.fsync(self._file.fileno())

    def write(self, kind: str, step: int, **fields: Any) -> dict[str, Any]:
        """Append one record.

        Args:
            kind: what happened; see the table above.
            step: updates taken so far.
            **fields: what belongs to it: numbers (arrays of one number too), texts, lists and dictionaries of them.

        Returns:
            The record as `read` will return it.
        """
        record = {"kind": kind, "step": int(step), "time": round(time.time(), 3), **_plain(fields)}
        line = json.dumps(encode(record), allow_nan=False, ensure_ascii=False) + "\n"
        self._waiting.append(line.encode("utf-8", "backslashreplace"))
        self._flush()
        if self._sinks:
            self._write_events(record)
        return record

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        try:
            write_all(self._file, data, self._size)
        except OSError as error:
            if len(self._waiting) == 1:
                reason = error.strerror or str(error)
                self._failure = f"records cannot be written ({reason}); they wait in memory until there is room"
            return
        self._size += len(data)
        self._waiting.clear()

    def _write_events(self, record: Mapping[str, Any]) -> None:
        prefix = {"train": "train", "evaluation": record.get("split", "validation")}.get(record["kind"])
        models = record.get("models", {})
        if prefix is None or not isinstance(models, dict):
            return
        # Trackers draw no gap for NaN; the JSON lines keep it.
        values: dict[str, float | Histogram] = {
            f"{prefix}_{metric}/{model}": value
            for model, metrics in models.items()
            for metric, value in metrics.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        values |= {f"train_{kind}/{model}/{part}": histogram for model, kind, part, histogram in of_record(record)}
        for sink in self._sinks:
            sink.write(values, record["step"], record["time"])

    def close(self) -> None:
        """Close the files; nothing more can be written."""
        if self._waiting:
            self._flush()
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Silence:
    """Records that are not written: those of every process but the first."""

    position = waiting = 0

    def sync(self) -> None:
        """Nothing is on its way to a disk."""

    def trouble(self) -> None:
        """Nothing can go wrong."""

    def write(self, kind: str, step: int, **fields: Any) -> dict[str, Any]:
        """Return a record that nobody reads."""
        return {"kind": kind, "step": step, **fields}

    def close(self) -> None:
        """There is nothing to close."""


def open_records(folder: Path, resume_at: int | None, config: RunConfig) -> Records | Silence:
    """The records of a run on process 0, which all others hear of; silence on those."""
    opened: list[Records] = []

    def begin() -> None:
        trackers, training = open_trackers(folder, config), config.training
        tensorboard = training.tensorboard or "tensorboard" in training.track
        opened.append(Records(folder, resume_at, tensorboard=tensorboard, trackers=trackers))

    processes.on_first(begin)
    return opened[0] if opened else Silence()


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Read the records of a run.

    A last line without its end was being written when the run was killed; it is left out.

    Args:
        folder: the run's folder, or the file itself.

    Returns:
        The records in the order in which they were written.

    Raises:
        ArenaError: there are none, or a line is damaged (with its number).
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ArenaError(f"cannot read the records {path}: {error.strerror or error}") from error
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str) or not _whole(record.get("step")):
            raise ArenaError(f"{path}, line {number} is not a record: the file is damaged")
        records.append(decode(record))
    return records


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Arrays of one number to numbers, other arrays and tuples to lists."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ArenaError(f"a record cannot hold {value!r}, a {type(value).__name__}; give numbers, texts, lists")


def encode(value: Any) -> Any:
    """Numbers that JSON does not have as texts, anywhere in dictionaries and lists; `decode` turns them back."""
    if isinstance(value, dict):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [encode(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def decode(value: Any) -> Any:
    """What `encode` was given."""
    if isinstance(value, dict):
        return {name: decode(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [decode(inner) for inner in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
