"""Scores of models on a whole data set: sums over its examples, every example once."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arena_jax import data
from arena_jax.runs.folder import load_run
from arena_jax.runtime.devices import local_rows
from arena_jax.training import metrics
from arena_jax.training.build import encode, load_split, problem_type
from arena_jax.training.build_domains import domain_sources, encode_domains
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
        ``{model: {metric: value}}``, the metrics of :func:`score`. Of a run with several domains, by its own data, as
        the run scores itself: a model's metrics are the mean over domains, and ``"model domain"`` has those of each.

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
    domains = domain_sources(config, source) if dataset is None else {}
    texts = {
        domain: {split: load_split(part, config.task, split, part.validation_limit)}
        for domain, part in (domains or {"": source}).items()
    }
    scores: dict[str, dict[str, float]] = {}
    for name, model in parts.models.items():
        rows_of = functools.partial(encode, model, name, config.data, tokenizer=parts.tokenizers[name], learning=False)
        score_of = functools.partial(
            score, step, state.params[name], name, batch_size=config.training.evaluation_batch_size
        )
        if not domains:
            scores[name] = score_of(rows=rows_of(texts[""][split]))
            continue
        _, each = encode_domains(rows_of, texts)
        by_domain = {domain: score_of(rows=rows[split]) for domain, rows in each.items()}
        scores[name] = mean_metrics(by_domain)
        scores |= {f"{name} {domain}": metrics for domain, metrics in by_domain.items()}
    return scores


def mean_metrics(by_domain: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """A model's metrics where there are several domains: the mean over them, which count alike.

    Example:
        >>> mean_metrics({"law": {"loss": 1.0}, "news": {"loss": 2.0}})
        {'loss': 1.5}
    """
    each = list(by_domain.values())
    return {metric: sum(of[metric] for of in each) / len(each) for metric in each[0]}


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
