"""ModelArena's competition: models train in rounds, and who learns faster is given more memory and more steps.

Two programs make a step (see `arena_jax.training.step`): the gradients of one model, compiled per batch size, and one
update over all models, compiled once, whose mask says who stepped. Gradients of models that step in the same turn are
shared and their parameters drawn together, where the run's optimizer says so.

What repeats to the bit. Batch sizes are read off the compiler, policies are asked about counted arithmetic, and a
model's data, dropout and learning rate go by its own steps. A new batch size takes over ``swap_after`` rounds after
its reallocation, however long its program has been ready. Training does not wait for the compiler: a size whose program
is not ready then is deferred by as many rounds again, and given up for the next reallocation's; the run says so. With
``late_swaps="wait"`` it is waited for. (Several processes wait at the next reallocation at the latest.)

What does not. A run with deferred batch sizes; with ``price="seconds"`` policies see the clock; with ``spend="150s"``
the clock says how long the run is and how its learning rates fall (``spend="20TFLOP"`` is counted). Such runs are saved
and resumed whole, but two of them need not agree.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arena_jax.arena import history as past
from arena_jax.arena import policies
from arena_jax.arena.admission import admit_evaluations, compile_evaluations, compile_update
from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.contest import Pending, check_repeatable
from arena_jax.arena.leaderboard import leaderboard
from arena_jax.arena.progress import learning_progress
from arena_jax.arena.rounds import Rounds
from arena_jax.arena.spending import Spending
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.devices import replicated
from arena_jax.runtime.program import Program
from arena_jax.training.build import describe_models
from arena_jax.training.evaluation import score
from arena_jax.training.metric_window import MetricWindow


def train(
    config: RunConfig, output: Path | None = None, *, resume: bool = False, policy: policies.Policy | None = None
) -> Path:
    """Let a run's models compete: Algorithm 1.

    After a baseline evaluation, each round gives model i ``max(1, ⌊10·share_i⌋)`` steps of the largest batch that its
    share of the memory holds; every E rounds the models are scored, S = −loss on the validation set; every R rounds the
    policy says new shares. The run ends after ``training.steps`` rounds, or when ``arena.spend`` is spent. Where the
    paper lets one model after the other take its steps, here each takes its first, then each its second, …: without
    sharing that is the same, with it the pools hold all who still step.

    Args:
        config: of the run, with an ``arena`` section.
        output: its folder; ``runs/PRESET-NUMBER`` if not given.
        resume: go on from the newest checkpoint in ``output``.
        policy: a function of your own from a `History` to shares; the configuration's policy if not given. A resumed
            run must be given it again.

    Returns:
        The run's folder, as `arena_jax.training.train.train` writes it; its records also hold ``allocation``, ``swap``
        and ``leaderboard``.

    Raises:
        ArenaError: something in the configuration, the data or the folder does not work, or the budget is too small
            for some model.

    Source: ModelArena, Algorithm 1.
    """
    if config.arena is None:
        raise ArenaError("this configuration is no competition: it has no arena section; give --memory-budget")
    check_repeatable(config.arena)
    with Session(config, output, resume=resume) as session:
        _Competition(session.config, config.arena, session.folder, policy).run(session)
    return session.folder


class _Competition(Rounds):
    """One run; its methods are the lines of Algorithm 1."""

    # ---- the run ----

    def run(self, session: Session) -> None:
        """Lines 2 to 36."""
        wanted = self.config.training
        self.state, position = session.begin(self.state, self.names)
        if session.ended:
            return
        self.session, at = session, session.first_step
        self.emit, self.tell_program = session.record, session.record_program
        self.interval = MetricWindow(position.get("window"))
        self.health = session.divergence
        with self.executables:
            session.record_start(
                steps=self.rounds,
                models=describe_models(self.parts),
                derived=self.derived(),
                notes=self.parts.notes,
            )
            self.compile_update(at)
            if position:
                self.restore(position, at)
            else:
                evaluations = self.compile_evaluations()  # first: batch sizes leave room for their code
                self.open_accounts()
                self.admit(evaluations)
                self.interval.resume()
                self.evaluate(0)
                self.allot(0)
            assert self.history is not None
            policies.decide(self.policy, self.history)  # compiled here, so that no reallocation waits for it
            self.interval.resume()
            stopping = session.stop_requested(at)
            while not self.over(at) and not stopping:
                self.look_after(at)
                self.swap(at)
                self.play(at)
                at += 1
                self.interval.flush()
                self.health.count(self.interval.skipped())
                over = self.over(at)
                session.advance(at, shown=None if self.rounds else round(100 * self.fraction(at)))
                if at % wanted.log_every == 0 or over:
                    said = self.accounted(self.interval.summary())
                    self.emit("train", at, epoch=self.epoch(), fraction=self.fraction(at), **said)
                if at % (wanted.evaluate_every or 1) == 0 or over:
                    self.evaluate(at)
                if at % self.arena.reallocate_every == 0 and not over:
                    self.reallocate(at)
                stopping = session.stop_requested(at)
                if (wanted.checkpoint_every and at % wanted.checkpoint_every == 0) or over:
                    self.save(at)
            if session.saved != at:  # asked to stop
                self.save(at, regular=False)
            session.finish(at, self.rounds, over=self.over(at))
            deferred = self.deferred + sum(one.late > 0 for one in self.pending.values())
            self.tell_deferred(at, deferred)
            self.emit("leaderboard", at, **leaderboard(self.names, self.history, self.spent, self.last_scores))
            session.record_end(at, epoch=self.epoch(), deferred=deferred)

    def save(self, at: int, *, regular: bool = True) -> None:
        """Start writing a checkpoint."""
        position = self.to_json()
        self.session.save(at, self.state, position, losses=self.losses(), over=self.over(at), regular=regular)

    def look_after(self, at: int) -> None:
        """Restore or freeze models that diverged; a frozen one takes no more steps, and keeps its share of memory."""
        self.state = self.session.handle_divergence(at, self.state)
        if self.health.hopeless:
            if self.session.saved != at:
                self.save(at, regular=False)
            self.session.give_up(at)

    def evaluate(self, at: int) -> None:
        """Score every model on the validation set: lines 7 to 9 and 22 to 28."""
        self.interval.pause()
        start, known = time.perf_counter(), len(self.step.programs)
        size = self.config.training.evaluation_batch_size
        scores = {
            name: score(self.step, self.state.params[name], name, self.parts.validation[name], size)
            for name in self.names
        }
        compiled = self.step.programs[known:]
        seconds = time.perf_counter() - start - sum(one.seconds for one in compiled)
        self.tell_compiled(at, compiled)
        self.last_scores = scores
        row = np.array([-scores[name]["loss"] for name in self.names])
        if self.history is None:
            self.history = past.start(row, self.shares)
        else:
            self.history = past.extend(
                self.history,
                scores=row,
                shares=self.shares,
                seconds=np.array([self.price(name) for name in self.names]),
                steps=np.array([self.spent[name].steps for name in self.names]),
                fraction=self.fraction(at),
            )
        accounts = {name: spent.told() for name, spent in self.spent.items()}
        held = {"shares": dict(zip(self.names, self.shares.tolist(), strict=True)), "fraction": self.fraction(at)}
        told = {"seconds": seconds, "models": scores, "accounts": accounts, **held}
        self.emit("evaluation", at, epoch=self.epoch(), split="validation", **told)
        self.executables.run_in_background(functools.partial(policies.prepare, self.policy, self.history))
        self.interval.resume()

    def reallocate(self, at: int) -> None:
        """Ask the policy for new shares, lines 29 to 33. The steps of a round follow at once, batch sizes later."""
        assert self.history is not None
        self.swap(at, last=True)
        # The policy reads the shares in force off the last row, and there may have been no evaluation since.
        rows = np.array(self.history.shares)
        rows[-1] = self.shares
        shares = policies.decide(self.policy, self.history._replace(shares=rows))
        # Different kinds of machines need not agree on the last bit.
        self.shares = np.array(processes.gather(np.asarray(shares).tolist())[0])
        # Who was overtaken most often goes first: where reallocations follow faster than programs are compiled, the
        # last models would never have their turn.
        waiting = {name: one.overtaken + 1 for name, one in self.pending.items()}
        self.deferred += len(waiting)
        for name in sorted(self.names, key=lambda name: -waiting.get(name, 0)):
            self.begin(name, float(self.shares[self.names.index(name)]) * self.executables.pool, at)
        self.allot(at)

    # ---- the beginning ----

    def compile_update(self, at: int) -> None:
        """Compile the one update, and hold it to the budget."""
        zeros = jax.jit(lambda tree: jax.tree.map(jax.numpy.zeros_like, tree), out_shardings=replicated(self.mesh))
        self.gradients: dict[str, Any] = zeros(self.state.params)
        margin = self.arena.memory_margin
        program = compile_update(self.step, self.state, self.gradients, budget=self.budget, margin=margin)
        self.update = program.executable
        self.executables.other_code["update"] = program.bytes.code
        self.tell_compiled(at, [program])

    def compile_evaluations(self) -> dict[str, Program]:
        """Compile what scores the models."""
        size = self.config.training.evaluation_batch_size
        made = compile_evaluations(self.step, self.state.params, self.parts.validation, size)
        self.executables.other_code |= {one.name: one.bytes.code for one in made.values()}
        self.tell_compiled(0, list(made.values()))
        return made

    def open_accounts(self) -> None:
        """Find the first batch sizes, lines 3 and 12: equal shares."""
        # The effective batch that is wanted is a first guess; models that compete are mostly of one kind, so the next
        # one's size is near the last one's.
        start = self.config.training.batch_size // self.mesh.shape["data"]
        for name, share in zip(self.names, self.shares, strict=True):
            search = self.executables.search(
                name, share * self.executables.pool, refuse=True, start=start if start > 1 else None
            )
            with processes.together():
                choice = search.result()
            start = choice.batch_size
            self.sizes[name] = processes.agree(choice.batch_size, f"{name}'s batch size")
            self.first_rows[name] = self.rows(name)
            self.tell_compiled(0, self.executables.adopt(name, choice))
            self.emit("note", 0, text=choice.reason)

    def admit(self, evaluations: Mapping[str, Program]) -> None:
        """Refuse an evaluation that the budget does not hold beside all programs, before it runs."""
        admit_evaluations(
            evaluations,
            self.state.params,
            self.config.training.evaluation_batch_size,
            resident=self.budget - self.executables.pool,
            budget=self.budget,
            margin=self.arena.memory_margin,
        )

    # ---- what is told ----

    def allot(self, at: int) -> None:
        """Record who has what from now on."""
        assert self.history is not None
        window = self.arena.progress_window or 5
        # As many rows as count, always: each length of the record would be compiled anew, while training waits.
        recent = past.pad(self.history, window + 1).scores[-(window + 1) :]
        progress = learning_progress(recent, window).tolist()
        steps = steps_per_round(self.shares, self.arena.round_scale).tolist()
        pool = self.executables.pool
        models = {
            name: {"share": share, "progress": learned, "steps": count, "allowed": share * pool, **self.held(name)}
            for name, share, learned, count in zip(self.names, self.shares.tolist(), progress, steps, strict=True)
        }
        fraction, code = self.fraction(at), self.executables.code
        self.emit(
            "allocation", at, fraction=fraction, budget=self.budget, resident=self.resident, code=code, models=models
        )

    def tell_deferred(self, at: int, deferred: int) -> None:
        """Say whether the run hung on how fast programs were compiled."""
        if deferred:
            sizes = "1 batch size" if deferred == 1 else f"{deferred} batch sizes"
            text = f"{sizes} came later than planned, or not at all, as programs were still compiled: another run may "
            self.emit("note", at, text=text + "differ; with --late-swaps wait training waits for them")

    # ---- stopping and going on ----

    def to_json(self) -> dict[str, Any]:
        """Everything beside the arrays that a resumed run needs."""
        assert self.history is not None
        return {
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "window": self.interval.state(),
            "spent": {name: spent.told() for name, spent in self.spent.items()},
            "shares": self.shares.tolist(),
            "sizes": self.sizes,
            "first_rows": self.first_rows,
            "pending": {
                name: {field: getattr(one, field) for field in Pending._fields if field != "choice"}
                for name, one in self.pending.items()
            },
            "deferred": self.deferred,
            "history": {field: np.asarray(rows).tolist() for field, rows in self.history._asdict().items()},
            "last_scores": self.last_scores,
            "executables": self.executables.state(),
            "policy": self.policy_name,
        }

    def restore(self, position: Mapping[str, Any], at: int) -> None:
        """Go on from what :meth:`to_json` said: compile the sizes in force, and look for those on their way."""
        begun = position["policy"]
        if begun != self.policy_name:
            raise ArenaError(
                f"'{self.folder}' was begun with the policy '{begun}', not '{self.policy_name}': go on from Python "
                "with competition.train(config, folder, resume=True, policy=…)"
            )
        for name, stream in self.streams.items():
            stream.restore(position["streams"][name])
        self.spent = {name: Spending(**told) for name, told in position["spent"].items()}
        self.shares = np.array(position["shares"])
        self.sizes, self.first_rows = dict(position["sizes"]), dict(position["first_rows"])
        self.history = past.History(**{field: np.array(rows) for field, rows in position["history"].items()})
        self.last_scores, self.deferred = position["last_scores"], position["deferred"]
        for one in self.executables.restore(position["executables"], self.sizes):
            self.tell_program(at, one.name, one.seconds, one.bytes.total, one.cached, again=True)
        for name, pending in position["pending"].items():
            self.begin(name, at=at, **pending)
        # Training has not begun again yet; without the interruption they would have been compiled beside it.
        wait([one.choice for one in self.pending.values()])
