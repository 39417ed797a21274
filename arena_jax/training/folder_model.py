"""A model from any Hugging Face folder, with its tokenizer and the rows of a data set, all checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import optax

from arena_jax import data, models
from arena_jax.config import DataConfig
from arena_jax.training.build import encode, load_split
from arena_jax.training.evaluation import score
from arena_jax.training.make_step import make_step
from arena_jax.training.objectives import Objective, objective_for


class FolderModel(NamedTuple):
    """What a folder and a data set make together.

    Attributes:
        name: the folder's.
        model: with the head that it was saved with.
        objective: of its task.
        tokenizer: its own.
        rows: ``{split: rows}``.
        notes: what a person should know, a line each.
    """

    name: str
    model: models.Transformer
    objective: Objective
    tokenizer: data.Tokenizer
    rows: dict[str, data.Encoded]
    notes: list[str]


def _description(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def has_description(folder: Path) -> bool:
    """Whether a folder has a config.json that can be read: a run's, or a model's."""
    return bool(_description(folder))


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face model, and not a run."""
    content = _description(folder)
    if isinstance(content.get("models"), list):
        return False
    return "model_type" in content or bool({"hidden_size", "n_embd"} & set(content))


def load_folder(
    folder: Path,
    data_config: DataConfig,
    splits: Iterable[str],
    before_data: Callable[[models.Transformer], None] | None = None,
) -> FolderModel:
    """Read a model, its tokenizer and a data set, and check them against one another.

    Args:
        folder: a Hugging Face folder with its tokenizer; its task is what config.json says.
        data_config: the data set and how it is read; its longest input is the model's at most.
        splits: of it, such as "validation".
        before_data: called with the model before the data are read; it may refuse.

    Returns:
        All of them; rows are numbered by the names of the model's classes.

    Raises:
        ArenaError: something cannot be read, or does not agree.
    """
    model = models.from_pretrained(folder)
    if before_data is not None:
        before_data(model)
    tokenizer = data.load_tokenizer(folder)
    if model.task == "sequence-classification" and data_config.problem_type is None:
        data_config = dataclasses.replace(data_config, problem_type=model.config.labels_are)
    data_config = dataclasses.replace(data_config, max_length=min(data_config.max_length, model.config.max_length))
    rows, notes = {}, [*tokenizer.report()]
    for split in splits:
        limit = data_config.train_limit if split == "train" else data_config.validation_limit
        dataset = load_split(data_config, data.data_task(model.task), split, limit)
        notes += dataset.report()
        rows[split] = encode(model, folder.name, data_config, dataset, tokenizer, learning=False)
        notes += [f"{folder.name}: {note}" for note in rows[split].notes]
    objective = objective_for(
        model.task,
        mask_token_id=tokenizer.mask_id,
        vocab_size=tokenizer.vocab_size,
        problem_type=data_config.problem_type,
    )
    return FolderModel(folder.name, model, objective, tokenizer, rows, list(dict.fromkeys(notes)))


def evaluate_folder(
    folder: Path, data_config: DataConfig, split: str, batch_size: int = 32
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Score a Hugging Face folder on a data set.

    Args:
        folder: with the model and its tokenizer.
        data_config: the data set and how it is read.
        split: of it.
        batch_size: examples at a time.

    Returns:
        ``{folder's name: {metric: value}}``, as :func:`arena_jax.training.evaluation.score`; and what a person should
        know of model and data, a line each.

    Raises:
        ArenaError: something cannot be read, or does not agree.
    """
    subject = load_folder(folder, data_config, [split])
    step = make_step({subject.name: subject.model}, optax.identity(), {subject.name: subject.objective})
    params = step.init().params[subject.name]
    scores = score(step, params, subject.name, subject.rows[split], batch_size)
    return {subject.name: scores}, subject.notes
