"""One session of a run: its folder, lock, records, console, checkpoints and signals, opened and held as one context.

A loop says what its method does; how the run is kept is here, for joint training and competitions alike:

    with Session(config, output, resume=resume) as session:
        ...                                              # data, models, optimizer: they may need `session.folder`
        state, position = session.begin(state, names)    # the given state and {}, or where the run was interrupted
        if session.ended:
            return session.folder                        # nothing is left to do
        session.record_start(...)
        while step < steps and not session.stop_requested(step):
            state = session.handle_divergence(step, state)
            ...                                          # one step
            session.advance(step)
            session.record("train", step, ...)
            session.record_evaluation(step, scores, ...)
            over = step == steps or session.evaluations.over
            session.save(step, state, position, over=over)
        session.finish(step, steps, over=over)
        session.record_end(step, ...)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.units import parse_duration
from arena_jax.runs import run_page
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.console import Console
from arena_jax.runs.divergence import Divergence
from arena_jax.runs.environment import environment
from arena_jax.runs.evaluations import Evaluations
from arena_jax.runs.folder import open_folder
from arena_jax.runs.lock import Lock
from arena_jax.runs.mirror import Mirror, open_mirror
from arena_jax.runs.paths import with_absolute_paths
from arena_jax.runs.profile import Profile
from arena_jax.runs.records import Records, Silence, open_records, read
from arena_jax.runs.resume import has_ended, newest
from arena_jax.runs.run_page import PAGE, RunFacts
from arena_jax.runs.signals import Stop, Stopped
from arena_jax.runtime import processes

Tree = TypeVar("Tree")
_NO_ROOM = "there was no room for the records"


class Session:
    """A run while it is at work in its folder; a context.

    Nothing that goes wrong with the disk stops the run: it is shown, and recorded as soon as that is possible.

    Args:
        config: of the run.
        output: its folder; ``runs/PRESET-NUMBER`` if not given.
        resume: go on from the newest checkpoint in ``output``.

    Attributes:
        config: of the run, with absolute paths.
        folder: of the run.
        resumed: whether it goes on from a checkpoint; known after :meth:`begin`, as are the following.
        first_step: steps taken before this session.
        ended: whether the run had come to its end before.
        divergence: counts skipped steps, and knows which models are frozen.
        evaluations: the last and the best, and whether they end the run.
        checkpoints: of the run.
        saved: the step of the last checkpoint that was begun and has not failed, or None.

    Raises:
        ArenaError: the folder cannot be made, is of another run or another format, or is in use.
    """

    def __init__(self, config: RunConfig, output: Path | None = None, *, resume: bool = False) -> None:
        self.config, self._output, self._resume = config, output, resume
        self._began = time.perf_counter()
        self._stack = ExitStack()
        self.resumed = self.ended = False
        self.first_step = 0
        self.saved: int | None = None
        self._unsaved = _NO_ROOM
        self._compiling = 0.0  # seconds, of all sessions
        self._compiled: Counter[str] = Counter()  # programs that the records hold already
        self.folder: Path
        self.checkpoints: Checkpoints
        self.divergence: Divergence
        self.evaluations: Evaluations
        self._records: Records | Silence
        self._console: Console
        self._page: Path | None = None
        self._mirror: Mirror | None
        self._stop: Stop
        self._profile: Profile

    def __enter__(self) -> Session:
        if not self._resume:
            self.config = with_absolute_paths(self.config)
        self.folder = open_folder(self.config, self._output, resume=self._resume)
        with ExitStack() as stack:  # what was entered is left again where the next cannot be
            stack.enter_context(processes.watched(self.folder))
            stack.enter_context(Lock(self.folder))
            keep = self.config.training.keep_checkpoints
            self._mirror = open_mirror(self.config, resume=self._resume)
            self.checkpoints = stack.enter_context(
                Checkpoints(self.folder / "checkpoints", keep=keep, writing=True, mirror=self._mirror)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def begin(self, state: Any, models: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        """Find out where to begin, and open the records. From here on Ctrl-C and SIGTERM ask the loop to stop.

        Args:
            state: before the first step, or a function to it, see :func:`arena_jax.runs.resume.newest`.
            models: their names.

        Returns:
            The state to begin with, and the position that :meth:`save` was given beside it: empty at the beginning.

        Raises:
            ArenaError: there are checkpoints, and none can be used; the configuration was changed since; or the records
                cannot be written.
        """
        limit = self.config.training.stop_after
        at = None if limit is None else self._began + parse_duration(limit)
        self._stop = self._stack.enter_context(Stop(at))
        state, metadata = newest(self.checkpoints if self._resume else None, state, self.config)
        self.resumed, self.first_step = bool(metadata), metadata.get("step", 0)
        self.ended = metadata.get("over", False) and has_ended(self.folder)
        if self.ended:
            self._open_console()
            self._console.show({"kind": "resume", "step": self.first_step, "time": time.time()})
            return state, {}
        self._began -= metadata.get("seconds", 0.0)
        self._compiling = metadata.get("compiling", 0.0)
        self.saved = self.first_step if metadata else None
        training = self.config.training
        self.divergence = Divergence(
            models, training.max_nonfinite_steps, training.on_nonfinite, metadata.get("divergence")
        )
        self.checkpoints.protected = self.divergence.sources
        self.evaluations = Evaluations(training.score, training.stop_after_no_gain, metadata.get("evaluations"))
        size = metadata.get("records", 0) if self._resume else None
        self._records = open_records(self.folder, size, self.config)
        self._stack.callback(self._records.close)
        self._open_console()
        self._page = self.folder / PAGE if training.figures and processes.first() else None
        if self._resume:
            self._compiled.update(record["program"] for record in read(self.folder) if record["kind"] == "compile")
        self._profile = self._stack.enter_context(
            Profile(training.profile if processes.first() else None, self.folder / "profile")
        )
        self._record_damaged()
        if self._resume:
            # Shown, not recorded: the records are those of a run that was never interrupted.
            path = str(self._path(self.first_step)) if metadata else "its beginning: nothing was saved"
            self._console.show({"kind": "resume", "step": self.first_step, "time": time.time(), "checkpoint": path})
        position: dict[str, Any] = metadata.get("position", {})
        return state, position

    def _open_console(self) -> None:
        first = processes.first()
        earlier = read(self.folder) if self._resume and first else []
        # Where the run is now: its folder may have been moved.
        earlier = [r | {"run": str(self.folder)} if r["kind"] == "start" else r for r in earlier]
        self._console = Console(earlier=earlier, silent=not first)
        self._stack.enter_context(self._console)

    def _path(self, step: int) -> Path:
        return self.folder / "checkpoints" / str(step)

    # ---- records ----

    def record(self, kind: str, step: int, **fields: Any) -> None:
        """Write a record (:mod:`arena_jax.runs.records` lists the kinds) and show it."""
        record = self._records.write(kind, step, **fields)
        self._console.show(record)
        if kind in ("evaluation", "end"):
            self._write_page(step)

    def _write_page(self, step: int) -> None:
        """Write the run's page anew; a disk that refuses it stops nothing, and is named once."""
        if self._page is None:
            return
        try:
            run_page.write([RunFacts(self.folder, self.config, self._console.records)], self._page)
        except OSError as error:
            reason, self._page = error.strerror or str(error), None
            self.record_trouble(step, "page", f"{PAGE} is no longer written ({reason}); the run goes on")

    def record_start(
        self,
        *,
        steps: int | None,
        models: Mapping[str, Any],
        derived: Sequence[tuple[str, str, str]],
        notes: Sequence[str] = (),
        relay: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the first records of a run; does nothing in one that was resumed.

        Args:
            steps: in all; None where that is not known.
            models: ``{name: what is to be known of it}``.
            derived: every value that was not simply given: its name, itself, and the reason.
            notes: what a person should know of the data, a line each.
            relay: what was spent before the first step, on the leader of a relay and the race for it.
        """
        if self.resumed:
            return
        self.record(
            "start",
            0,
            preset=self.config.preset,
            task=self.config.task,
            run=str(self.folder),
            steps=steps,
            models=models,
            derived=[{"name": name, "value": value, "reason": reason} for name, value, reason in derived],
            **({} if relay is None else {"relay": dict(relay)}),
            **environment(),
        )
        for note in notes:
            self.record("note", 0, text=note)

    def record_evaluation(
        self, step: int, scores: Mapping[str, Mapping[str, float]], *, score: float | None = None, **fields: Any
    ) -> None:
        """Record an evaluation, and whether it is the best so far.

        Args:
            step: steps (of a competition: rounds) taken.
            scores: ``{model: {metric: value}}``.
            score: what they are worth together, in the metric's unit; their mean if None.
            **fields: what else belongs to the record.

        Raises:
            ArenaError: a model has no metric of the name that the run is judged by.
        """
        score = self.evaluations.add(step, scores, score)
        gain = {"score": score, "without_gain": self.evaluations.without_gain}
        self.record("evaluation", step, **fields, models=scores, **gain)

    def record_trouble(self, step: int, what: str, text: str, **fields: Any) -> None:
        """Record that something went wrong, and show it."""
        self.record("trouble", step, what=what, text=text, **fields)

    def record_program(
        self, step: int, program: str, seconds: float, size: int, cached: bool = False, *, again: bool = False
    ) -> None:
        """Record a compiled program; only show it where a resumed run has compiled what its records hold already.

        Args:
            step: steps taken.
            program: its name.
            seconds: that compiling took.
            size: bytes per device.
            cached: whether it was there already, on disk or in this process.
            again: the records hold it. A competition, which compiles programs of one name more than once, says so
                itself.
        """
        self._compiling += seconds
        fields = {"program": program, "seconds": seconds, "bytes": size, "cached": cached}
        recorded = not program.startswith("gradients of ") and self._compiled[program] > 0
        if recorded or again:
            self._compiled[program] -= recorded
            self._console.show({"kind": "compile", "step": step, "time": time.time(), **fields})
            return
        self.record("compile", step, **fields)

    def record_end(self, step: int, *, early: bool = False, **fields: Any) -> None:
        """Write the last record of a run.

        Args:
            step: steps (of a competition: rounds) taken.
            early: whether it ends before its length, as evaluations bring no better score.
            **fields: what else belongs to the record.
        """
        self.record("end", step, **fields, **self.clock(), reason="no gain" if early else "finished")

    def _record_damaged(self) -> None:
        used = self._path(self.first_step)
        for damage in self.checkpoints.set_aside():
            self.record_trouble(
                self.first_step,
                "damaged",
                f"the checkpoint of step {damage.step:,} cannot be used: {damage.reason}; it is now "
                f"{damage.path.name}, and the run goes on from {used.name}",
                checkpoint=str(damage.path),
                used=str(used),
            )

    def _record_failures(self, step: int) -> None:
        """Record what went wrong in the background."""
        reason = self.checkpoints.trouble()
        if reason is not None:
            self.saved, self._unsaved = self.checkpoints.latest, reason
            last = "there is none yet" if self.saved is None else f"the last one is of step {self.saved:,}"
            text = f"a checkpoint could not be written: {reason}; {last}, and the run goes on"
            self.record_trouble(step, "checkpoint", text)
        if self._mirror is not None and self._mirror.trouble is not None:
            text, self._mirror.trouble = self._mirror.trouble, None
            self.record_trouble(step, "mirror", f"{text}; the run goes on, and the next one is copied again")
        failure = self._records.trouble()
        if failure is not None:
            self.record_trouble(step, "records", failure)

    # ---- while the loop goes on ----

    def stop_requested(self, step: int) -> bool:
        """Whether to stop before this step: Ctrl-C or SIGTERM came, or the time is over.

        Call it at every step; all processes agree.
        """
        self._trace(step)
        return processes.stopping(bool(self._stop), step)

    def advance(self, step: int, *, bar_position: int | None = None) -> None:
        """Move the console's bar after a step, and record what has gone wrong in the background.

        Args:
            step: steps taken.
            bar_position: what the bar shows, in percent, where the run has no number of steps.
        """
        self._console.advance(step if bar_position is None else bar_position)
        self._record_failures(step)
        self._trace(step)

    def _trace(self, step: int) -> None:
        if self._profile.reach(step):
            text = f"a trace of steps {self.config.training.profile} is in {self._profile.folder}"
            self._console.show({"kind": "note", "step": step, "time": time.time(), "text": text})

    def handle_divergence(self, step: int, state: Tree, before: int | None = None) -> Tree:
        """Restore or freeze the models whose steps were skipped too often (:class:`Divergence`), and record it.

        Args:
            step: steps taken.
            state: of the run.
            before: see :meth:`Divergence.diverged`.

        Returns:
            The state to go on with. Whether the run can go on at all, `session.divergence.hopeless` says.
        """
        for name in self.divergence.diverged(before):
            state, event = self.divergence.handle(name, step, state, self.checkpoints)
            self.record_trouble(step, "non-finite", **event)
        return state

    # ---- checkpoints ----

    def checkpoint_due(self, step: int, *, over: bool) -> bool:
        """Whether to save after this step: at the end, as often as is asked for, and what evaluations call the best.

        Args:
            step: steps (of a competition: rounds) taken.
            over: whether the run has come to its end.
        """
        every = self.config.training.checkpoint_every
        best = self.config.training.stop_after_no_gain is not None and self.evaluations.best_step == step
        return over or best or (every is not None and step % every == 0)

    def save(
        self,
        step: int,
        state: Any,
        position: Mapping[str, Any],
        *,
        over: bool = False,
        regular: bool = True,
    ) -> None:
        """Start writing a checkpoint.

        Args:
            step: steps (of a competition: rounds) taken.
            state: arrays; copied before this returns.
            position: everything else that a resumed run needs, as JSON.
            over: whether the run has come to its end.
            regular: whether it would also be saved if nobody had interrupted the run.
        """
        if regular:
            losses = {name: metrics["loss"] for name, metrics in self.evaluations.last.items()}
            self.divergence.mark_finite(step, losses)
            self.checkpoints.protected = self.divergence.sources
        snapshot = self.checkpoints.take(state)
        self._record_failures(step)
        self.record("checkpoint", step, path=str(self._path(step)), seconds=snapshot.seconds)
        try:
            self._records.sync()
        except OSError as error:
            self._unsaved = error.strerror or str(error)
            return
        if self._records.waiting:
            # A checkpoint that counts on lines which are on no disk could not be resumed.
            self._record_failures(step)
            self._unsaved = _NO_ROOM
            return
        self.saved = step
        metadata = {
            "step": step,
            "over": over,
            "position": dict(position),
            "divergence": self.divergence.state(),
            "evaluations": self.evaluations.state(),
            "config": configuration.to_dict(self.config),
            "records": self._records.position,
            **self.clock(),
        }
        self.checkpoints.write(step, snapshot, metadata, score=self.evaluations.cost)

    def finish(self, step: int, steps: int | None, *, over: bool) -> None:
        """Wait for the disk.

        Args:
            step: steps taken.
            steps: in all; None where the run has no number of steps.
            over: whether the run has come to its end.

        Raises:
            ArenaError: the last state is not on the disk, or the run cannot go on.
            Stopped: everything is saved, and the run was asked to stop before its end.
        """
        with processes.together():
            self.checkpoints.wait()
            self._record_failures(step)
            if self.saved != step:
                going_on = "begins again" if self.saved is None else f"goes on from step {self.saved:,}"
                raise ArenaError(
                    f"the state after step {step:,} could not be saved ({self._unsaved}); make room, then "
                    f"`arena-jax resume {self.folder}` {going_on}"
                )
        if self.divergence.hopeless:
            raise ArenaError(self.divergence.hopeless)
        if not over:
            raise Stopped(self.folder, step, steps, self.config.training.stop_after if self._stop.over else None)

    def clock(self) -> dict[str, float]:
        """How long the run has taken, all its sessions together.

        Returns:
            "seconds" at work, and of these "compiling", what a resumed run compiles again included. Work that was lost
            with a killed session is not in them.
        """
        return {"seconds": time.perf_counter() - self._began, "compiling": self._compiling}
