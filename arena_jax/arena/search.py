"""A model proposes a change of itself, and its children race against it: equation 13."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.arena.contender import Contender, capture, install
from arena_jax.arena.evaluation_schedule import scoring_flops
from arena_jax.arena.records import record_programs
from arena_jax.arena.resize import Targets, change_model, part_of, progress_since
from arena_jax.arena.rounds import compute_gradient, take_update
from arena_jax.arena.scoring import score_of
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, learning_rate, row_flops, step_rows
from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.models.resize import size_of
from arena_jax.runs.session import Session
from arena_jax.runtime.program import Program

CHILDREN = 2  # of the three changes that there are, those that the gradients ask for most


def search_shape(
    setup: Setup, state: State, session: Session, update: Program, rounds: int, changed: tuple[str, ...] = ()
) -> Program | None:
    """Let the model of the least progress propose changes of itself, and race them.

    A_new = NAS(A, λ, ∇L): λ says who proposes, the gradients of its last step say what (`proposals`). Children have
    the function of their parent, and start where it stands. Each trains for the same number of operations on the
    same rows, the parent too, and is scored; the best goes on, with what it has learnt. All of it is charged to the
    model.

    Args:
        setup: of the competition; nothing is done unless its ``race_steps`` is given.
        state: of it.
        session: records the race.
        update: of all models, as it is compiled now.
        rounds: taken.
        changed: models that have changed their shape just now.

    Returns:
        The update for the winner's shape; None where nobody raced.

    Source: ModelArena, equation 13; the race is this project's.
    """
    steps = setup.arena.race_steps
    name = None if steps is None else proposer(setup, state, (*changed, *session.divergence.frozen))
    if steps is None or name is None:
        return None
    state.window.pause()
    start = time.perf_counter()
    norms = relative_gradients(state.gradients[name], state.train.params[name])
    config = setup.parts.models[name].config
    children: list[Targets] = [((what, size_of(config, what) + part_of(config, what)),) for what in proposals(norms)]
    parent, operations = capture(setup, state, name, update), steps * _step_flops(setup, state, name)
    contenders: list[tuple[float, Contender]] = []
    rows: list[dict[str, Any]] = []
    for targets in [(), *children]:
        try:
            if targets:
                update = install(setup, state, parent)
                update = change_model(setup, state, session, name, targets, rounds, quiet=True)
        except ArenaError as error:
            session.record("note", rounds, text=f"{name}: {_words(targets)} does not race: {error}")
            continue
        count = race_length(setup, state, name, operations)
        for _ in range(count):
            _step(setup, state, session, update, name, rounds)
        score = _score(setup, state, session, name, rounds)
        contender = capture(setup, state, name, update)
        contenders.append((score, contender))
        spent = contender.account.flops - parent.account.flops
        rows.append({"change": _words(targets), "steps": count, "flops": spent, "score": score})
    # Of equal ones the first: the parent.
    best = max(range(len(contenders)), key=lambda i: (np.nan_to_num(contenders[i][0], nan=-np.inf), -i))
    winner = contenders[best][1]
    update = install(setup, state, winner)
    _charge(state, name, parent, [contender for _, contender in contenders], winner)
    if winner.model is not parent.model:
        state.resized[name] = len(state.history.scores)
        state.noise.pop(name, None)
        session.divergence.forget_sources(name)
    won = rows[best]
    text = (
        f"{name}: {len(rows)} raced over {won['flops'] / 1e12:.3g} TFLOP each; {won['change']} wins with "
        f"{won['score']:.4f}; " + ", ".join(f"{row['change']} {row['score']:.4f}" for row in rows if row is not won)
    )
    session.record(
        "race",
        rounds,
        model=name,
        text=text,
        gradients=norms,
        contenders=rows,
        winner=won["change"],
        parameters=[parent.parameters, winner.parameters],
        seconds=time.perf_counter() - start,
    )
    state.window.resume()
    return update


def proposer(setup: Setup, state: State, without: tuple[str, ...]) -> str | None:
    """The model of the least learning progress since its last change; None where none has two scores since."""
    window = setup.arena.progress_window or 5
    progress = {
        name: progress_since(state, i, state.resized.get(name, 0), window)
        for i, name in enumerate(setup.names)
        if name not in without
    }
    settled = {name: value for name, value in progress.items() if value is not None}
    return min(settled, key=lambda name: settled[name]) if settled else None


def relative_gradients(gradient: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, float]:
    """How much a step wants of each part that can grow: the norm of its gradient over that of its parameters.

    Args:
        gradient: of one model, its blocks stacked.
        params: its parameters.

    Returns:
        Of the attention of all blocks ("heads"), of their feed-forward parts ("neurons"), and of the last block
        ("layers").

    Example:
        >>> params = {"blocks": {"attention": {"q": jnp.ones((2, 3))}, "feed_forward": {"up": jnp.ones((2, 3))}}}
        >>> relative_gradients(jax.tree.map(lambda x: 2 * x, params), params)
        {'heads': 2.0, 'neurons': 2.0, 'layers': 2.0}
    """

    def norm(tree: Any) -> float:
        return float(jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree))))

    def ratio(of: Any) -> float:
        return norm(of(gradient)) / max(norm(of(params)), 1e-30)

    return {
        "heads": ratio(lambda tree: tree["blocks"]["attention"]),
        "neurons": ratio(lambda tree: tree["blocks"]["feed_forward"]),
        "layers": ratio(lambda tree: jax.tree.map(lambda leaf: leaf[-1], tree["blocks"])),
    }


def proposals(norms: Mapping[str, float]) -> list[str]:
    """What is proposed: the parts that the gradients want most of, the most wanted first.

    Example:
        >>> proposals({"heads": 0.1, "neurons": 0.3, "layers": 0.2})
        ['neurons', 'layers']
    """
    return sorted(norms, key=lambda what: -norms[what])[:CHILDREN]


def race_length(setup: Setup, state: State, name: str, operations: float) -> int:
    """The steps that a contender takes for what the parent pays for its own: at least one."""
    return max(1, round(operations / _step_flops(setup, state, name)))


def _step_flops(setup: Setup, state: State, name: str) -> float:
    """The operations of a model's step, of its shape and batch size now."""
    return row_flops(setup, name, setup.parts.train[name].lengths[-1]) * step_rows(setup, state, name)


