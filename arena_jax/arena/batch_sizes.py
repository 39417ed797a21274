"""The batch sizes that shares allow: found beside training, and swapped in when they are due and compiled."""

from __future__ import annotations

import time
from concurrent.futures import wait
from typing import Any

from arena_jax.arena.records import model_fields, record_programs
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import PendingSize, State, largest_size, share_bytes, step_rows
from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Session
from arena_jax.runtime import processes


def find_first_sizes(setup: Setup, state: State, session: Session) -> None:
    """Find the first batch sizes, lines 3 and 12: equal shares. Training waits for them."""
    # The effective batch of the configuration is a first guess; models that compete are mostly of one kind, so the next
    # one's size is near the last one's.
    start = setup.config.batch_size(setup.names[0]) // setup.mesh.size
    for name in setup.names:
        start = find_size(setup, state, session, name, 0, start=start if start > 1 else None, refuse=True)
        state.first_rows[name] = step_rows(setup, state, name)


def find_size(
    setup: Setup, state: State, session: Session, name: str, rounds: int, *, start: int | None, refuse: bool = False
) -> int:
    """Find a model's batch size for its share, and wait for it.

    Args:
        setup: of the competition.
        state: its ``sizes`` change.
        session: records what was compiled, and why it is this size.
        name: the model.
        rounds: taken.
        start: the size to compile first.
        refuse: where the share does not hold the smallest size; else the pool must.

    Returns:
        The size.

    Raises:
        ArenaError: no size fits.
    """
    search = setup.executables.search(name, share_bytes(setup, state, name), refuse=refuse, start=start)
    with processes.together():
        choice = search.result()
    state.sizes[name] = processes.agree(choice.batch_size, f"{name}'s batch size")
    record_programs(session, rounds, setup.executables.adopt(name, choice))
    session.record("note", rounds, text=choice.reason)
    return choice.batch_size


def drop_search(setup: Setup, state: State, name: str) -> None:
    """Nobody waits any more for a model's batch size, and what is compiled for it is not taken over."""
    if name in state.pending:
        setup.executables.abandon(name, state.pending.pop(name).search, keep=False)


def begin_search(setup: Setup, state: State, name: str, rounds: int) -> None:
    """Look in the background for the batch size of a model's share; it is due some rounds from now.

    Args:
        setup: of the competition.
        state: its ``pending`` gains the search; a search that is under way for the model is abandoned.
        name: the model.
        rounds: taken.
    """
    memory, overtaken = share_bytes(setup, state, name), 0
    if name in state.pending:
        overtaken = state.pending[name].overtaken + 1
        _abandon(setup, state, name)
    most = largest_size(setup, state, name)
    search = setup.executables.search(name, memory, most=most)
    due = rounds + setup.arena.swap_rounds
    state.pending[name] = PendingSize(search, memory, due, most, overtaken=overtaken)


def resume_searches(setup: Setup, state: State, pending: dict[str, dict[str, Any]]) -> None:
    """Begin the searches again that were under way when a run was interrupted, and wait for them."""
    for name, fields in pending.items():
        search = setup.executables.search(name, fields["memory"], most=fields.get("most"))
        state.pending[name] = PendingSize(search, **fields)
    # Training has not begun again yet; without the interruption they would have been compiled beside it.
    wait([size.search for size in state.pending.values()])


def swap_sizes(setup: Setup, state: State, session: Session, rounds: int, *, last: bool = False) -> None:
    """Let batch sizes take over that are due; one that is not compiled by then is deferred, or waited for.

    Args:
        setup: of the competition.
        state: its ``sizes`` and ``pending`` change.
        session: records swaps and programs.
        rounds: taken.
        last: all are due, as new shares follow.
    """
    setup.observe("before swap", rounds, setup, state)
    record_programs(session, rounds, setup.executables.adopt_abandoned())
    for name, pending in list(state.pending.items()):
        if not (last or rounds >= pending.due):
            continue
        if not (_is_ready(pending) or _must_wait(setup, last)):
            more = max(1, setup.arena.swap_rounds)
            state.pending[name] = pending._replace(due=rounds + more, late=pending.late + more)
            continue
        start = time.perf_counter()
        choice = pending.search.result()
        waited = time.perf_counter() - start
        del state.pending[name]
        before = state.sizes[name]
        state.sizes[name] = processes.agree(choice.batch_size, f"{name}'s batch size")
        record_programs(session, rounds, setup.executables.adopt(name, choice))
        if before != choice.batch_size:
            state.deferred += pending.late > 0
            fields = {"waited": waited, "late": pending.late, "reason": choice.reason}
            session.record("swap", rounds, model=name, before=before, **fields, **model_fields(setup, state, name))
    setup.observe("after swap", rounds, setup, state)


def step_down(setup: Setup, state: State, session: Session, name: str, rounds: int) -> None:
    """Give a model that ran out of memory the next smaller size, for good.

    Args:
        setup: of the competition; its executables learn of it.
        state: its ``sizes`` change, and a search that is under way begins anew.
        session: records it.
        name: the model.
        rounds: taken.

    Raises:
        ArenaError: it had the smallest size already.
    """
    before, limits = state.sizes[name], setup.executables.limits
    smaller = limits.lower_ceiling(name, before)
    if smaller is None:
        raise ArenaError(
            f"{name}: its smallest batch ({before}) ran out of memory in round {rounds + 1:,}; start a new run with "
            "fewer or smaller models, a lower --memory-budget, or shorter rows (--max-length)"
        )
    state.sizes[name] = smaller
    margin = limits.margins[name]
    session.record_trouble(
        rounds,
        "out of memory",
        f"{name} ran out of memory with batches of {before}: the step is repeated with {smaller}, and "
        f"{margin:.0%} is added to what the compiler says its programs need",
        model=name,
        before=before,
        batch_size=smaller,
        margin=margin,
    )
    record_programs(session, rounds, setup.executables.compile(name, smaller))
    if name in state.pending:  # that search did not know
        pending = state.pending[name]
        _abandon(setup, state, name)
        search = setup.executables.search(name, pending.memory, most=pending.most)
        state.pending[name] = pending._replace(search=search, overtaken=pending.overtaken + 1)


def record_calibrations(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Record what programs' first runs took; look for a smaller size where a model's no longer fits its share."""
    for calibration in setup.executables.take_calibrations():
        session.record("calibration", rounds, **calibration._asdict())
        name = calibration.model
        fits = setup.executables.fits(name, state.sizes[name], share_bytes(setup, state, name))
        if calibration.raised and name not in state.pending and not fits:
            begin_search(setup, state, name, rounds)


def _abandon(setup: Setup, state: State, name: str) -> None:
    # Nobody waits for it any more, and others wait behind it.
    setup.executables.abandon(name, state.pending[name].search, keep=setup.arena.late_swaps == "defer")


def _is_ready(pending: PendingSize) -> bool:
    """Whether every process has found the batch size."""
    return all(processes.gather(pending.search.done()))


def _must_wait(setup: Setup, last: bool) -> bool:
    """Whether training stands still for a batch size that is due and not compiled."""
    # Several processes abandon no search: they would not all be at the same place of it.
    return setup.arena.late_swaps == "wait" or (last and processes.several())
