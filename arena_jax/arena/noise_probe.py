"""Measures the gradient noise of a competition's models."""

from __future__ import annotations

import time

import jax
import numpy as np

from arena_jax.arena.noise import GradientNoise
from arena_jax.arena.rounds import compute_gradient
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, row_flops, step_rows
from arena_jax.runs.session import Session


def measure_noise(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Compute two gradients of each model at the same parameters: of n examples each, and by their mean of 2n.

    Rows and dropout's masks are those of the model's next two steps, which it takes as if nothing had been measured:
    with the same masks the two would have a noise in common, and the scale would come out too small. The first gradient
    waits in the host's memory, so that the device holds no more than in a step. What it costs is charged.

    Args:
        setup: of the competition; nothing is done unless its ``batch_cap`` is "noise".
        state: its ``noise`` follows.
        session: knows which models are frozen.
        rounds: taken.
    """
    if setup.arena.batch_cap != "noise":
        return
    for name in setup.names:
        if name in session.divergence.frozen:
            continue
        stream, size, begin = state.streams[name], state.sizes[name], time.perf_counter()
        position = stream.state()
        _, batch, _ = compute_gradient(setup, state, session, name, rounds, wait=True)
        first = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.gradients[name])]
        after = state.accounts[name].steps + 1
        compute_gradient(setup, state, session, name, rounds, wait=True, step=after)
        second = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.gradients[name])]
        stream.restore(position)
        rows = step_rows(setup, state, name)
        account = state.accounts[name]
        account.seconds += time.perf_counter() - begin
        account.flops += 2 * rows * row_flops(setup, name, batch["attention_mask"].shape[1])
        if state.sizes[name] != size:  # it ran out of memory: the two are not of one size
            continue
        small = (square(first) + square(second)) / 2
        large = square([(a + b) / 2 for a, b in zip(first, second, strict=True)])
        state.noise[name] = state.noise.get(name, GradientNoise()).after(small, large, rows, 2 * rows)


def square(leaves: list[np.ndarray]) -> float:
    """The squared norm of a gradient."""
    return float(sum(np.vdot(leaf, leaf) for leaf in leaves))