def _step(setup: Setup, state: State, session: Session, update: Program, name: str, rounds: int) -> None:
    """One step of one model; the others rest."""
    metrics, batch, seconds = compute_gradient(setup, state, session, name, rounds, wait=True)
    account, rate = state.accounts[name], learning_rate(setup, state, name, rounds)
    account.seconds += seconds
    account.count_step(batch, row_flops(setup, name, batch["attention_mask"].shape[1]))
    start = time.perf_counter()
    take_update(setup, state, update.executable, {name: metrics}, {name: rate})
    jax.block_until_ready(state.train.params)
    account.seconds += time.perf_counter() - start


def _score(setup: Setup, state: State, session: Session, name: str, rounds: int) -> float:
    """A contender's score, more being better; what it takes is charged."""
    start = time.perf_counter()
    metrics, _ = score_of(setup, state, name, state.train.params[name])
    programs = setup.step.new_programs()
    record_programs(session, rounds, programs)
    seconds = time.perf_counter() - start - sum(program.seconds for program in programs)
    # No evaluation of the run's: how often those are due goes by what they cost.
    state.accounts[name].count_other(scoring_flops(setup, name, state.evaluation_batches), seconds)
    score = setup.config.training.score
    return float(SCORES[score].sign * metrics[score])


def _charge(state: State, name: str, parent: Contender, contenders: list[Contender], winner: Contender) -> None:
    """Charge the winner what the others have cost; their steps and examples it has not learnt from."""
    account = dataclasses.replace(winner.account)
    for contender in contenders:
        if contender is not winner:
            account.flops += contender.account.flops - parent.account.flops
            account.seconds += contender.account.seconds - parent.account.seconds
    state.accounts[name] = account


def _words(targets: Targets) -> str:
    return "/".join(f"{what}={count}" for what, count in targets) or "no change"
