"""From a configuration to what trains: token rows, models and objectives, one of each per model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from arena_jax import data, models
from arena_jax.config import DataConfig, ModelConfig, RunConfig
from arena_jax.config.agreement import Agreement, check, unnamed
from arena_jax.config.errors import ArenaError, few
from arena_jax.config.model import OF_PRESETS
from arena_jax.models.huggingface.files import find_folder
from arena_jax.runtime import processes
from arena_jax.runtime.precision import computation_dtype
from arena_jax.training.attention_choice import choose_attention
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


def build(config: RunConfig, tokenizers: Path | None = None, splits: Mapping[str, data.Dataset] | None = None) -> Parts:
    """Read the data, get the tokenizers and make the models.

    Args:
        config: of the run.
        tokenizers: a folder of this run's own tokenizers, one per model: read where they are, written where they are
            not, so that a resumed run has the same ones.
        splits: of :func:`load_splits`, where they are read already.

    Returns:
        All parts.

    Raises:
        ArenaError: data, tokenizers and models do not fit each other, or cannot be read.
    """
    if splits is None:
        splits = load_splits(config)
    config = _with_folders(config)
    parts = Parts({}, {}, {}, {}, {}, [note for dataset in splits.values() for note in dataset.report()])
    for model in config.models:
        tokenizer = get_tokenizer(model, splits["train"], tokenizers)
        network = make_model(model, config, tokenizer, splits["train"], parts.notes)
        encoded = {
            split: encode(network, model.name, config.data, dataset, tokenizer) for split, dataset in splits.items()
        }
        parts.models[model.name] = network
        parts.tokenizers[model.name] = tokenizer
        parts.objectives[model.name] = objective_for(
            network.task,
            mask_token_id=tokenizer.mask_id,
            vocab_size=tokenizer.vocab_size,
            problem_type=splits["train"].problem_type,
        )
        parts.train[model.name], parts.validation[model.name] = encoded["train"], encoded["validation"]
        parts.notes.extend(f"{model.name}: {note}" for note in (*tokenizer.report(), *encoded["train"].report()))
    return parts


def load_splits(config: RunConfig) -> dict[str, data.Dataset]:
    """The data that a run is built on: ``"train"`` and ``"validation"``.

    Raises:
        ArenaError: they cannot be read, or are not what the run's models learn from.
    """
    source = dataclasses.replace(config.data, problem_type=problem_type(config))
    if data.is_stream(source.name):
        _check_stream(config)
        return _open_stream(source)
    return {
        split: load_split(source, config.task, split, limit)
        for split, limit in (("train", source.train_limit), ("validation", source.validation_limit))
    }


def _with_folders(config: RunConfig) -> RunConfig:
    """The configuration with the folder of each checkpoint in the place of its name: the Hub is asked once."""
    located = tuple(
        model
        if model.checkpoint is None
        else dataclasses.replace(
            model, checkpoint=str(find_folder(model.checkpoint)), tokenizer=model.tokenizer or model.checkpoint
        )
        for model in config.models
    )
    return dataclasses.replace(config, models=located)


def load_split(source: DataConfig, task: str, split: str, limit: int | None) -> data.Dataset:
    """One split of the data that a configuration asks for, at most ``limit`` examples of it."""
    if data.is_stream(source.name) and split == "validation" and task == "language-model":
        return _open_stream(source)["validation"]
    return data.load(
        source.name,
        task=task,
        split=split,
        columns=dict(source.columns),
        subset=source.subset,
        label_names=source.label_names,
        problem_type=source.problem_type,
        max_bad_records=source.max_bad_records,
        validation_fraction=source.validation_fraction,
        hold_out=source.hold_out,
        limit=limit,
    )


def _open_stream(source: DataConfig) -> dict[str, data.Dataset]:
    return data.open_stream(
        source.name, subset=source.subset, columns=dict(source.columns), held_out=source.validation_limit
    )


def _check_stream(config: RunConfig) -> None:
    """Refuse what cannot be with a text that is read as it is trained on.

    Raises:
        ArenaError: the run needs what a stream does not have: an end, or other examples than texts.
    """
    name = config.data.name
    for wrong, what in (
        (config.task != "language-model", f"it holds texts, for a language model, and the task is {config.task}"),
        (config.arena is not None, "a competition counts epochs, and a stream has none"),
        (config.training.steps is None, "nobody knows how long it is: give --steps"),
        (config.data.train_limit is not None, "--steps says how much of it is read, not --train-limit"),
    ):
        if wrong:
            raise ArenaError(f"{name} is read as it is trained on: {what}")


def get_tokenizer(model: ModelConfig, train: data.Dataset, folder: Path | None) -> data.Tokenizer:
    """A model's tokenizer: the run's own if it is there, else the one asked for, else one trained on the data."""
    saved = None if folder is None else folder / model.name
    if saved is not None and saved.is_dir():
        return data.load_tokenizer(saved, pad_token=model.pad_token)
    source = model.tokenizer or model.checkpoint
    if source is not None:
        tokenizer = data.load_tokenizer(source, pad_token=model.pad_token)
    else:
        assert model.family is not None
        tokenizer = data.train_tokenizer(train, model.family, vocab_size=model.vocab_size)
    if saved is not None:
        # By another name first: half a tokenizer must not be found by the run that goes on after a kill.
        partial = saved.with_name(f".{saved.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        tokenizer.save(partial)
        partial.rename(saved)
    return tokenizer


def problem_type(config: RunConfig) -> str | None:
    """What the labels of a run's sequence classification are: as its data section says, else as its checkpoints do."""
    if config.data.problem_type is not None or config.task != "sequence-classification" or config.data.new_head:
        return config.data.problem_type
    stated = set()
    for model in config.models:
        if model.checkpoint is not None and models.has_head(model.checkpoint, config.task):
            stated.add(models.read_config(model.checkpoint).labels_are)
    return stated.pop() if len(stated) == 1 else None


