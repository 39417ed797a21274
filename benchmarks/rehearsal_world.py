"""What a rehearsed competition stands on: a clock, a compiler, a disk, a session and programs that are all fake."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config import RunConfig
from arena_jax.runs.checkpoint_files import Unreadable
from arena_jax.runs.checkpoints import Snapshot, flatten
from arena_jax.runs.divergence import Divergence
from arena_jax.runs.evaluations import Evaluations
from arena_jax.runs.session import Session
from arena_jax.runtime.program import Program, ProgramBytes
from arena_jax.training.state import TrainState

SIZES = (2, 4, 8)
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."
MODEL_BYTES, ROW_BYTES, CODE_BYTES = 8, {"bert": 3000, "gpt2": 5000}, 100


class Crash(BaseException):
    """The process dies here."""


@dataclasses.dataclass(frozen=True)
class Script:
    """What a seed draws.

    Attributes:
        crashes: moments, counted over all that is observed, at which a session dies; one a session.
        out_of_memory: ``{(model, step)}`` at which every size but the smallest runs out.
        nonfinite: ``{(model, step)}`` whose gradients are not finite.
        full: saves, counted over all sessions, that the disk has no room for.
        delay: rounds that a search takes to compile.
        late: ``"wait"`` or ``"defer"``.
        rounds, evaluate, reallocate, save, swap: the run's intervals.
        on_nonfinite: what becomes of a model that diverges.
        limit: steps that are not finite after which it has.
        seed: of the policy.
    """

    crashes: tuple[int, ...]
    out_of_memory: frozenset[tuple[str, int]]
    nonfinite: frozenset[tuple[str, int]]
    full: frozenset[int]
    delay: int
    late: str
    rounds: int
    evaluate: int
    reallocate: int
    save: int
    swap: int
    on_nonfinite: str
    limit: int
    seed: int


class Clock:
    """Seconds that programs say they take; in powers of two, so that their differences are exact."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """As `time.perf_counter`."""
        return self.now


class Compiler(Executor):
    """Compiles as many rounds after it was asked as the script says; at once where somebody waits for it."""

    def __init__(self, delay: int) -> None:
        self.delay, self.round, self.running = delay, 0, False
        self.tasks: list[tuple[int, Task]] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:  # type: ignore[override]
        """Take a search; before the first round, as in a run, it is waited for."""
        task = Task(functools.partial(function, *arguments))
        self.tasks.append((self.round + self.delay, task))
        if not self.running or not self.delay:
            task.work()
        return task

    def advance(self) -> None:
        """A round begins."""
        self.running = True
        self.round += 1
        for _, task in [pair for pair in self.tasks if pair[0] <= self.round]:
            task.work()
        self.tasks = [pair for pair in self.tasks if pair[0] > self.round]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what nobody will ask for."""
        for _, task in self.tasks:
            task.cancel()


