"""The models of a run as one answer: weights and temperature fitted, scored beside each model, and what each adds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import data, models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, few
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.runs.folder import load_run
from arena_jax.training import combination
from arena_jax.training.build import Parts, encode, load_split, problem_type
from arena_jax.training.combination import Array, calibration_error, calibration_sums, interval, row_sums
from arena_jax.training.entities import IGNORED, entity_sums, is_entity_scheme
from arena_jax.training.predictions import Predictions, align, predict
from arena_jax.training.restore import restore

Score = tuple[float, float, float]  # value, and the ends of its 95 % interval


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A run's models together.

    Attributes:
        split: that was scored.
        fitted_on: where weights and temperature come from.
        items: texts, words or tokens that were scored.
        rows: texts that they are in; intervals resample these.
        weights: ``{model: weight}``, fitted on all of the validation split.
        temperature: of the mixture, fitted there; None for language models.
        scores: ``{model, or "ensemble": {metric: (value, low, high)}}``: "accuracy", "loss" (nats),
            "calibration_error" and "entity_f1" where there are such.
        adds: ``{model: {"loss": …, "accuracy": …}}``: the ensemble without it less the whole, in nats, and the
            whole less the ensemble without it. Above 0: it helps.
        left_out: models that have diverged, their log probabilities not all finite: they have weight 0, and no scores.
    """

    split: str
    fitted_on: str
    items: int
    rows: int
    weights: dict[str, float]
    temperature: float | None
    scores: dict[str, dict[str, Score]]
    adds: dict[str, dict[str, Score]]
    left_out: tuple[str, ...] = ()


def ensemble(run: Path, split: str = "validation", checkpoint: str = "newest") -> Ensemble:
    """Combine a run's models.

    Weights and temperature are fitted on the validation split. Where that is also what is scored, each half of its
    texts is scored by what the other half was fitted on: no text is scored by a fit that has seen it.

    Args:
        run: the run's folder.
        split: what to score.
        checkpoint: as :func:`arena_jax.training.restore`.

    Returns:
        The ensemble's scores beside each model's.

    Raises:
        ArenaError: models that have no common prediction, with the reason.
    """
    config = load_run(run)
    check_run(config)
    parts, _, state = restore(run, config, checkpoint)
    networks = {
        name: models.merge(models.split(model)[0], state.params[name]) for name, model in sorted(parts.models.items())
    }
    check_models(networks, parts)
    fitting = align(_predictions(networks, config, parts, "validation"))
    scoring = fitting if split == "validation" else align(_predictions(networks, config, parts, split))
    return combine(fitting, scoring, split)


def check_run(config: RunConfig) -> None:
    """Refuse a run whose models have no common prediction, as far as its configuration shows.

    Raises:
        ArenaError: with the reason.
    """
    if len(config.models) < 2:
        raise ArenaError("an ensemble needs two models; this run has one")
    if config.task == "question-answering":
        raise ArenaError(
            "an ensemble of question answering is not built: answers are places in each model's own tokens"
        )
    if config.arena is not None and config.arena.domains:
        raise ArenaError(
            "an ensemble of a run with --domains is not built: score its models by themselves, `arena-jax evaluate RUN`"
        )


def check_models(networks: Mapping[str, Any], parts: Parts) -> None:
    """Refuse language models of several tasks or tokenizers.

    Raises:
        ArenaError: with the reason.
    """
    tasks = {name: model.task for name, model in networks.items()}
    if len(set(tasks.values())) > 1:
        named = ", ".join(f"{name} {task}" for name, task in tasks.items())
        raise ArenaError(f"these models have no common prediction ({named}): an ensemble needs one task")
    if set(tasks.values()) & set(LANGUAGE_MODELS):
        first, *others = [parts.tokenizers[name].backend.get_vocab(with_added_tokens=True) for name in networks]
        if any(other != first for other in others):
            raise ArenaError(
                "language models of different tokenizers predict different tokens: an ensemble needs one tokenizer"
            )