def make_model(
    model: ModelConfig,
    config: RunConfig,
    tokenizer: data.Tokenizer,
    train: data.Dataset,
    notes: list[str] | None = None,
) -> Any:
    """A model from its preset, or from its checkpoint, with the head that the data needs.

    A checkpoint's head stays with the names of its own classes, in their order: rows are numbered by it.

    Args:
        model: of the run.
        config: of the run.
        tokenizer: of the model.
        train: what it will learn from.
        notes: takes what a person should know of the model, a line each.
    """
    seed = config.training.seed ^ zlib.crc32(model.name.encode())
    options = computation_options(model, config, shape_before(model))
    head: dict[str, Any] = {}
    if train.label_names:
        head = {"num_labels": len(train.label_names), "label_names": train.label_names}
    if train.problem_type is not None:
        head = {"num_labels": 1} | head | {"problem_type": train.problem_type}
    if model.checkpoint is not None:
        network, about = _from_checkpoint(model, config, tokenizer, options, head, seed)
        if notes is not None:
            notes += [f"{model.name}: {note}" for note in about]
        return network
    options |= head
    family = model.family
    assert family is not None
    assert model.preset is not None
    shape = models.preset(model.preset)
    options |= preset_options(model, tokenizer.pad_id)
    options |= {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
    return models.create(dataclasses.replace(shape, **options), task=model_task(config.task, family), seed=seed)


def preset_options(model: ModelConfig, pad_token_id: int | None) -> dict[str, Any]:
    """What a run changes about a preset's size and first values, as fields of its configuration."""
    options = {field: getattr(model, field) for field in OF_PRESETS if getattr(model, field) is not None}
    if model.max_positions is not None:
        # RoBERTa's positions start after the padding id.
        options["max_positions"] = model.max_positions + ((pad_token_id or 0) + 1 if model.family == "roberta" else 0)
    return options


def computation_options(
    model: ModelConfig, config: RunConfig, shape: models.TransformerConfig, device: Any = None
) -> dict[str, Any]:
    """How a run computes a model, as fields of its configuration; batches are padded on the right.

    Args:
        model: of the run.
        config: of the run.
        shape: of the model before the run changes it.
        device: that computes, or is compiled for; this process' first if not given.

    Raises:
        ArenaError: cuDNN's attention in a precision that it does not have.
    """
    device = jax.local_devices()[0] if device is None else device
    options: dict[str, Any] = {"dtype": computation_dtype(config.training.dtype, device)}
    if config.training.remat != "auto":  # which one that is, the step's memory decides
        options["remat"] = config.training.remat
    if config.training.attention == "cudnn" and options["dtype"] == "float32":
        raise ArenaError("--attention cudnn needs half precision: add --dtype bfloat16")
    if model.dropout is not None:
        options |= {"hidden_dropout": model.dropout, "attention_dropout": model.dropout}
        if shape.family == "gpt2":
            options["embedding_dropout"] = model.dropout
    if model.attention_dropout is not None:
        options["attention_dropout"] = model.attention_dropout
    computed = shape.replace(**options, **preset_options(model, shape.pad_token_id))
    attention = choose_attention(computed, config, device)
    return options | {"attention": attention, "right_padded": attention == "cudnn"}


def shape_before(model: ModelConfig) -> models.TransformerConfig:
    """A model's configuration before a run changes it: of its preset, or of the checkpoint's folder."""
    if model.preset is not None:
        return models.preset(model.preset)
    assert model.checkpoint is not None
    return models.read_config(model.checkpoint)


def _from_checkpoint(
    model: ModelConfig,
    config: RunConfig,
    tokenizer: data.Tokenizer,
    options: dict[str, Any],
    head: dict[str, Any],
    seed: int,
) -> tuple[Any, list[str]]:
    """A model from its checkpoint, and what a person should know of it."""
    assert model.checkpoint is not None
    notes = []
    source = models.read_config(model.checkpoint)
    task = model_task(config.task, source.family)
    labelled = bool(head)
    if labelled and (config.data.new_head or not models.has_head(model.checkpoint, task)):
        options = options | head
        notes.append(f"a new head for {task}, drawn from seed {seed}")
    elif labelled and unnamed(source.label_names) and source.num_labels == head["num_labels"]:
        names = head.get("label_names")
        options = options | head
        if names:
            order = few([f"{i} is {name}" for i, name in enumerate(names)])
            notes.append(f"the checkpoint's outputs have no names; they are taken as the data number them: {order}")
    if source.family == "gpt2" and task == "sequence-classification" and source.pad_token_id != tokenizer.pad_id:
        options = options | {"pad_token_id": tokenizer.pad_id}
        before = "no token" if source.pad_token_id is None else f"token {source.pad_token_id}"
        token = tokenizer.backend.id_to_token(tokenizer.pad_id)
        notes.append(
            f"config.json pads with {before}: set to the tokenizer's {tokenizer.pad_id} ('{token}'), before which the "
            "last token of a text is looked for"
        )
    network = models.from_pretrained(
        model.checkpoint, task=task, seed=seed, new_head=config.data.new_head and labelled, **options
    )
    return network, notes


def agree(
    model: Any, name: str, tokenizer: data.Tokenizer, dataset: data.Dataset, max_length: int, *, learning: bool
) -> tuple[data.Dataset, Agreement]:
    """Check a model, its tokenizer and a data set against one another.

    Args:
        model: of the data's task.
        name: for messages.
        tokenizer: of the model.
        dataset: what it is to learn, or to be scored on.
        max_length: tokens of the longest row.
        learning: whether the model will be trained.

    Returns:
        The data with its classes numbered as the model's outputs are, and what else follows.

    Raises:
        ArenaError: something does not agree; the message says all of it.
    """
    agreement = check(
        models.facts(model.config, model.task, name),
        tokenizer.facts,
        dataset.facts,
        max_length=max_length,
        learning=learning,
    )
    if agreement.outputs is not None:
        names = dataset.label_names if unnamed(model.config.label_names) else model.config.labels()
        dataset = dataset.with_outputs(agreement.outputs, names)
    return dataset, agreement


def encode(
    model: Any,
    name: str,
    config: DataConfig,
    dataset: data.Dataset,
    tokenizer: data.Tokenizer,
    *,
    learning: bool = True,
) -> data.Encoded:
    """A data set as a model's token rows, refused if the model cannot take them."""
    length = config.max_length
    dataset, agreement = agree(model, name, tokenizer, dataset, length, learning=learning)
    rows = data.encode(
        dataset,
        tokenizer,
        task=model.task,
        max_length=length,
        lengths=config.padded_lengths if config.lengths else None,
        token_types=agreement.token_types,
        documents=config.documents,
    )
    return dataclasses.replace(rows, notes=(*agreement.notes, *rows.notes))


def build_parts(config: RunConfig, folder: Path) -> Parts:
    """Build what a run is made of, on every process; process 0 writes the tokenizers it trained, all use the same."""
    tokenizers = folder / "tokenizers"
    there = processes.on_first(lambda: all((tokenizers / model.name).is_dir() for model in config.models))
    with processes.together():
        # A tokenizer is the same whoever trains it on the same data.
        parts = build(config, tokenizers if there or processes.first() else None)
    # Weights are not compared: process 0 hands them to all.
    rows = {name: (rows.fingerprint, parts.validation[name].fingerprint) for name, rows in parts.train.items()}
    processes.agree(zlib.crc32(json.dumps(rows, sort_keys=True).encode()), "the data")
    return parts


def process() -> dict[str, int]:
    """Which process of how many this is, as :class:`arena_jax.data.Batches` takes it."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def describe_models(parts: Parts, starts: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """What the first record says of each model; ``starts`` says what those with one began with."""
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
            **({"start": starts[name]} if starts and name in starts else {}),
        }
    return descriptions
