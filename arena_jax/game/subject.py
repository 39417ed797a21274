"""The model that is analysed, with its data: one of a run's, or any Hugging Face folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arena_jax import data, models
from arena_jax.config import DataConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria import arguments
from arena_jax.training.folder_model import has_description, is_model_folder, load_folder
from arena_jax.training.objectives import Objective


class Subject(NamedTuple):
    """A trained model and what it is asked.

    Attributes:
        name: the model's in its run, or the folder's.
        model: with the task's head.
        objective: of its task.
        tokenizer: its own.
        train: rows to calibrate on and to train windows on.
        validation: rows of the probe.
        learning_rate: of the run; None for a folder.
    """

    name: str
    model: models.Transformer
    objective: Objective
    tokenizer: data.Tokenizer
    train: data.Encoded
    validation: data.Encoded
    learning_rate: float | None

    def batches(self, rows: data.Encoded, count: int, size: int) -> list[Mapping[str, Any]]:
        """About ``count`` rows, evenly spread over the set, as batches of one shape.

        Raises:
            ArenaError: a count below 1.
        """
        count = arguments.count(count, "the number of sequences", "how many rows are looked at")
        size = min(size, count, len(rows))
        rows_used = max(1, min(count, len(rows)) // size) * size
        indices = np.unique(np.linspace(0, len(rows) - 1, rows_used).astype(np.int64))
        indices = np.resize(indices, rows_used)
        length = rows.padded_length(indices)
        return [rows.batch(indices[i : i + size], length) for i in range(0, rows_used, size)]


def load_subject(
    target: str | Path,
    *,
    dataset: str | None = None,
    model: str | None = None,
    max_length: int = 128,
    language: bool = False,
) -> Subject:
    """Find a model and its data.

    Args:
        target: a run's folder, or a Hugging Face folder with its tokenizer.
        dataset: data set (name, file or folder); the run's own if not given.
        model: which of a run's models; its first if not given.
        max_length: longest input in tokens, for a Hugging Face folder.
        language: refuse what is no language model, before its data are read.

    Returns:
        The subject.

    Raises:
        ArenaError: neither kind of folder, no such model, another task, or data that the model cannot take.
    """
    folder = Path(target)
    if is_model_folder(folder):
        if model is not None:
            raise ArenaError(f"'{folder}' holds one model: leave --model out")
        return _from_folder(folder, dataset, max_length, language)
    if not has_description(folder):
        raise ArenaError(
            f"'{folder}' is neither a run's folder nor a Hugging Face folder: it has no readable config.json"
        )
    return _from_run(folder, dataset, model, language)


def check_language(task: str, name: str) -> None:
    """Refuse another task than a language model's.

    Raises:
        ArenaError: naming the task.
    """
    if data.data_task(task) != "language-model":
        raise ArenaError(f"perplexity is a language model's; the task of '{name}' is {task}: give a language model")


def _from_folder(folder: Path, dataset: str | None, max_length: int, language: bool) -> Subject:
    if dataset is None:
        raise ArenaError(f"'{folder}' is a model without data: name a data set with --data")

    def before_data(model: models.Transformer) -> None:
        if language:
            check_language(model.task, folder.name)

    config = DataConfig(name=dataset, max_length=max_length)
    loaded = load_folder(folder, config, ("train", "validation"), before_data)
    rows = loaded.rows
    return Subject(
        loaded.name, loaded.model, loaded.objective, loaded.tokenizer, rows["train"], rows["validation"], None
    )


def _from_run(folder: Path, dataset: str | None, name: str | None, language: bool) -> Subject:
    from arena_jax.runs.folder import load_run
    from arena_jax.training import restore
    from arena_jax.training.build import encode, load_split, problem_type

    config = load_run(folder)
    names = [model.name for model in config.models]
    name = names[0] if name is None else name
    if name not in names:
        raise ArenaError(f"the run has no model '{name}'; {nearest(name, names)}")
    if language:
        check_language(config.task, folder.name)
    parts, step, state = restore(folder, config)
    model = models.merge(step.structures[name], state.params[name])
    tokenizer = parts.tokenizers[name]
    train, validation = parts.train[name], parts.validation[name]
    if dataset is not None:
        changed_config = dataclasses.replace(
            config.data, name=dataset, hold_out="rows", problem_type=problem_type(config)
        )
        train, validation = (
            encode(
                model,
                name,
                changed_config,
                load_split(changed_config, config.task, split, None),
                tokenizer,
                learning=False,
            )
            for split in ("train", "validation")
        )
    if train.stream is not None:
        raise ArenaError(
            f"the run learnt from a stream, {config.data.name}: name a data set that can be read whole, --data"
        )
    rate = config.model(name).learning_rate or config.optimizer.learning_rate
    return Subject(name, model, parts.objectives[name], tokenizer, train, validation, rate)
