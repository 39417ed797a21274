"""Crossover at a reallocation: the two best models of one shape are mixed, the paper's equation 12 in a competition.

The paper leaves open who is mixed, and what becomes of the mixture. Here, among models of one configuration, task and
vocabulary: the best two by the competition's score are mixed half and half, their units matched, if the loss on the way
between them rises by no more than is allowed (`arena_jax.models.crossover`). The mixture takes the place of the worst
of them, if its loss is lower than that one's: of two models, of the worse. It has its weights alone: the optimizer's
moments begin at 0, as nobody has measured the mixture's; data, learning rate and account go on as they were.

Losses are those of the validation rows that models are scored on. What they cost is charged to whose place is at stake.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arena_jax import models
from arena_jax.arena.admission import check_budget
from arena_jax.arena.evaluation_schedule import scoring_flops
from arena_jax.arena.records import record_programs
from arena_jax.arena.scoring import score_of
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State
from arena_jax.config.errors import ArenaError
from arena_jax.config.objective import scores_of
from arena_jax.models.crossover import crossover
from arena_jax.runs.divergence import leaves_of, owner
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.devices import distribute
from arena_jax.runtime.memory import device_bytes
from arena_jax.runtime.program import Program
from arena_jax.training.replace_model import replace_model
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step

POINTS = 5  # losses on the way from one model to the other, both included


def kin(setup: Setup) -> list[tuple[str, ...]]:
    """The models that can be mixed: of one configuration, task and vocabulary; groups of two or more."""
    groups: dict[Any, list[str]] = {}
    for name in setup.names:
        model = setup.parts.models[name]
        vocabulary = setup.parts.tokenizers[name].backend.get_vocab(with_added_tokens=True)
        groups.setdefault((repr(model.config), model.task, tuple(sorted(vocabulary.items()))), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def check_crossover(setup: Setup) -> None:
    """Refuse a crossover that can never be.

    Raises:
        ArenaError: no two models are of one shape, or several processes train.
    """
    if setup.arena.crossover is None:
        return
    if processes.several():
        raise ArenaError("crossover has not been tried with several processes: remove --crossover")
    if not kin(setup):
        raise ArenaError(
            f"crossover mixes models of one configuration and vocabulary, and no two of {', '.join(setup.names)} are:"
            " give two of one preset and one tokenizer, or remove --crossover"
        )


def admit_crossover(setup: Setup, evaluations: Mapping[str, Program], train: TrainState) -> None:
    """Refuse a crossover that the budget does not hold beside all programs, before one is made.

    Args:
        setup: of the competition.
        evaluations: ``{model: the program that scores it}``.
        train: parameters, optimizer state and averages.

    Raises:
        ArenaError: the budget does not hold it.
    """
    if setup.arena.crossover is None:
        return
    for names in kin(setup):
        scoring = evaluations[names[0]].bytes.total * (1 + setup.arena.memory_margin)
        need = setup.budget - setup.executables.pool + mixing_bytes(train, names[0], scoring)
        check_budget(f"mixing {' and '.join(names[:2])} takes", need, setup.budget, "remove --crossover")


def mixing_bytes(train: TrainState, name: str, scoring: float) -> float:
    """The bytes per device that mixing a model takes at most, beside what is resident.

    Args:
        train: parameters, optimizer state and averages of all models.
        name: of one that is mixed; its kin are of its shapes.
        scoring: the bytes of scoring one.

    Returns:
        The larger of two moments. On the way between the models there are units in another order, a mixture, and its
        copy that is scored; when the mixture takes a place, all of it is there twice: as it is made, and as it lies on
        the devices.
    """
    names, weights = tuple(train.params), device_bytes(train.params[name])
    moments = device_bytes(leaves_of(train.opt_state, name, names))
    average = device_bytes(train.averages[name]) if train.averages else 0
    return max(3 * weights + scoring, 2 * (weights + moments + average))


def cross(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Mix the best two of each kin, and record what came of it.

    Args:
        setup: of the competition; nothing is done where nobody is to be mixed.
        state: the model whose place the mixture takes has its parameters, and first moments.
        session: records the lineage; knows which models are frozen, and are left out.
        rounds: taken.
    """
    threshold = setup.arena.crossover
    if threshold is None:
        return
    scores = scores_of(state.metrics, setup.config.training.score)
    for names in kin(setup):
        able = [n for n in names if n not in session.divergence.frozen and np.isfinite(scores[n])]
        if len(able) < 2:
            continue
        state.window.pause()
        first, second, *_ = ranked = sorted(able, key=lambda name: (-scores[name], name))
        last, account = ranked[-1], state.accounts[ranked[-1]]
        structure = models.split(setup.parts.models[first])[0]
        start = time.perf_counter()

        def loss(params: Any, name: str = first) -> float:
            placed = distribute(params, setup.mesh)
            return float(score_of(setup, state, name, placed)[0]["loss"])

        network = {name: models.merge(structure, state.train.params[name]) for name in (first, second)}
        result = crossover(
            network[first],
            network[second],
            lambda model: loss(models.split(model)[1]),
            threshold=threshold,
            points=POINTS,
        )
        ends = {first: result.losses[0], second: result.losses[-1]}
        rival = ends[last] if last in ends else loss(state.train.params[last])
        middle = result.losses[POINTS // 2]
        replaced = result.model is not None and middle < rival
        if replaced:
            moments = first_moments(setup.step, state.train, last)
            state.train = replace_model(state.train, last, result.model, moments)
            state.noise.pop(last, None)
        account.flops += (POINTS + (last not in ends)) * scoring_flops(setup, first, state.evaluation_batches)
        programs = setup.step.new_programs()  # a resumed run has not scored before
        record_programs(session, rounds, programs)
        account.seconds += time.perf_counter() - start - sum(program.seconds for program in programs)
        state.window.resume()
        session.record(
            "lineage",
            rounds,
            how="crossover",
            parents=[first, second],
            models={last: {"loss": middle, "before": rival, "taken": replaced}},
            barrier=result.barrier,
            losses=list(result.losses),
        )


def first_moments(step: Step, state: TrainState, name: str) -> Any:
    """The optimizer's state with one model's part as before its first step; the rest are the arrays that are there.

    The others' part is never made: the device would have to hold it twice.
    """
    names = tuple(state.params)

    def of_model(params: Any) -> list[Any]:
        return leaves_of(step.optimizer.init(params), name, names)

    fresh = iter(jax.jit(of_model)(state.params))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: next(fresh) if owner(path, names) == name else leaf, state.opt_state
    )