def _predictions(networks: Mapping[str, Any], config: RunConfig, parts: Parts, split: str) -> dict[str, Predictions]:
    source = dataclasses.replace(config.data, problem_type=problem_type(config))
    examples = load_split(source, config.task, split, source.validation_limit)
    predictions = {}
    for name, network in networks.items():
        rows: data.Encoded = encode(network, name, config.data, examples, parts.tokenizers[name], learning=False)
        size = config.training.evaluation_batch_size
        predictions[name] = predict(name, network, parts.objectives[name], rows, parts.tokenizers[name], size)
    return predictions


def combine(fitting: Mapping[str, Predictions], scoring: Mapping[str, Predictions], split: str) -> Ensemble:
    """Fit on some predictions, score on others; the same ones are cross-fitted by halves of their rows.

    Args:
        fitting: ``{model: predictions}``, aligned.
        scoring: the same of what is scored.
        split: its name.

    Raises:
        ArenaError: fewer than two models have finite predictions.
    """
    names = tuple(name for name in finite(scoring) if name in finite(fitting))
    left_out = tuple(name for name in scoring if name not in names)
    if len(names) < 2:
        raise ArenaError(
            f"an ensemble needs two models; {few(left_out)} diverged: not all log probabilities are finite numbers"
        )
    first = scoring[names[0]]
    is_language = not first.classes
    weights, temperature = _fit(fitting, names, None)
    whole = _say(fitting, scoring, names)
    rows = first.items[:, 0]
    log_probs_by_name = {name: scoring[name].log_probabilities for name in names} | {"ensemble": whole}
    sums = {name: _sums(log_probs, first.labels, is_language) for name, log_probs in log_probs_by_name.items()}
    scores = {name: _scores(parts, rows) for name, parts in sums.items()}
    if first.classes and first.items[:, 1].any() and is_entity_scheme(first.classes):
        for name, log_probs in log_probs_by_name.items():
            scores[name]["entity_f1"] = _entity_f1(log_probs, first)
    adds = {}
    for name in names:
        rest = tuple(other for other in names if other != name)
        without = _sums(_say(fitting, scoring, rest), first.labels, is_language)
        adds[name] = {
            metric: interval(row_sums(np.stack([sign * difference, np.ones(len(rows))], axis=1), rows), _mean)
            for metric, sign, difference in (
                (metric, 1 if metric == "accuracy" else -1, sums["ensemble"][metric] - without[metric])
                for metric in without
                if metric != "calibration"
            )
        }
    crossed = fitting is scoring
    return Ensemble(
        split=split,
        fitted_on="the other half of its texts" if crossed else "validation",
        items=len(rows),
        rows=len(np.unique(rows)),
        weights=dict.fromkeys(scoring, 0.0) | dict(zip(names, weights.tolist(), strict=True)),
        temperature=None if is_language else temperature,
        scores=scores,
        adds=adds,
        left_out=left_out,
    )


def finite(predictions: Mapping[str, Predictions]) -> tuple[str, ...]:
    """The models whose log probabilities are all finite: others have diverged."""
    return tuple(name for name, of_model in predictions.items() if np.isfinite(of_model.log_probabilities).all())


def mixture_loss(predictions: Mapping[str, Predictions]) -> tuple[float, float, dict[str, float]]:
    """The loss of the weighted ensemble, each half of the texts by weights that the other half was fitted on.

    A model whose log probabilities are not all finite has diverged: it has no part in it.

    Args:
        predictions: ``{model: predictions}``, aligned, of models with classes.

    Returns:
        Loss in nats, its standard error over items, and ``{model: weight}``, fitted on all of them, 0 for a model that
        has diverged; NaN, NaN and equal weights where all have.
    """
    names = finite(predictions)
    if not names:
        return float("nan"), float("nan"), dict.fromkeys(predictions, 1 / len(predictions))
    first = predictions[names[0]]
    losses = _sums(_say(predictions, predictions, names), first.labels, is_language=not first.classes)["loss"]
    weights, _ = _fit(predictions, names, None)
    error = float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else float("nan")
    return (
        float(losses.mean()),
        error,
        dict.fromkeys(predictions, 0.0) | dict(zip(names, weights.tolist(), strict=True)),
    )


