"""From a configuration to what trains: token rows, models and objectives, one of each per model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax

from arena_jax import data, models
from arena_jax.config import DataConfig, ModelConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runtime import processes
from arena_jax.training.objectives import Objective, objective_for


class Parts(NamedTuple):
    """What a run is made of.

    Attributes:
        models: ``{name: model}``.
        objectives: ``{name: objective}``.
        tokenizers: ``{name: tokenizer}``.
        train: ``{name: rows}`` to learn from.
        validation: ``{name: rows}`` to be scored on.
        notes: what a person should know of the data, a line each.
    """

    models: dict[str, Any]
    objectives: dict[str, Objective]
    tokenizers: dict[str, data.Tokenizer]
    train: dict[str, data.Encoded]
    validation: dict[str, data.Encoded]
    notes: list[str]


def model_task(task: str, family: str) -> str:
    """What a model of a family does in a run: a language model is causal in GPT-2 and masked in the others.

    Example:
        >>> model_task("language-model", "gpt2"), model_task("language-model", "bert")
        ('causal-lm', 'masked-lm')
    """
    if task != "language-model":
        return task
    return "causal-lm" if family == "gpt2" else "masked-lm"


def build(config: RunConfig, tokenizers: Path | None = None) -> Parts:
    """Read the data, get the tokenizers and make the models.

    Args:
        config: of the run.
        tokenizers: a folder of this run's own tokenizers, one per model: read where they are, written where they are
            not, so that a resumed run has the same ones.

    Returns:
        All parts.

    Raises:
        ArenaError: data, tokenizers and models do not fit each other, or cannot be read.
    """
    wanted = config.data
    splits = {
        split: load_split(wanted, config.task, split, limit)
        for split, limit in (("train", wanted.train_limit), ("validation", wanted.validation_limit))
    }
    parts = Parts({}, {}, {}, {}, {}, [note for dataset in splits.values() for note in dataset.report()])
    for model in config.models:
        tokenizer = get_tokenizer(model, splits["train"], tokenizers)
        made = make_model(model, config, tokenizer, splits["train"])
        encoded = {split: encode(made, model.name, config, dataset, tokenizer) for split, dataset in splits.items()}
        parts.models[model.name] = made
        parts.tokenizers[model.name] = tokenizer
        parts.objectives[model.name] = objective_for(
            made.task, mask_token_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size
        )
        parts.train[model.name], parts.validation[model.name] = encoded["train"], encoded["validation"]
        parts.notes.extend(f"{model.name}: {note}" for note in (*tokenizer.report(), *encoded["train"].report()))
    return parts


def load_split(wanted: DataConfig, task: str, split: str, limit: int | None) -> data.Dataset:
    """One split of the data that a configuration asks for, at most ``limit`` examples of it."""
    return data.load(
        wanted.name,
        task=task,
        split=split,
        columns=dict(wanted.columns),
        subset=wanted.subset,
        validation_fraction=wanted.validation_fraction,
        limit=limit,
    )


def get_tokenizer(model: ModelConfig, train: data.Dataset, folder: Path | None) -> data.Tokenizer:
    """A model's tokenizer: the run's own if it is there, else the one asked for, else one trained on the data."""
    own = None if folder is None else folder / model.name
    if own is not None and own.is_dir():
        return data.load_tokenizer(own)
    source = model.tokenizer or model.checkpoint
    if source is not None:
        tokenizer = data.load_tokenizer(source)
    else:
        assert model.family is not None
        tokenizer = data.train_tokenizer(train, model.family, vocab_size=model.vocab_size)
    if own is not None:
        # By another name first: half a tokenizer must not be found by the run that goes on after a kill.
        partial = own.with_name(f".{own.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        tokenizer.save(partial)
        partial.rename(own)
    return tokenizer


def make_model(model: ModelConfig, config: RunConfig, tokenizer: data.Tokenizer, train: data.Dataset) -> Any:
    """A model from its preset, or from its checkpoint, with the head that the data needs."""
    seed = config.training.seed ^ zlib.crc32(model.name.encode())
    options: dict[str, Any] = {"dtype": config.training.dtype, "remat": config.training.remat}
    options |= attention_options(model, config)
    if train.label_names:
        options |= {"num_labels": len(train.label_names), "label_names": train.label_names}
    if model.checkpoint is not None:
        return models.from_pretrained(model.checkpoint, task=_checkpoint_task(model, config.task), seed=seed, **options)
    family = model.family
    assert family is not None
    assert model.preset is not None
    shape = models.preset(model.preset)
    for field in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
        if getattr(model, field) is not None:
            options[field] = getattr(model, field)
    if model.dropout is not None:
        options["hidden_dropout"] = model.dropout
        if family == "gpt2":
            options["embedding_dropout"] = model.dropout
    if model.max_positions is not None:
        # RoBERTa's positions start after the padding id.
        options["max_positions"] = model.max_positions + (tokenizer.pad_id + 1 if family == "roberta" else 0)
    options |= {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
    return models.create(dataclasses.replace(shape, **options), task=model_task(config.task, family), seed=seed)


def attention_options(model: ModelConfig, config: RunConfig) -> dict[str, Any]:
    """How a model's attention is computed, as fields of its configuration; batches are padded on the right.

    Raises:
        ArenaError: cuDNN's attention in a precision that it does not have.
    """
    options: dict[str, Any] = {}
    if config.training.attention != "xla":
        if config.training.dtype == "float32":
            raise ArenaError("--attention cudnn needs half precision: add --dtype bfloat16")
        options |= {"attention": config.training.attention, "right_padded": True}
    dropout = model.dropout if model.attention_dropout is None else model.attention_dropout
    if dropout is not None:
        options["attention_dropout"] = dropout
    return options


def _checkpoint_task(model: ModelConfig, task: str) -> str:
    assert model.checkpoint is not None
    return model_task(task, models.read_config(model.checkpoint).family)


def encode(model: Any, name: str, config: RunConfig, dataset: data.Dataset, tokenizer: data.Tokenizer) -> data.Encoded:
    """A data set as a model's token rows, refused if the model cannot take them."""
    shape, length = model.config, config.data.max_length
    data.check_fits(
        length,
        tokenizer.vocab_size,
        positions=shape.max_length,
        embeddings=shape.vocab_size,
        model=name,
    )
    rows = data.encode(
        dataset,
        tokenizer,
        task=model.task,
        max_length=length,
        lengths=config.data.padded_lengths if config.data.lengths else None,
    )
    if dataset.label_names and len(dataset.label_names) != shape.num_labels:
        raise ArenaError(
            f"model '{name}' has {shape.num_labels} labels, the data has {len(dataset.label_names)}; "
            "start from a checkpoint without this head, or use data with the same labels"
        )
    return rows


