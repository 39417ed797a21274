"""One round of a competition: every model's steps at its batch size, and what happens when one runs out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.batch_sizes import record_calibrations, step_down
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, learning_rate, row_flops, step_microbatches, step_rows
from arena_jax.runs.session import Session
from arena_jax.runtime.devices import local_rows, place_batch
from arena_jax.runtime.program import is_out_of_memory

Update = Callable[..., Any]  # the compiled update of all models, `Step.finish`


def play_round(setup: Setup, state: State, update: Update, session: Session, rounds: int) -> None:
    """Take one round's steps, lines 11 to 21; all models' first steps, then all second steps, and so on.

    Args:
        setup: of the competition.
        state: moves on by a round; its arrays are donated.
        update: the compiled update of all models.
        session: records what goes wrong; knows which models are frozen and take no steps.
        rounds: taken.
    """
    setup.observe("round", rounds, setup, state)
    counts = steps_per_round(state.shares, setup.arena.round_scale).tolist()
    steps = dict(zip(setup.names, counts, strict=True))
    steps = {name: count for name, count in steps.items() if name not in session.divergence.frozen}
    update_seconds = 0.0
    for turn in range(max(steps.values())):
        # One step of a round is timed and stands for the round's others.
        is_timed = turn == 0
        state.stepping = tuple(name for name in steps if turn < steps[name])
        if is_timed:
            jax.block_until_ready(state.train.params)  # so that what is timed is the gradient alone
        metrics, rates, rows = {}, {}, {}
        for name in state.stepping:
            metrics[name], batch, seconds = compute_gradient(setup, state, session, name, rounds, wait=is_timed)
            rates[name] = learning_rate(setup, state, name, rounds)
            rows[name] = step_rows(setup, state, name)
            account = state.accounts[name]
            if is_timed:
                account.seconds += state.times((name, state.sizes[name]), seconds) * steps[name]
            record_calibrations(setup, state, session, rounds)
            account.count_step(batch, row_flops(setup, name, batch["attention_mask"].shape[1]))
        start = time.perf_counter()
        measured = take_update(setup, state, update, metrics, rates)
        if is_timed:
            jax.block_until_ready(state.train.params)
            update_seconds = state.times("update", time.perf_counter() - start)
        charge_update(setup.parameters, state, state.stepping, update_seconds)
        state.window.add({name: {**metrics[name], **measured[name]} for name in state.stepping}, rows=rows)
        setup.observe("step", rounds, setup, state)


def take_update(
    setup: Setup,
    state: State,
    update: Callable[..., Any],
    metrics: Mapping[str, Mapping[str, jax.Array]],
    rates: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Update the models that have a gradient; all others rest.

    Args:
        setup: of the competition.
        state: its ``train`` moves on, and is donated.
        update: the compiled update of all models.
        metrics: ``{model that steps: metrics of its gradient}``.
        rates: ``{model that steps: learning rate}``.

    Returns:
        What the update reports, by model.
    """
    losses = {name: {"loss": metrics[name]["loss"] if name in metrics else np.float32(0)} for name in setup.names}
    extra = {
        "active": {name: np.bool_(name in metrics) for name in setup.names},
        "learning_rates": {name: np.float32(rates.get(name, 0)) for name in setup.names},
    }
    state.train, measured = update(state.train, state.gradients, losses, extra)
    reported: dict[str, dict[str, Any]] = measured
    return reported


def compute_gradient(
    setup: Setup, state: State, session: Session, name: str, rounds: int, *, wait: bool, step: int | None = None
) -> tuple[dict[str, jax.Array], Mapping[str, np.ndarray], float]:
    """Compute a model's gradient, a size smaller where it runs out of memory; no row of the data is lost.

    Args:
        setup: of the competition.
        state: its ``gradients`` and ``streams`` move on.
        session: records what goes wrong.
        name: the model.
        rounds: taken.
        wait: for the device, so that the seconds are those of the gradient.
        step: which of the model's steps it is, which dropout's masks go by; its next one if None.

    Returns:
        Metrics, the batch it took, arrays (B, …), and the seconds.

    Raises:
        ArenaError: the smallest size ran out of memory.
    """
    stream = state.streams[name]
    position = stream.state()
    step = state.accounts[name].steps if step is None else step
    while True:
        batch = stream.next(step_rows(setup, state, name))
        k = step_microbatches(setup, state, name)
        placed = place_batch(local_rows(batch, k), setup.mesh, k)
        state.gradients[name] = None  # the last one goes before the next one comes
        start = time.perf_counter()
        try:
            state.gradients[name], metrics = setup.executables(
                name, state.sizes[name], state.train.params[name], placed, step
            )
            if wait:
                jax.block_until_ready(state.gradients[name])
            return metrics, batch, time.perf_counter() - start
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error) or jax.process_count() > 1:  # the others would wait for this one
                raise
        # A smaller batch takes the first of these rows, the next step the others.
        stream.restore(position)
        step_down(setup, state, session, name, rounds)


def charge_update(parameters: Mapping[str, int], state: State, stepping: Sequence[str], seconds: float) -> None:
    """Charge one update of all models to those who step in it, by their sizes."""
    whole = sum(parameters[name] for name in stepping)
    for name in stepping:
        state.accounts[name].seconds += seconds * parameters[name] / whole