def _fit(predictions: Mapping[str, Predictions], names: tuple[str, ...], where: Array | None) -> tuple[Array, float]:
    """Weights and temperature by the items of a mask; all if it is None."""
    first = predictions[names[0]]
    where = np.ones(len(first.labels), bool) if where is None else where
    labels = first.labels[where]
    log_probs = np.stack([predictions[name].log_probabilities[where] for name in names])
    weights = combination.fit_weights(log_probs[:, np.arange(len(labels)), labels])
    if not first.classes:
        return weights, 1.0
    return weights, combination.fit_temperature(combination.mixture(log_probs, weights), labels)


def _say(fitting: Mapping[str, Predictions], scoring: Mapping[str, Predictions], names: tuple[str, ...]) -> Array:
    """The ensemble's log probabilities of what is scored, by a fit that has not seen it."""
    first = scoring[names[0]]
    log_probs = np.stack([scoring[name].log_probabilities for name in names])
    if fitting is scoring:
        _, order = np.unique(first.items[:, 0], return_inverse=True)
        halves = [(order % 2 == half, order % 2 != half) for half in (0, 1)]
        if any(not fit.any() for _, fit in halves):
            raise ArenaError("one text cannot be both fitted on and scored: give more, or another --split")
    else:
        halves = [(np.ones(len(first.labels), bool), np.ones(len(fitting[names[0]].labels), bool))]
    result = np.empty(log_probs.shape[1:])
    for scored, fit in halves:
        weights, temperature = _fit(fitting, names, fit)
        mixed = combination.mixture(log_probs[:, scored], weights)
        result[scored] = mixed if not first.classes else combination.tempered(mixed, temperature)
    return result


def _sums(log_probs: Array, labels: Array, is_language: bool) -> dict[str, Array]:
    """What each item adds: loss, and with classes whether it is right, and its bin of confidence."""
    loss = -log_probs[np.arange(len(labels)), labels]
    if is_language:
        return {"loss": loss}
    right = (log_probs.argmax(axis=1) == labels).astype(float)
    return {"accuracy": right, "loss": loss, "calibration": calibration_sums(log_probs, labels)}


def _mean(sums: Array) -> Array:
    result: Array = sums[..., 0] / sums[..., 1]
    return result


def _scores(sums: Mapping[str, Array], rows: Array) -> dict[str, Score]:
    scores = {
        name: interval(row_sums(np.stack([sums[name], np.ones(len(rows))], axis=1), rows), _mean)
        for name in ("accuracy", "loss")
        if name in sums
    }
    if "calibration" in sums:
        scores["calibration_error"] = interval(row_sums(sums["calibration"], rows), calibration_error)
    return scores


def _entity_f1(log_probs: Array, first: Predictions) -> Score:
    """Of words: entities found, in sentences as they stand."""
    rows, places = np.unique(first.items[:, 0], return_inverse=True)
    width = int(np.bincount(places).max())
    position = np.concatenate([np.arange(count) for count in np.bincount(places)])
    labels = np.full((len(rows), width), IGNORED)
    predicted = np.zeros((len(rows), width), int)
    labels[places, position], predicted[places, position] = first.labels, log_probs.argmax(axis=1)
    counts = np.asarray(
        [list(entity_sums(labels[i : i + 1], predicted[i : i + 1], first.classes).values()) for i in range(len(rows))]
    )

    def f1(sums: Array) -> Array:
        result: Array = 2 * sums[..., 2] / np.maximum(sums[..., 0] + sums[..., 1], 1)
        return result

    return interval(counts, f1)