class Task(Future[Any]):
    """A future whose work is done when it is due, or when its result is asked for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self.call = call

    def work(self) -> None:
        """Do it now, if it is not done or cancelled."""
        if self.done() or not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self.call())
        except Exception as error:
            self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        """The result; who asks early waits for it."""
        self.work()
        return super().result(timeout)


class Disk:
    """Checkpoints and records in memory; some saves find no room."""

    def __init__(self, full: frozenset[int]) -> None:
        self.full, self.saves = full, 0
        self.kept: dict[int, tuple[dict[str, np.ndarray], str]] = {}
        self.records: list[dict[str, Any]] = []
        self.protected: set[int] = set()
        self._trouble: str | None = None

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return max(self.kept, default=None)

    def take(self, state: Any) -> Snapshot:
        """A copy of a state."""
        return Snapshot({path: np.array(leaf) for path, leaf in flatten(state).items()}, 0.0)

    def write(self, step: int, snapshot: Snapshot, metadata: Any, *, score: float | None = None) -> None:
        """Keep a checkpoint, if there is room."""
        self.saves += 1
        if self.saves - 1 in self.full:
            self._trouble = "No space left on device"
            return
        self.kept[step] = snapshot.arrays, json.dumps(metadata)

    def trouble(self) -> str | None:
        """What went wrong since this was last asked."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def wait(self) -> None:
        """Everything is written."""

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint that is kept."""
        if step not in self.kept:
            raise Unreadable("it is not there")
        return self.kept[step][0]


class RehearsalSession(Session):
    """A session whose folder is a `Disk`; what it decides is the real one's."""

    def __init__(self, disk: Disk, config: RunConfig, output: Path | None = None, *, resume: bool = False) -> None:
        super().__init__(config, output, resume=resume)
        self.checkpoints = disk  # type: ignore[assignment]
        self.folder, self._mirror = Path("rehearsal"), None
        self._console: Any = SimpleNamespace(show=lambda record: None, advance=lambda step: None)
        self._records: Any = SimpleNamespace(sync=lambda: None, waiting=False, trouble=lambda: None)

    def __enter__(self) -> Session:
        return self

    def begin(self, state: Any, models: Any) -> tuple[Any, dict[str, Any]]:
        """As the real one, from the disk in memory."""
        disk: Any = self.checkpoints
        metadata: dict[str, Any] = {}
        if self._resume and disk.latest is not None:
            arrays, text = disk.kept[disk.latest]
            metadata = json.loads(text)
        state = state({})  # no model changes its shape
        if metadata:
            state = jax.tree.unflatten(
                jax.tree.structure(state), [jnp.asarray(arrays[path]) for path in flatten(state)]
            )
        self.resumed, self.first_step = bool(metadata), metadata.get("step", 0)
        self.ended = metadata.get("over", False) and any(r["kind"] == "end" for r in disk.records)
        self.saved = self.first_step if metadata else None
        training = self.config.training
        self.divergence = Divergence(
            models, training.max_nonfinite_steps, training.on_nonfinite, metadata.get("divergence")
        )
        self.evaluations = Evaluations(training.score, training.stop_after_no_gain, metadata.get("evaluations"))
        del disk.records[metadata.get("records", 0) :]
        self._records.position = len(disk.records)
        return state, metadata.get("position", {})

    def record(self, kind: str, step: int, **fields: Any) -> None:
        """Keep a record as it is now."""
        records = self.checkpoints.records  # type: ignore[attr-defined]
        records.append(copy.deepcopy({"kind": kind, "step": step, **fields}))
        self._records.position = len(records)

    def record_start(self, **fields: Any) -> None:
        """Nothing: facts of the machine, and git is slow."""

    def _trace(self, step: int) -> None:
        """No profile is taken."""

    def stop_requested(self, step: int) -> bool:
        """Nobody presses Ctrl-C; sessions die."""
        return False


# ---- fake programs ----


def compile_fake(script: Script, clock: Clock, function: Any, *arguments: Any) -> Program:
    """A model's gradients: they go to the mean of the rows they are shown; memory grows with the rows."""
    name, size = function.name, arguments[1]["input_ids"].shape[1]

    def run(params: Any, batch: Any, key: Any, step: Any) -> tuple[Any, dict[str, np.ndarray]]:
        if (name, int(step)) in script.out_of_memory and size > SIZES[0]:
            raise jax.errors.JaxRuntimeError(FULL)
        clock.now += size / 64
        rows = np.asarray(batch["input_ids"])
        gradient = np.float32(params["w"]) - np.float32(rows.mean() / 500 + 0.001 * int(step))
        if (name, int(step)) in script.nonfinite:
            gradient = np.float32(np.nan)
        loss, count = np.float32(gradient**2), np.float32(rows.shape[0] * rows.shape[1])
        return {"w": gradient}, {"loss": loss, "loss_sum": loss * count, "count": count, "gradient_norm": abs(gradient)}

    need = ProgramBytes(2 * MODEL_BYTES, 0, ROW_BYTES[name] * size, 0, CODE_BYTES)
    return Program(run, need, 0.001)


def update_fake(clock: Clock, state: TrainState, gradients: Any, losses: Any, extra: Any) -> tuple[TrainState, Any]:
    """Momentum; a model whose gradient is not finite sits out."""
    clock.now += 1 / 512
    params, moments, measured = dict(state.params), dict(state.opt_state), {}
    for name, active in extra["active"].items():
        rate = extra["learning_rates"][name]
        gradient = gradients[name]["w"] if active else np.float32(0)
        moves = bool(active) and bool(np.isfinite(gradient))
        if moves:
            moments[name] = {"w": jnp.asarray(np.float32(0.5) * np.float32(moments[name]["w"]) + gradient)}
            params[name] = {"w": jnp.asarray(np.float32(params[name]["w"]) - rate * np.float32(moments[name]["w"]))}
        measured[name] = {"learning_rate": np.float32(rate), "skipped": np.float32(bool(active) and not moves)}
    return TrainState(jnp.asarray(int(state.step) + 1), params, moments), measured
