"""One round of a competition: every model's steps at its batch size, and what happens when one runs out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.contest import Contest, Pending
from arena_jax.config.errors import ArenaError
from arena_jax.runs.divergence import Divergence
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.batch_search import BatchChoice as Choice
from arena_jax.runtime.devices import own_rows, place_batch
from arena_jax.runtime.program import Program, is_out_of_memory
from arena_jax.training.metric_window import MetricWindow


class Rounds(Contest):
    """A contest that can be played; `arena_jax.arena.competition` opens it, scores it and hands out shares."""

    emit: Callable[..., None]
    tell_program: Callable[..., None]
    update: Callable[..., Any]
    gradients: dict[str, Any]
    session: Session
    interval: MetricWindow
    health: Divergence

    def play(self, at: int) -> None:
        """Take one round's steps, lines 11 to 21; all models' first steps, then all second steps, and so on."""
        steps = dict(zip(self.names, steps_per_round(self.shares, self.arena.round_scale).tolist(), strict=True))
        steps = {name: count for name, count in steps.items() if name not in self.health.frozen}
        for turn in range(max(steps.values())):
            stepping = [name for name in steps if turn < steps[name]]
            if turn == 0:
                jax.block_until_ready(self.state.params)  # so that what is timed is the gradient alone
            measured, rates, rows = {}, dict.fromkeys(self.names, np.float32(0)), {}
            for name in stepping:
                measured[name], batch, took = self.gradient(name, at, wait=turn == 0)
                rates[name], rows[name] = np.float32(self.rate(name, at)), self.rows(name)
                if turn == 0:
                    self.spent[name].seconds += self.pace((name, self.sizes[name]), took) * steps[name]
                self.calibrate(name, at)
                self.spent[name].pay(batch, self.flops(name, batch["attention_mask"].shape[1]))
            losses = {
                name: {"loss": measured[name]["loss"] if name in measured else np.float32(0)} for name in self.names
            }
            active = {name: np.bool_(name in measured) for name in self.names}
            start = time.perf_counter()
            self.state, told = self.update(
                self.state, self.gradients, losses, {"active": active, "learning_rates": rates}
            )
            if turn == 0:
                jax.block_until_ready(self.state.params)
                one_update = self.pace("update", time.perf_counter() - start)
            self.pay_for_updates(stepping, one_update)
            self.interval.add({name: {**measured[name], **told[name]} for name in stepping}, rows=rows)

    def gradient(self, name: str, at: int, *, wait: bool) -> tuple[dict[str, jax.Array], Any, float]:
        """Compute a model's gradient, a size smaller where it runs out of memory; no row of the data is lost.

        Args:
            name: the model.
            at: the round.
            wait: for the device, so that the seconds are those of the gradient.

        Returns:
            Metrics, the batch it took, and the seconds.
        """
        drawn_from = self.streams[name].state()
        while True:
            batch = self.streams[name].next(self.rows(name))
            k = self.microbatches(name, self.sizes[name])
            placed = place_batch(own_rows(batch, k), self.mesh, k)
            self.gradients[name] = None  # the last one goes before the next one comes
            start = time.perf_counter()
            try:
                self.gradients[name], measured = self.executables(
                    name, self.sizes[name], self.state.params[name], placed, self.spent[name].steps
                )
                if wait:
                    jax.block_until_ready(self.gradients[name])
                return measured, batch, time.perf_counter() - start
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error) or jax.process_count() > 1:  # the others would wait for this one
                    raise
            # A smaller batch takes the first of these rows, the next step the others.
            self.streams[name].restore(drawn_from)
            self.step_down(name, at)

    def step_down(self, name: str, at: int) -> None:
        """Give a model that ran out of memory the next smaller size, for good."""
        before = self.sizes[name]
        smaller = self.executables.limits.lower_ceiling(name, before)
        if smaller is None:
            raise ArenaError(
                f"{name}: its smallest batch ({before}) ran out of memory in round {at + 1:,}; start a new run with "
                "fewer or smaller models, a lower --memory-budget, or shorter rows (--max-length)"
            )
        self.sizes[name] = smaller
        margin = self.executables.limits.margins[name]
        self.emit(
            "trouble",
            at,
            what="out of memory",
            text=f"{name} ran out of memory with batches of {before}: the step is repeated with {smaller}, and "
            f"{margin:.0%} is added to what its programs are said to need",
            model=name,
            before=before,
            batch_size=smaller,
            margin=margin,
        )
        self.tell_compiled(at, self.executables.compile(name, smaller))
        if name in self.pending:  # that search did not know
            self.begin(name, self.pending[name].memory, at, self.pending[name].due, self.pending[name].late)

    # ---- batch sizes ----

    def begin(
        self, name: str, memory: float, at: int, due: int | None = None, late: int = 0, overtaken: int = 0
    ) -> None:
        """Start looking for the batch size of a model's new share, in the background."""
        due = at + self.arena.swap_rounds if due is None else due
        if name in self.pending:
            overtaken = self.pending[name].overtaken + 1
            # Nobody waits for it any more, and others wait behind it.
            self.executables.abandon(name, self.pending[name].choice, keep=self.arena.late_swaps == "defer")
        self.pending[name] = Pending(self.executables.search(name, memory), memory, due, late, overtaken)

    def swap(self, at: int, *, last: bool = False) -> None:
        """Let new batch sizes take over that are due; what is not compiled by then is deferred, or waited for.

        Args:
            at: the round.
            last: all are due, as new shares follow.
        """
        self.tell_compiled(at, self.executables.adopt_abandoned())
        for name, pending in list(self.pending.items()):
            if not (last or at >= pending.due):
                continue
            if not (self.ready(pending.choice) or self.must_wait(last)):
                rounds = max(1, self.arena.swap_rounds)
                self.pending[name] = pending._replace(due=at + rounds, late=pending.late + rounds)
                continue
            start = time.perf_counter()
            choice = pending.choice.result()
            waited = time.perf_counter() - start
            del self.pending[name]
            before, self.sizes[name] = self.sizes[name], processes.agree(choice.batch_size, f"{name}'s batch size")
            self.tell_compiled(at, self.executables.adopt(name, choice))
            if before != choice.batch_size:
                self.deferred += pending.late > 0
                told = {"waited": waited, "late": pending.late, "reason": choice.reason}
                self.emit("swap", at, model=name, before=before, **told, **self.held(name))

    def ready(self, choice: Future[Choice]) -> bool:
        """Whether every process has found the batch size."""
        return all(processes.gather(choice.done()))

    def must_wait(self, last: bool) -> bool:
        """Whether training stands still for a batch size that is due and not compiled."""
        # Several processes give up no search: they would not all be at the same place of it.
        return self.arena.late_swaps == "wait" or (last and processes.several())

    def calibrate(self, name: str, at: int) -> None:
        """Record what a program's first run says of its estimate; look again where its size no longer fits."""
        for one in self.executables.take_calibrations():
            self.emit("calibration", at, **one._asdict())
            memory = float(self.shares[self.names.index(name)]) * self.executables.pool
            if one.raised and name not in self.pending and not self.executables.fits(name, self.sizes[name], memory):
                self.begin(name, memory, at)

    def tell_compiled(self, at: int, compiled: list[Program]) -> None:
        """Record what was compiled."""
        for one in compiled:
            self.tell_program(at, one.name, one.seconds, one.bytes.total, one.cached)
