"""Every model is scored: by what its task is judged by, with a standard error, on the clock, for the objective."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_jax import models
from arena_jax.arena import history as histories
from arena_jax.arena import policies
from arena_jax.arena.domain_scores import Scored, extend_domains, mean_score, score_domains, score_rows
from arena_jax.arena.evaluation_schedule import rows_scored, scoring_flops
from arena_jax.arena.records import record_programs
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, epoch, fraction, price
from arena_jax.config.objective import objective_value, pareto_front, scores_of
from arena_jax.config.scores import SCORES
from arena_jax.runs.session import Session
from arena_jax.training.ensemble import mixture_loss
from arena_jax.training.predictions import align, predict


def score_models(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Score every model on the validation set, lines 7 to 9 and 22 to 28, and charge it to the model's account.

    Args:
        setup: of the competition.
        state: its ``history`` gains a row, ``metrics`` and ``judgement`` are new, and evaluations are counted.
        session: records the metrics, and what was compiled for them.
        rounds: taken.
    """
    state.window.pause()
    seconds, latency = 0.0, {}
    errors, by_domain = {}, {}
    for name in setup.names:
        start = time.perf_counter()
        params = state.train.params[name]
        by_domain[name] = score_domains(setup, state, name, params)
        state.metrics[name], errors[name] = score_of(setup, state, name, params, by_domain[name])
        programs = setup.step.new_programs()
        record_programs(session, rounds, programs)
        elapsed = time.perf_counter() - start - sum(program.seconds for program in programs)
        state.accounts[name].count_evaluation(scoring_flops(setup, name, state.evaluation_batches), elapsed)
        scored = rows_scored(setup, name, state.evaluation_batches)
        latency[name] = state.times(("evaluation", name), elapsed / scored)
        seconds += elapsed
    scores = scores_of(state.metrics, setup.config.training.score)
    mixture, elapsed = _mixture(setup, state)
    seconds += elapsed
    costs = _costs(setup, latency)
    value = -mixture["loss"] if mixture else objective_value(setup.arena.objective, scores, costs or None)
    state.judgement = {
        "objective": setup.arena.objective,
        "score": setup.config.training.score,
        "value": value,
        "errors": {name: error for name, error in errors.items() if math.isfinite(error)},
        **({"ensemble": mixture} if mixture else {}),
        **({"costs": costs, "front": pareto_front(scores, costs)} if costs else {}),
    }
    used = fraction(setup, state, rounds)
    state.history = histories.extend(
        state.history,
        scores=np.array([scores[name] for name in setup.names]),
        shares=state.shares,
        seconds=np.array([price(setup, state, name) for name in setup.names]),
        steps=np.array([state.accounts[name].steps for name in setup.names]),
        fraction=used,
    )
    if state.division is not None:
        extend_domains(setup, state, {n: {d: of for d, (of, _) in scored.items()} for n, scored in by_domain.items()})
    if mixture:
        state.history = state.history._replace(worth=np.array([mixture["weights"][name] for name in setup.names]))
    if setup.arena.predictor:
        counts = np.array([setup.parameters[name] for name in setup.names], float)
        state.history = state.history._replace(parameters=counts)
    if costs:
        state.history = state.history._replace(cost=np.array([costs[name] for name in setup.names]))
    session.record_evaluation(
        rounds,
        state.metrics,
        score=None if setup.arena.objective == "mean" else SCORES[setup.config.training.score].sign * value,
        epoch=epoch(state),
        split="validation",
        seconds=seconds,
        accounts={name: account.to_json() for name, account in state.accounts.items()},
        shares=dict(zip(setup.names, state.shares.tolist(), strict=True)),
        fraction=used,
        judgement=state.judgement,
        **({"domains": state.domain_metrics} if state.domain_metrics else {}),
    )
    setup.executables.run_in_background(functools.partial(policies.prepare, setup.policy, state.history))
    state.window.resume()


def score_of(
    setup: Setup, state: State, name: str, params: Any, by_domain: Mapping[str, Scored] | None = None
) -> Scored:
    """Score parameters of a model on its validation rows; where there are several domains, by their mean."""
    by_domain = score_domains(setup, state, name, params) if by_domain is None else by_domain
    if by_domain:
        return mean_score(by_domain)
    return score_rows(setup, name, params, setup.parts.validation[name], state.evaluation_batches)


def _mixture(setup: Setup, state: State) -> tuple[dict[str, Any], float]:
    """Loss, error and weights of the ensemble, and what it took; empty for other objectives.

    Its programs are the forward passes of evaluations, without their losses: they take no more memory than these.
    """
    if setup.arena.objective != "ensemble":
        return {}, 0.0
    size, predictions, total = setup.config.training.evaluation_batch_size, {}, 0.0
    for name in setup.names:
        start = time.perf_counter()
        network = models.merge(models.split(setup.parts.models[name])[0], state.train.params[name])
        rows, tokenizer = setup.parts.validation[name], setup.parts.tokenizers[name]
        predictions[name] = predict(name, network, setup.parts.objectives[name], rows, tokenizer, size)
        elapsed = time.perf_counter() - start
        if state.mixture_compiled:  # the first call of a process compiles
            state.accounts[name].count_evaluation(0.0, elapsed)
            total += elapsed
    state.mixture_compiled = True
    loss, error, weights = mixture_loss(align(predictions))
    return {"loss": loss, "error": error, "weights": weights}, total


def _costs(setup: Setup, latency: dict[str, float]) -> dict[str, float]:
    """What scores are set against; empty for other objectives than pareto."""
    if setup.arena.objective != "pareto":
        return {}
    if setup.arena.pareto_cost == "latency":
        return latency
    return {name: float(setup.parameters[name]) for name in setup.names}


def target_reached(setup: Setup, state: State) -> bool:
    """Whether a model has the score that the competition ends at."""
    target = setup.arena.target
    if target is None or not state.metrics:
        return False
    score = setup.config.training.score
    goal = SCORES[score].sign * target
    return any(value >= goal for value in scores_of(state.metrics, score).values())
