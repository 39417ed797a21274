"""Models of a run that begin with what others know: another model, a Hugging Face folder, or the corpus itself."""

from __future__ import annotations

import time
import zlib
from typing import Any, NamedTuple

from arena_jax import data, models
from arena_jax.config import ModelConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.model import CORPUS
from arena_jax.models.huggingface.files import find_folder
from arena_jax.runs.session import Session
from arena_jax.training.bag_of_embeddings import BagOfEmbeddings, bag_of_embeddings
from arena_jax.training.build import Parts, model_task
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step


class WarmStarts(NamedTuple):
    """What a run begins with.

    Attributes:
        models: ``{name: model}``, all of them; those without a start are the ones that were built.
        records: ``{name: {"from", "parts", "matched", "seconds"}}`` of those with one.
        notes: what was handed down, a line each.
    """

    models: dict[str, Any]
    records: dict[str, dict[str, Any]]
    notes: list[str]


def warm_starts(config: RunConfig, parts: Parts) -> WarmStarts:
    """Hand down to each model what its ``start`` names.

    Args:
        config: of the run.
        parts: of it, as built; nothing in it is changed.

    Returns:
        The models to begin with.

    Raises:
        ArenaError: a source that cannot be read or does not fit; the message names the model.
    """
    starts = WarmStarts(dict(parts.models), {}, [])
    for model in starting_order(config):
        assert model.start is not None
        began = time.perf_counter()
        try:
            source, tokens, what = _source(model.start, model, config, parts, starts.models)
            part_names = model.start_parts or default_parts(model.start)
            result = models.hand_down(
                source, parts.models[model.name], tokens, vocabulary(parts, model.name), part_names
            )
        except ArenaError as error:
            raise ArenaError(f"model '{model.name}', start {model.start}: {error}") from None
        starts.models[model.name] = result.model
        starts.records[model.name] = {
            "from": model.start,
            "parts": list(part_names),
            "matched": result.matched,
            "seconds": time.perf_counter() - began,
        }
        starts.notes.extend(f"{model.name} starts from {what}: {line}" for line in result.report)
    return starts


def default_parts(start: str) -> tuple[str, ...]:
    """What is handed down where nothing is said: a corpus has token rows alone."""
    return ("embeddings",) if start == CORPUS else ("embeddings", "positions")


def starting_order(config: RunConfig) -> list[ModelConfig]:
    """The models with a start; who hands down comes before who follows. The configuration has refused circles."""
    waiting = [model for model in config.models if model.start is not None]
    order: list[ModelConfig] = []
    while waiting:
        names = {model.name for model in waiting}
        ready = [model for model in waiting if model.start not in names]
        order += ready
        waiting = [model for model in waiting if model not in ready]
    return order


def vocabulary(parts: Parts, name: str) -> dict[str, int]:
    """``{token: id}`` of a model's tokenizer, special tokens included."""
    tokens: dict[str, int] = parts.tokenizers[name].backend.get_vocab(with_added_tokens=True)
    return tokens


def _source(
    start: str, model: ModelConfig, config: RunConfig, parts: Parts, networks: dict[str, Any]
) -> tuple[Any, dict[str, int], str]:
    """The source, its tokens, and what it is called."""
    if start == CORPUS:
        table, what = corpus_source(model.name, config, parts)
        counted = {int(number) for number in table.any(axis=1).nonzero()[0]}
        tokens = {token: number for token, number in vocabulary(parts, model.name).items() if number in counted}
        return table, tokens, what
    if start in networks:
        return networks[start], vocabulary(parts, start), f"model '{start}'"
    folder = find_folder(start)  # once: of an id, the Hub is asked
    shape = models.read_config(folder)
    task = "causal-lm" if shape.causal else model_task("language-model", shape.family)
    tokenizer = data.load_tokenizer(start)
    tokens = tokenizer.backend.get_vocab(with_added_tokens=True)
    return models.from_pretrained(folder, task=task), tokens, f"'{start}'"


def corpus_source(name: str, config: RunConfig, parts: Parts) -> tuple[Any, str]:
    """A table (V, D) of the training texts: what a bag of embeddings learns of classes, else what tokens stand near."""
    rows, tokenizer = parts.train[name], parts.tokenizers[name]
    if rows.stream is not None:
        raise ArenaError("a text that is read as it is trained on has no table before: give a folder or a model")
    size, width = tokenizer.vocab_size, parts.models[name].config.hidden_size
    if rows.task == "sequence-classification" and rows.source.problem_type is None:
        bag, accuracy = bag_of_classes(name, config, parts)
        return bag.table, f"a bag of embeddings (by itself {100 * accuracy:.1f} % of the validation texts)"
    table = data.corpus_table(rows, size, width, special_ids=tokenizer.special_ids)
    return table, "the corpus' table (PPMI, singular vectors)"


def bag_of_classes(name: str, config: RunConfig, parts: Parts) -> tuple[BagOfEmbeddings, float]:
    """The bag of embeddings of a run's classes, with a model's tokenizer and width, and its accuracy on validation."""
    special_ids, size = parts.tokenizers[name].special_ids, parts.tokenizers[name].vocab_size
    width, seed = parts.models[name].config.hidden_size, config.training.seed ^ zlib.crc32(name.encode())
    bag = bag_of_embeddings(parts.train[name], size, width, special_ids=special_ids, seed=seed)
    rows = parts.validation[name]
    return bag, float((bag.logits(rows, special_ids).argmax(1) == rows.columns["labels"]).mean())


def begin_warm(
    session: Session, config: RunConfig, step: Step, parts: Parts, state: TrainState
) -> tuple[TrainState, WarmStarts]:
    """The state that a run begins with, its models started from others; a resumed run's is as it was saved.

    Args:
        session: of the run, after :meth:`Session.begin`.
        config: of the run; it says who starts from what.
        step: over all models.
        parts: of the run.
        state: from :meth:`Session.begin`.

    Returns:
        The state, and what was handed down.
    """
    if session.resumed or not starting_order(config):
        return state, WarmStarts(dict(parts.models), {}, [])
    starts = warm_starts(config, parts)
    return step.init({name: models.split(model)[1] for name, model in starts.models.items()}), starts