def build_parts(config: RunConfig, folder: Path) -> Parts:
    """Build what a run is made of, on every process; process 0 writes the tokenizers it trained, all use the same."""
    own = folder / "tokenizers"
    there = processes.on_first(lambda: all((own / model.name).is_dir() for model in config.models))
    with processes.together():
        # A tokenizer is the same whoever trains it on the same data.
        parts = build(config, own if there or processes.first() else None)
    # Weights are not compared: process 0 hands them to all.
    rows = {name: (rows.fingerprint, parts.validation[name].fingerprint) for name, rows in parts.train.items()}
    processes.agree(zlib.crc32(json.dumps(rows, sort_keys=True).encode()), "the data")
    return parts


def process() -> dict[str, int]:
    """Which process of how many this is, as :class:`arena_jax.data.Batches` takes it."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def describe_models(parts: Parts) -> dict[str, dict[str, Any]]:
    """What the first record says of each model."""
    descriptions = {}
    for name, model in parts.models.items():
        _, params = models.split(model)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        shape = model.config
        size = f"{shape.num_layers} layers × {shape.hidden_size}, {shape.num_heads} heads"
        descriptions[name] = {
            "family": shape.family,
            "task": model.task,
            "size": f"{shape.family}, {size}",
            "parameters": count,
            "vocabulary": f"{shape.vocab_size:,} tokens",
            "left_out": list(parts.tokenizers[name].left_out),
        }
    return descriptions
