"""How often the models of a competition are scored, and on how many rows, so that it costs a small part of the run."""

from __future__ import annotations

from arena_jax import models
from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.setup import Setup
from arena_jax.arena.state import State, fraction, row_flops, step_rows
from arena_jax.config.arena import EVALUATION_SHARE
from arena_jax.data.dataset import QUESTIONS
from arena_jax.training.evaluation import rows_per_batch
from arena_jax.training.objectives import head_positions

# Scores that a policy has to go by, beside the first and the last: fewer rows are scored where all would leave fewer.
ENOUGH = 20
MOST = 60  # more tell a policy nothing new; 64 rows of history are one program
FEWEST_BATCHES = 2  # of each domain: one batch has no standard error


def scoring_flops(setup: Setup, name: str, batches: int | None) -> float:
    """The operations of scoring a model once.

    Args:
        setup: of the competition.
        name: the model.
        batches: that are scored; all if None.
    """
    model = setup.parts.models[name]
    length, size = setup.parts.validation[name].lengths[-1], setup.config.training.evaluation_batch_size
    count = batches_scored(setup, name, batches)
    passes = 2 if setup.arena.objective == "ensemble" else 1  # the mixture asks every model once more
    once = models.row_flops(model.config, model.task, length, head_positions(model.task, length))
    return float(passes * count * size * once)


def batches_scored(setup: Setup, name: str, batches: int | None) -> int:
    """The batches that an evaluation of a model scores; fewer than are asked for where a domain has no more.

    Args:
        setup: of the competition.
        name: the model.
        batches: that are asked for, domains having equally many; all if None.
    """
    parts = _batches_of_parts(setup, name)
    return sum(parts if batches is None else (min(part, -(-batches // len(parts))) for part in parts))


def _batches_of_parts(setup: Setup, name: str) -> list[int]:
    """The batches that hold a model's validation rows; of each domain by itself where there are several."""
    size = setup.config.training.evaluation_batch_size
    return [-(-rows // size) for rows in _rows_of_parts(setup, name)]


def _rows_of_parts(setup: Setup, name: str) -> list[int]:
    domains = setup.parts.domains.get(name)
    parts = [setup.parts.validation[name]] if domains is None else [splits["validation"] for splits in domains.values()]
    return [len(rows) for rows in parts]


def rows_scored(setup: Setup, name: str, batches: int | None) -> int:
    """The validation rows that an evaluation of a model scores.

    Args:
        setup: of the competition.
        name: the model.
        batches: that are asked for, domains having equally many; all if None.
    """
    parts, size = _rows_of_parts(setup, name), setup.config.training.evaluation_batch_size
    if batches is None:
        return sum(parts)
    each = -(-batches // len(parts)) * rows_per_batch(setup.step, size)
    return sum(min(part, each) for part in parts)


def choose_batches(setup: Setup, state: State) -> int | None:
    """How many batches an evaluation takes, with the first batch sizes known: all, or as few as leave `ENOUGH` scores.

    Where the length of the run is in seconds, nothing is known of what it costs yet, and all rows are scored. So they
    are for the ensemble, whose weights are fitted on them, for questions, whose windows belong together, and where the
    caller's own function scores.

    Returns:
        Batches; None: all.
    """
    total = _run_flops(setup, state)
    if setup.config.training.evaluate_every or setup.arena.objective == "ensemble" or total is None:
        return None
    if setup.evaluate is not None or any(rows.task == QUESTIONS for rows in setup.parts.validation.values()):
        return None
    # One batch is asked of each domain, so that what is affordable is as many of each.
    one_batch = sum(scoring_flops(setup, name, 1) for name in setup.names)
    affordable = int(_share(setup) * total / ((ENOUGH + 2) * one_batch))
    domains = max(len(_batches_of_parts(setup, name)) for name in setup.names)
    whole = max(batches_scored(setup, name, None) for name in setup.names)
    return None if affordable * domains >= whole else domains * max(FEWEST_BATCHES, affordable)


def is_due(setup: Setup, state: State, rounds: int) -> bool:
    """Whether the models are scored after a round.

    Every ``training.evaluate_every`` rounds where that is given. Otherwise when this evaluation and the last one of the
    run keep within ``arena.evaluation_share`` of what will have been spent by then: in device-seconds where the clock
    has a say anyway (its length or its price is in seconds), in counted operations where runs repeat to the bit.
    """
    every = setup.config.training.evaluate_every
    if every:
        return rounds % every == 0
    accounts = state.accounts.values()
    if setup.arena.price == "seconds" or (setup.spend is not None and setup.spend.of == "seconds"):
        spent, scoring = sum(a.seconds for a in accounts), sum(a.evaluation_seconds for a in accounts)
    else:
        spent, scoring = sum(a.flops for a in accounts), sum(a.evaluation_flops for a in accounts)
    once = scoring / max(1, len(state.history.scores))
    since = fraction(setup, state, rounds) - float(state.history.fraction[-1])
    return since >= 1 / MOST and scoring + 2 * once <= _share(setup) * (spent + 2 * once)


def _share(setup: Setup) -> float:
    return EVALUATION_SHARE if setup.arena.evaluation_share is None else setup.arena.evaluation_share


def _run_flops(setup: Setup, state: State) -> float | None:
    """The operations of the whole run, if shares stayed as they are; None where its length is in seconds."""
    if setup.spend is not None:
        return setup.spend.amount if setup.spend.of == "flops" else None
    steps = steps_per_round(state.shares, setup.arena.round_scale).tolist()
    length = {name: rows.lengths[-1] for name, rows in setup.parts.train.items()}
    of_round = sum(
        count * step_rows(setup, state, name) * row_flops(setup, name, length[name])
        for name, count in zip(setup.names, steps, strict=True)
    )
    return (setup.rounds or 0) * of_round
