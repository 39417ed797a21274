"""What each model of a run predicts, item by item: texts, words, or tokens, the same ones for all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import data, models
from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.data.tokenizer import encodings
from arena_jax.training.batch_sums import Objective, model_inputs
from arena_jax.training.distillation import without_dropout
from arena_jax.training.entities import IGNORED
from arena_jax.training.modules import Structure, put_together
from arena_jax.training.token_losses import negative_log_likelihood, widened

_MASKS = 0x454E53  # which tokens are hidden, the same for every model


class Predictions(NamedTuple):
    """Of one model.

    Attributes:
        items: (N, 2) int64, what was predicted: the row of the data, and the place in it; ascending.
        log_probabilities: (N, classes) float64; of language models (N, 1): of the token that stands there.
        labels: (N,) int64, the right class; of language models 0.
        classes: names; empty for tokens.
    """

    items: np.ndarray
    log_probabilities: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def predict(
    name: str, model: Any, objective: Objective, rows: data.Encoded, tokenizer: data.Tokenizer, batch_size: int
) -> Predictions:
    """Let a model predict every item of a data set.

    Args:
        name: of the model, for errors.
        model: a transformer of this package.
        objective: of its task.
        rows: the data set as its tokens.
        tokenizer: of the model.
        batch_size: rows at a time.

    Raises:
        ArenaError: a task whose predictions have no probabilities that models share.
    """
    config = model.config
    if model.task in LANGUAGE_MODELS:
        return _tokens(name, model, objective, rows, batch_size)
    if model.task == "question-answering":
        raise ArenaError(
            "an ensemble of question answering is not built: answers are places in each model's own tokens"
        )
    if model.task == "sequence-classification" and rows.source.problem_type is not None:
        raise ArenaError(f"an ensemble needs one class per text; these data are for {rows.source.problem_type}")
    if batch_size < 1:
        raise ArenaError(f"batch_size is {batch_size}: give 1 or more")
    structure, params = models.split(model)
    items, probabilities, labels = [], [], []
    for start, batch in _batches(rows, batch_size):
        output = np.asarray(_log_probabilities(structure, params, model_inputs(batch)), np.float64)
        for offset in np.flatnonzero(batch["valid"]):
            row = start + int(offset)
            if model.task == "sequence-classification":
                items.append((row, 0))
                probabilities.append(output[offset][None])
                labels.append(batch["labels"][offset][None])
                continue
            scored = batch["labels"][offset] != IGNORED
            items += [(row, word) for word in _words(rows, row, tokenizer, config.max_length)]
            probabilities.append(output[offset][scored])
            labels.append(batch["labels"][offset][scored])
    result = Predictions(
        np.asarray(items, np.int64).reshape(-1, 2),
        np.concatenate(probabilities),
        np.concatenate(labels).astype(np.int64),
        config.labels(),
    )
    assert len(result.items) == len(result.labels), (len(result.items), len(result.labels))
    return result


@functools.partial(jax.jit, static_argnames="structure")  # one program for all calls, and for all models that are alike
def _log_probabilities(structure: Any, params: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    network: Any = models.merge(structure, params)
    return jax.nn.log_softmax(widened(network(**inputs)), axis=-1)


def _batches(rows: data.Encoded, batch_size: int) -> Any:
    """(number of the first row, batch) for all rows."""
    return ((i * batch_size, batch) for i, batch in enumerate(data.evaluation_batches(rows, batch_size)))


def _words(rows: data.Encoded, row: int, tokenizer: data.Tokenizer, max_length: int) -> list[int]:
    """The word behind each label of a row: words that a tokenizer makes nothing of have none."""
    length = min(max_length, rows.lengths[-1])
    words = rows.source.columns["words"][row]
    encoding = next(iter(encodings(tokenizer.configured(length, words=True), [words], is_pretokenized=True)))
    return list(dict.fromkeys(word for word in encoding.word_ids if word is not None))


def _tokens(name: str, model: Any, objective: Objective, rows: data.Encoded, batch_size: int) -> Predictions:
    """Each token that is predicted; hidden ones are drawn by one key, so that every model has to guess the same."""
    structure: Structure = without_dropout(name, model)
    _, params = models.split(model)

    @jax.jit
    def of_targets(p: Any, batch: Mapping[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        network = put_together(structure, p, {}, training=False)
        outputs = objective(network, batch, key, True).outputs

        def row(item: tuple[jax.Array, jax.Array]) -> jax.Array:  # the logits of one row at a time
            hidden, targets = item
            return -negative_log_likelihood(network.predict_tokens(hidden), targets)

        return jax.lax.map(row, (outputs["hidden"], outputs["targets"])), outputs["weight"]

    items, probabilities = [], []
    for start, batch in _batches(rows, batch_size):
        key = jax.random.fold_in(jax.random.key(_MASKS), start)
        values, weight = of_targets(params, {n: jnp.asarray(x) for n, x in batch.items()}, key)
        offsets, places = np.nonzero(np.asarray(weight) > 0)
        items.append(np.stack([start + offsets, places], axis=1))
        probabilities.append(np.asarray(values, np.float64)[offsets, places])
    whole = np.concatenate(items).astype(np.int64)
    return Predictions(whole, np.concatenate(probabilities)[:, None], np.zeros(len(whole), np.int64), ())


def align(predictions: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Keep the items that all models predicted, with classes in the order of the first model's.

    Args:
        predictions: ``{model: its predictions}``.

    Raises:
        ArenaError: classes, right answers or items differ, so that there is nothing to be combined.
    """
    first = next(iter(predictions.values()))
    codes = {name: [tuple(item) for item in p.items.tolist()] for name, p in predictions.items()}
    shared = set.intersection(*(set(items) for items in codes.values()))
    if not shared:
        raise ArenaError("the models have no prediction in common")
    aligned = {}
    for name, p in predictions.items():
        if set(p.classes) != set(first.classes) or p.log_probabilities.shape[1] != first.log_probabilities.shape[1]:
            raise ArenaError(f"model '{name}' knows the classes {', '.join(p.classes)}, not {', '.join(first.classes)}")
        common = np.asarray([item in shared for item in codes[name]])
        order = [p.classes.index(label) for label in first.classes] or [0]
        renamed = np.argsort(order)
        aligned[name] = Predictions(
            p.items[common], p.log_probabilities[common][:, order], renamed[p.labels[common]], first.classes
        )
    labels = [p.labels for p in aligned.values()]
    if any((other != labels[0]).any() for other in labels[1:]):
        raise ArenaError("the models' rows do not hold the same labels: they are not of the same data")
    return aligned
