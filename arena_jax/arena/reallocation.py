"""Every model is scored, and a policy divides the memory anew by what the scores show."""

from __future__ import annotations

import functools
import time

import numpy as np

from arena_jax.arena import history as histories
from arena_jax.arena import policies
from arena_jax.arena.batch_sizes import begin_search, swap_sizes
from arena_jax.arena.records import record_allocation, record_programs
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, epoch, fraction, price
from arena_jax.runs.session import Session
from arena_jax.runtime import processes


def score_models(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Score every model on the validation set, S = −loss: lines 7 to 9 and 22 to 28.

    Args:
        setup: of the competition.
        state: its ``history`` gains a row, ``metrics`` are new.
        session: records the metrics, and what was compiled for them.
        rounds: taken.
    """
    state.window.pause()
    start = time.perf_counter()
    size = setup.config.training.evaluation_batch_size
    state.metrics = {
        name: setup.evaluate(setup.step, state.train.params[name], name, setup.parts.validation[name], size)
        for name in setup.names
    }
    programs = setup.step.new_programs()
    seconds = time.perf_counter() - start - sum(program.seconds for program in programs)
    record_programs(session, rounds, programs)
    used = fraction(setup, state, rounds)
    state.history = histories.extend(
        state.history,
        scores=np.array([-state.metrics[name]["loss"] for name in setup.names]),
        shares=state.shares,
        seconds=np.array([price(setup, state, name) for name in setup.names]),
        steps=np.array([state.accounts[name].steps for name in setup.names]),
        fraction=used,
    )
    session.record_evaluation(
        rounds,
        state.metrics,
        epoch=epoch(state),
        split="validation",
        seconds=seconds,
        accounts={name: account.to_json() for name, account in state.accounts.items()},
        shares=dict(zip(setup.names, state.shares.tolist(), strict=True)),
        fraction=used,
    )
    setup.executables.run_in_background(functools.partial(policies.prepare, setup.policy, state.history))
    state.window.resume()


def reallocate(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Ask the policy for new shares, lines 29 to 33. The steps of a round follow at once, batch sizes later.

    Args:
        setup: of the competition.
        state: its ``shares`` change, and searches for batch sizes begin.
        session: records the allocation.
        rounds: taken.

    Raises:
        ArenaError: what the policy returned are no shares.
    """
    setup.observe("before reallocation", rounds, setup, state)
    swap_sizes(setup, state, session, rounds, last=True)
    # The policy reads the shares in force off the last row, and there may have been no evaluation since.
    rows = np.array(state.history.shares)
    rows[-1] = state.shares
    shares = policies.decide(setup.policy, state.history._replace(shares=rows))
    # Different kinds of machines need not agree on the last bit.
    state.shares = np.array(processes.gather(np.asarray(shares).tolist())[0])
    # Who was overtaken most often goes first: where reallocations follow faster than programs are compiled, the last
    # models would never have their turn.
    overtaken = {name: pending.overtaken + 1 for name, pending in state.pending.items()}
    state.deferred += len(overtaken)
    for name in sorted(setup.names, key=lambda name: -overtaken.get(name, 0)):
        begin_search(setup, state, name, rounds)
    record_allocation(setup, state, session, rounds)
    setup.observe("after reallocation", rounds, setup, state)
