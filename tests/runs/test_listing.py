"""Runs are listed as they are, and cleaning takes nothing that a run, or its resuming, needs."""

from __future__ import annotations

import dataclasses
import json
import signal

import jax.numpy as jnp
import pytest

from arena_jax import ArenaError
from arena_jax.cli.main import main
from arena_jax.config import presets
from arena_jax.runs import Session, Stopped, signals
from arena_jax.runs.cleaning import find_garbage, remove_garbage
from arena_jax.runs.listing import disk_use, list_runs
from arena_jax.runs.records import read

STEPS = 6


def count(folder, *, resume=False, interrupt=None, **training):
    """1 + 2 + … in a loop that a session keeps, with a checkpoint at each step; the third is the best."""
    run = presets.get("joint-synthetic")
    options = {"tensorboard": False, "keep_checkpoints": 4, **training}
    run = dataclasses.replace(run, training=dataclasses.replace(run.training, **options))
    with Session(run, folder, resume=resume) as session:
        state, _ = session.begin({"a": jnp.zeros(2)}, ("a",))
        session.record_start(steps=STEPS, models={}, derived=[])
        taken = session.first_step
        while taken < STEPS and not session.stop_requested(taken):
            if taken == interrupt:
                signal.raise_signal(signal.SIGINT)
            state["a"] += taken + 1
            taken += 1
            session.advance(taken)
            loss = 1.0 + abs(taken - 3)
            session.record_evaluation(taken, {"a": {"loss": loss}}, epoch=0.0, split="validation", seconds=0.0)
            session.save(taken, state, {}, over=taken == STEPS)
        if session.saved != taken:
            session.save(taken, state, {}, regular=False)
        session.finish(taken, STEPS, over=taken == STEPS)
        session.record_end(taken)
    return float(state["a"][0])


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with a run that has ended and one that was stopped; the present folder."""
    monkeypatch.chdir(tmp_path)
    count(tmp_path / "runs" / "whole")
    with pytest.raises(Stopped):
        count(tmp_path / "runs" / "part", interrupt=3)
    return tmp_path / "runs"


def steps(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_list_of_runs(runs, capsys):
    by_name = {summary.folder.name: summary for summary in list_runs(runs)}
    assert {name: (run.state, run.progress, run.loss) for name, run in by_name.items()} == {
        "whole": ("ended", "6 of 6", 4.0),
        "part": ("stopped", "4 of 6", 2.0),
    }
    assert by_name["whole"].task == presets.get("joint-synthetic").task
    assert by_name["whole"].disk == disk_use(runs / "whole") > 1000
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert "ended" in capsys.readouterr().out
    assert main(["runs", str(runs / "part"), "--json"]) == 0
    assert [run["state"] for run in json.loads(capsys.readouterr().out)] == ["stopped"]
    assert main(["runs", "nowhere"]) == 2


def test_a_run_at_work_is_listed_and_never_cleaned(runs, capsys):
    run = presets.get("joint-synthetic")
    run = dataclasses.replace(run, training=dataclasses.replace(run.training, tensorboard=False, keep_checkpoints=4))
    with Session(run, runs / "whole", resume=True):
        assert next(run for run in list_runs(runs) if run.folder.name == "whole").state == "running"
        with pytest.raises(ArenaError, match="is in use by"):
            remove_garbage(runs / "whole")
        capsys.readouterr()
        assert main(["clean", "--yes"]) == 0
        assert "whole is running: left as it is" in capsys.readouterr().out
        assert steps(runs / "whole") == ["3", "4", "5", "6"]


def test_cleaning_leaves_the_newest_and_the_best_and_what_a_resume_needs(runs, capsys):
    (runs / "part" / "checkpoints" / ".9.partial").mkdir()
    (runs / "part" / "checkpoints" / "2-damaged").mkdir()
    capsys.readouterr()
    assert main(["clean"]) == 0  # nobody is there to be asked
    assert "nothing was removed" in capsys.readouterr().out
    assert steps(runs / "whole") == ["3", "4", "5", "6"]
    assert main(["clean", "--yes"]) == 0
    assert steps(runs / "whole") == ["3", "6"]
    assert steps(runs / "part") == ["1", "2", "3", "4"]
    assert count(runs / "part", resume=True) == 21
    assert main(["clean", "runs", "--yes", "--last"]) == 0
    assert steps(runs / "whole") == steps(runs / "part") == []
    assert (runs / "whole" / "records.jsonl").exists()
    assert find_garbage(runs / "whole", last=True) == []


def test_a_link_out_of_a_run_is_not_followed(runs, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (runs / "whole" / "checkpoints" / "1").symlink_to(tmp_path / "precious")
    with pytest.raises(ArenaError, match="is a link out of the run's folder"):
        remove_garbage(runs / "whole", last=True)
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_a_time_limit_saves_and_stops_and_the_rest_is_the_same(tmp_path, monkeypatch, capsys):
    assert count(tmp_path / "whole", stop_after="1h") == 21
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr(signals.time, "perf_counter", lambda: float(next(clock)))
    with pytest.raises(Stopped, match=r"stopped after step \d of 6, as 2min are over; go on with") as stopped:
        count(tmp_path / "run", stop_after="2min")
    assert stopped.value.limit == "2min"
    assert 0 < stopped.value.step < STEPS
    monkeypatch.undo()
    assert count(tmp_path / "run", resume=True, stop_after="2min") == 21
    clocks = ("time", "seconds", "compiling", "run", "path")
    lines = [
        [{k: v for k, v in record.items() if k not in clocks} for record in read(tmp_path / name)]
        for name in ("whole", "run")
    ]
    assert lines[0] == lines[1]


def test_a_time_limit_is_a_length_of_time():
    with pytest.raises(ArenaError, match="'soon' is no length of time: write 90s, 10min or"):
        dataclasses.replace(presets.get("joint-synthetic").training, stop_after="soon")
