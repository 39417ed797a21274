"""A policy divides the memory anew by what the scores show."""

from __future__ import annotations

import numpy as np

from arena_jax.arena import policies
from arena_jax.arena.batch_sizes import begin_search, swap_sizes
from arena_jax.arena.noise_probe import measure_noise
from arena_jax.arena.records import record_allocation
from arena_jax.arena.resize import resize_models
from arena_jax.arena.search import search_shape
from arena_jax.arena.setup import Setup
from arena_jax.arena.specialization import divide
from arena_jax.arena.state import State, set_division
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.program import Program


def reallocate(setup: Setup, state: State, session: Session, update: Program, rounds: int) -> Program:
    """Let models change their shapes, and ask the policy for new shares, lines 29 to 33.

    The steps of a round follow at once, batch sizes later.

    Args:
        setup: of the competition.
        state: its ``shares`` change, and searches for batch sizes begin.
        session: records the allocation.
        update: of all models, as it is compiled now.
        rounds: taken.

    Returns:
        The update: the one given, or another where a model has another shape now.

    Raises:
        ArenaError: what the policy returned are no shares.
    """
    setup.observe("before reallocation", rounds, setup, state)
    swap_sizes(setup, state, session, rounds, last=True)
    before = dict(state.resized)
    update = resize_models(setup, state, session, rounds) or update
    changed = tuple(name for name, evaluations in state.resized.items() if before.get(name) != evaluations)
    update = search_shape(setup, state, session, update, rounds, changed) or update
    measure_noise(setup, state, session, rounds)
    # The policy reads the shares in force off the last row, and there may have been no evaluation since.
    rows = np.array(state.history.shares)
    rows[-1] = state.shares
    history = state.history._replace(shares=rows, parameters=counts_in_force(setup, state))
    if state.domains is not None:
        in_force = np.concatenate([state.domains.shares[:-1], np.asarray(state.division)[None]])
        set_division(setup, state, divide(setup.policy, history, state.domains._replace(shares=in_force)))
    else:
        # Different kinds of machines need not agree on the last bit.
        shares = np.asarray(policies.decide(setup.policy, history))
        state.shares = np.array(processes.gather(shares.tolist())[0])
    # Who was overtaken most often goes first: where reallocations follow faster than programs are compiled, the last
    # models would never have their turn.
    overtaken = {name: pending.overtaken + 1 for name, pending in state.pending.items()}
    state.deferred += len(overtaken)
    for name in sorted(setup.names, key=lambda name: -overtaken.get(name, 0)):
        begin_search(setup, state, name, rounds)
    record_allocation(setup, state, session, rounds)
    setup.observe("after reallocation", rounds, setup, state)
    return update


def counts_in_force(setup: Setup, state: State) -> np.ndarray | None:
    """The models' parameters by the shapes that they have now [models]; None where no policy looks at them."""
    if state.history.parameters is None:
        return None
    return np.array([setup.parameters[name] for name in setup.names], float)
