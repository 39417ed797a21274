"""Trackers hold what the records hold, also after a kill and a resume; each library's local store is read back."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import pytest

from arena_jax.cli.main import main
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.config.training import TRACKERS
from arena_jax.runs import Session, trackers
from arena_jax.runs.records import read
from arena_jax.runs.trackers import RunTracker

STEPS = 5


def configuration(*names):
    run = presets.get("joint-synthetic")
    return dataclasses.replace(
        run, training=dataclasses.replace(run.training, tensorboard="tensorboard" in names, figures=False, track=names)
    )


def a_run(folder, names, *, resume=False, kill=None):
    """Saved after step 2; killed after a later one, it takes that one again."""
    with Session(configuration(*names), folder, resume=resume) as session:
        state, _ = session.begin({"bert": jnp.zeros(2)}, ("bert",))
        session.record_start(steps=STEPS, models={"bert": {}}, derived=[])
        for step in range(session.first_step + 1, STEPS + 1):
            session.record("train", step, models={"bert": {"loss": math.nan if step == 2 else 1 / step}})
            session.record_evaluation(step, {"bert": {"loss": 2 / step, "accuracy": step / 8}}, split="validation")
            session.advance(step)
            if step == kill:
                raise RuntimeError("power cut")
            if step == 2 or step == STEPS:
                session.save(step, state, {}, over=step == STEPS)
                session.checkpoints.wait()
        session.finish(STEPS, STEPS, over=True)
        session.record_end(STEPS)
    return folder


EXPECTED = {
    "train_loss/bert": {step: 1 / step for step in (1, 3, 4, 5)},
    "validation_loss/bert": {step: 2 / step for step in range(1, 6)},
    "validation_accuracy/bert": {step: step / 8 for step in range(1, 6)},
}


class Notebook:
    """A library that keeps what it is sent."""

    sent: list = []  # noqa: RUF012 - of all of them together
    fails = False

    def __init__(self, folder, config, run):
        self.run = run or "first"
        Notebook.sent.append(("begin", run))

    def write(self, values, step, at):
        if self.fails:
            raise ConnectionError("no route to host\nsecond line")
        Notebook.sent.append((step, dict(values)))

    def close(self):
        Notebook.sent.append(("end", self.run))


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(trackers._LIBRARIES, "trackio", Notebook)
    monkeypatch.setattr(Notebook, "sent", [])
    return Notebook


def test_a_killed_run_goes_on_in_its_own_tracked_run_and_sends_nothing_twice(tmp_path, notebook):
    with pytest.raises(RuntimeError, match="power cut"):
        a_run(tmp_path / "run", ["trackio"], kill=3)
    a_run(tmp_path / "run", ["trackio"], resume=True)
    numbers: dict = {}
    for step, values in notebook.sent:
        for tag, value in values.items() if isinstance(values, dict) else ():
            assert step not in numbers.setdefault(tag, {})
            numbers[tag][step] = value
    assert numbers == EXPECTED
    assert [entry for entry in notebook.sent if not isinstance(entry[1], dict)] == [
        ("begin", None),
        ("end", "first"),
        ("begin", "first"),
        ("end", "first"),
    ]


def test_a_tracker_that_fails_is_named_once_and_stops_nothing(tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(notebook, "fails", True)
    run = a_run(tmp_path / "run", ["trackio"])
    texts = [record["text"] for record in read(run) if record["kind"] == "trouble"]
    assert texts == ["trackio is no longer written to (no route to host); the records go on"]


def test_what_is_not_installed_or_cannot_begin_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ArenaError, match=r"track names trackio, and trackio is not installed: pip install trackio"):
        RunTracker("trackio", tmp_path, configuration("trackio"))

    def refuse(*arguments):
        raise SystemExit("log in first")

    monkeypatch.setitem(trackers._LIBRARIES, "wandb", refuse)
    with pytest.raises(ArenaError, match="wandb cannot begin to track the run: log in first"):
        RunTracker("wandb", tmp_path, configuration("wandb"))
    assert main(["train", "joint-synthetic", "--track", "wand"]) == 2
    assert "did you mean 'wandb'?" in capsys.readouterr().err
    assert set(TRACKERS) == set(trackers._LIBRARIES)


def test_tensorboard_is_a_tracker_too(tmp_path):
    run = a_run(tmp_path / "run", ["tensorboard"])
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    with pytest.raises(ArenaError, match=r"tensorboard is off, and training\.track names tensorboard"):
        dataclasses.replace(presets.get("joint-synthetic").training, tensorboard=False, track=("tensorboard",))


def test_nothing_is_imported_that_is_not_asked_for():
    code = f"import sys; import arena_jax.runs.session; sys.exit(bool(set({TRACKERS!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def trackio_numbers(folder: Path, run: str) -> dict:
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    numbers: dict = {}
    for entry in storage.get_logs("arena-jax", run):
        for tag in set(entry) & set(EXPECTED):
            assert entry["step"] not in numbers.setdefault(tag, {})
            numbers[tag][entry["step"]] = entry[tag]
    return numbers


def log_entries(content: bytes) -> Iterator[bytes]:
    """The entries of a log of LevelDB's format, behind the 7 bytes that wandb's files begin with; small ones alone."""
    assert content[:4] == b":W&B"
    assert len(content) < 32768, "more than a block"
    at = 7
    while at + 7 <= len(content):
        length, kind = struct.unpack_from("<4xHB", content, at)
        assert kind == 1, "an entry in parts"
        if at + 7 + length > len(content):
            return  # it is being written
        yield content[at + 7 : at + 7 + length]
        at += 7 + length


def wandb_numbers(folder: Path, run: str) -> dict:
    from wandb.proto import wandb_internal_pb2

    numbers: dict = {}
    files = sorted((folder.parent / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
    assert len(files) == 2, "one of each session, with one id"
    for file in files:
        records, deadline = [], time.monotonic() + 30
        while not any(record.HasField("exit") for record in records):  # its own process writes on after `finish`
            assert time.monotonic() < deadline
            records = [wandb_internal_pb2.Record.FromString(data) for data in log_entries(file.read_bytes())]
            time.sleep(0.05)
        for record in records:
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            for tag in set(items) & set(EXPECTED):
                step = record.history.step.num
                assert step not in numbers.setdefault(tag, {})
                numbers[tag][step] = json.loads(items[tag])
    return numbers


def mlflow_numbers(folder: Path, run: str) -> dict:
    from mlflow import MlflowClient

    client = MlflowClient()
    info = client.get_run(run)
    assert info.info.status == "FINISHED"
    assert info.data.params["training.seed"] == "0"
    numbers = {}
    for tag in EXPECTED:
        history = client.get_metric_history(run, tag)
        numbers[tag] = {metric.step: metric.value for metric in history}
        assert len(numbers[tag]) == len(history)
    return numbers


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", TRACKERS)
def test_the_librarys_own_store_holds_the_numbers_after_a_kill_and_a_resume(name, tmp_path, monkeypatch):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    if name == "mlflow":
        pytest.importorskip("sqlalchemy", reason="mlflow keeps its runs in SQL: pip install sqlalchemy")
    for variable, value in {
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_CONFIG_DIR": str(tmp_path / "settings"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        a_run(run, [name], kill=3)
    a_run(run, [name], resume=True)
    tracked = json.loads((run / trackers.FILE).read_text())[name]["run"]
    numbers = {"trackio": trackio_numbers, "wandb": wandb_numbers, "mlflow": mlflow_numbers}[name](run, tracked)
    assert numbers == {tag: pytest.approx(values) for tag, values in EXPECTED.items()}
