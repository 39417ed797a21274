"""One cell of a study: trained by the functions that train any run, and reduced to its record."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from arena_jax.compare import functions
from arena_jax.compare.curve import curve, outcome_of, relay
from arena_jax.compare.plan import Arm, Outcome
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.records import FILE, read
from arena_jax.runs.signals import Stopped
from arena_jax.runtime.program_cache import without_compilation_cache


def run_cell(arm: Arm, config: RunConfig, outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Train one cell.

    Args:
        arm: of the plan.
        config: of the run, with its seed.
        outcome: what it is measured by.
        folder: of the cell; the run's folder ``run`` in it is made anew, or gone on with where it was stopped and
            nothing is measured in seconds.

    Returns:
        ``status``: "finished", "diverged" (its numbers were not finite, and it could not go on) or "failed" (something
        else went wrong: ``error`` says what); ``outcome``, ``steps``, ``seconds`` (device-seconds of training),
        ``compile_seconds``, ``wall`` (seconds on the clock), ``bytes`` (that the run took on disk), ``curve``,
        ``machine`` and ``device``.

    Raises:
        ArenaError: it could not begin: data that are not there, parts of a model that do not exist.
        Stopped: Ctrl-C or SIGTERM came; what was trained is saved in the folder.
    """
    run, began = folder / "run", time.perf_counter()
    resume = not outcome.timed and not arm.train and any((run / "checkpoints").glob("[0-9]*"))
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    status, error = "finished", None
    with (folder / "log").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log), _compiling(outcome):
        try:
            run = _train(arm, config, run, resume=resume)
        except Stopped:
            raise
        except ArenaError as failure:
            if not (run / FILE).is_file():  # nothing was trained: the plan or its data are wrong, for other cells too
                raise ArenaError(f"arm '{arm.name}': {failure}") from None
            status, error = "failed", str(failure)
        except Exception as failure:  # of an arm's own function, or a bug: the other cells go on
            status, error = "failed", f"{type(failure).__name__}: {failure}"
    records = read(run) if (run / FILE).is_file() else []
    if status == "failed" and any(r["kind"] == "trouble" and r.get("what") == "non-finite" for r in records):
        status = "diverged"
    elif status == "finished" and not any(record["kind"] == "evaluation" for record in records):
        status, error = "failed", f"the run in '{run}' has no evaluation in its records"
    start: dict[str, Any] = next((record for record in records if record["kind"] == "start"), {})
    devices = config.training.devices or len(start.get("devices", ())) or 1
    points, before = curve(records, devices), relay(records)
    return {
        "status": status,
        "error": error,
        "outcome": outcome_of(status, points, outcome),
        "steps": max((record["step"] for record in records), default=0) + int(before["steps"]),
        "seconds": points[-1]["seconds"] if points else 0.0,
        "compile_seconds": (before["compile_seconds"] + sum(r["seconds"] for r in records if r["kind"] == "compile"))
        * devices,
        "wall": time.perf_counter() - began,
        "bytes": sum(file.stat().st_size for file in run.rglob("*") if file.is_file()),
        "machine": socket.gethostname(),
        "device": next(iter(start.get("devices", ())), None),
        "curve": points,
    }


def _train(arm: Arm, config: RunConfig, run: Path, *, resume: bool) -> Path:
    if arm.train:
        return Path(functions.load(arm.train)(config, run))
    if config.arena:
        from arena_jax.arena import competition

        return competition.train(config, run, resume=resume)
    from arena_jax import training

    return training.train(config, run, resume=resume)


def _compiling(outcome: Outcome) -> contextlib.AbstractContextManager[None]:
    """Where seconds of compiling count, no cell uses what another has compiled."""
    return without_compilation_cache() if outcome.compiling else contextlib.nullcontext()
