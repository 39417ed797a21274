"""Scores of models on a whole data set: sums over its examples, every example once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arena_jax import data
from arena_jax.runs.folder import load_run
from arena_jax.runtime.devices import local_rows
from arena_jax.training import metrics
from arena_jax.training.build import encode, load_split, problem_type
from arena_jax.training.restore import restore
from arena_jax.training.step import Step


def score(
    step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int, variables: Any = None
) -> dict[str, float]:
    """Score one model.

    Args:
        step: knows the model and its objective.
        params: the model's parameter tree.
        name: the model's name.
        rows: the data set as its tokens.
        batch_size: examples at a time; raised to what the devices divide.
        variables: of the model's module, where it has any beside its parameters.

    Returns:
        ``loss`` (nats) and what the task has: ``accuracy``; ``perplexity`` and ``bits_per_byte``; ``entity_f1``;
        ``exact_match`` and ``f1``.
    """
    totals: dict[str, float] = {}
    predicted: list[Any] = []
    for batch, result in results(step, params, name, rows, batch_size, variables):
        totals = metrics.add(totals, result.sums)
        if result.outputs:
            predicted.append((batch, jax.tree.map(np.asarray, result.outputs)))
    return metrics.finalize(rows, totals, predicted)


def evaluate(
    run: Path,
    dataset: str | None = None,
    split: str = "validation",
    checkpoint: str = "newest",
    *,
    columns: tuple[tuple[str, str], ...] = (),
    label_names: tuple[str, ...] = (),
) -> dict[str, dict[str, float]]:
    """Score a run's checkpoint.

    Args:
        run: the run's folder.
        dataset: another data set than the run's (name, file, folder or id); the run's own if not given.
        split: which split of it.
        checkpoint: ``"newest"``, ``"best"`` (by the run's score), a step, ``"ema"`` or ``"mean:K"``; see
            :func:`restore`.
        columns: which column of the data plays which part, where that is not as in the run.
        label_names: names of class 0, 1, … of the data, where that is not as in the run.

    Returns:
        ``{model: {metric: value}}``, the metrics of :func:`score`.

    Raises:
        ArenaError: no such run or split, or data that the models cannot take.
    """
    config = load_run(run)
    parts, step, state = restore(run, config, checkpoint)
    source = dataclasses.replace(
        config.data,
        name=dataset or config.data.name,
        hold_out=config.data.hold_out if dataset is None else "rows",
        columns=columns or config.data.columns,
        label_names=label_names or config.data.label_names,
        problem_type=problem_type(config),
    )
    examples = load_split(source, config.task, split, source.validation_limit)
    scores = {}
    for name, model in parts.models.items():
        rows = encode(model, name, config.data, examples, parts.tokenizers[name], learning=False)
        scores[name] = score(step, state.params[name], name, rows, config.training.evaluation_batch_size)
    return scores


def first_batch(step: Step, rows: data.Encoded, batch_size: int) -> dict[str, np.ndarray]:
    """The first batch that :func:`score` would look at; its shapes are those of every one of a length."""
    return local_rows(next(iter(data.evaluation_batches(rows, rows_per_batch(step, batch_size)))))


def rows_per_batch(step: Step, batch_size: int) -> int:
    """Rows of an evaluation's batch: as many as asked for, rounded up to the same number on each device."""
    devices = step.mesh.size
    return -(-batch_size // devices) * devices


def results(
    step: Step, params: Any, name: str, rows: data.Encoded, batch_size: int, variables: Any, batches: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Each batch with its result, both whole on every process; one is computed while the last one is read.

    ``batches``: the first so many alone; all if None.
    """
    waiting = None
    every = data.evaluation_batches(rows, rows_per_batch(step, batch_size))
    for index, batch in enumerate(itertools.islice(every, batches)):
        result = step.evaluate(name, params, local_rows(batch), index, variables)
        if waiting is not None:
            yield waiting
        waiting = (batch, result)
    if waiting is not None:
        yield waiting
