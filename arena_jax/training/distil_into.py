"""A run's ensemble, distilled into one of its models: a run of its own, in which all models teach and one learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.config import ModelConfig, RunConfig, TogetherConfig
from arena_jax.config.errors import ArenaError, few
from arena_jax.config.model import OF_PRESETS
from arena_jax.runs.folder import load_run
from arena_jax.training.ensemble import check_run, ensemble
from arena_jax.training.export import export
from arena_jax.training.train import train

TEACHERS = "teachers"  # the folder of the run's models, exported, inside the run's


def distil_into(
    run: Path,
    model: str,
    output: Path | None = None,
    checkpoint: str = "newest",
    *,
    weights: Mapping[str, float] | None = None,
) -> Path:
    """Train one of a run's models further, on labels and on what all of them say together, itself as it is included.

    Teachers have the weights that the ensemble is fitted with on the validation split, and stay as they are; a model
    that has diverged, or has no weight, does not teach. The run that this makes is like any other: it is resumed,
    evaluated and exported by the same commands.

    Args:
        run: the run's folder.
        model: the one that learns, from its own parameters on.
        output: folder of the new run; ``RUN/distilled-MODEL`` if not given.
        checkpoint: of the run, as :func:`arena_jax.training.restore`.
        weights: ``{model: weight}`` of the teachers; those of :func:`arena_jax.training.ensemble` if None.

    Returns:
        The new run's folder.

    Raises:
        ArenaError: models that have no common prediction, or do not see the same rows; with the reason.
        Stopped: Ctrl-C or SIGTERM came, and everything is saved.
    """
    config = load_run(run)
    check_run(config)
    student = config.model(model)
    if config.arena:
        raise ArenaError("a competition's models have batches of their own: their ensemble has no rows to teach on")
    if weights is None:
        weights = ensemble(run, checkpoint=checkpoint).weights
    if not weights[model] > 0:
        raise ArenaError(
            f"model '{model}' has no part in the ensemble, and its parameters are what it would begin with: give one of"
            f" {few([name for name, weight in weights.items() if weight > 0])}"
        )
    folders = {member.name: run / TEACHERS / member.name for member in config.models}
    distilled = distillation_config(config, student, folders, weights)
    for name, folder in folders.items():
        if weights[name] > 0:
            export(run, name, folder, checkpoint)
    return train(distilled, run / f"distilled-{model}" if output is None else output)


def distillation_config(
    config: RunConfig, student: ModelConfig, folders: Mapping[str, Path], weights: Mapping[str, float]
) -> RunConfig:
    """The configuration of that run.

    Args:
        config: of the run whose models teach.
        student: which of them learns; it keeps its name, and its copy that teaches is ``NAME-teacher``.
        folders: ``{model: Hugging Face folder}``.
        weights: ``{model: weight}`` of those that teach; 0: it does not.

    Raises:
        ArenaError: models that do not see the same rows, or a name that is taken.
    """

    def trained(model: ModelConfig, name: str) -> ModelConfig:
        fields: dict[str, Any] = {
            "preset": None,
            "start": None,
            "start_parts": (),
            "tokenizer": None,
            "resize": (),  # its folder has the last shape
            "teacher_weight": 1.0,
            **dict.fromkeys(OF_PRESETS),
        }
        return dataclasses.replace(model, name=name, checkpoint=str(folders[model.name]), **fields)

    copy = f"{student.name}-teacher"
    teachers = [
        dataclasses.replace(
            trained(model, copy if model.name == student.name else model.name), teacher_weight=weights[model.name]
        )
        for model in config.models
        if weights[model.name] > 0
    ]
    together = config.together
    return dataclasses.replace(
        config,
        models=(trained(student, student.name), *teachers),
        together=TogetherConfig(
            distil_into=student.name,
            distil_alpha=together.distil_alpha,
            distil_temperature=together.distil_temperature,
            ema=together.ema,
        ),
        optimizer=dataclasses.replace(config.optimizer, weights_follow="none"),
        # Their heads are trained by now, also where the run began with new ones.
        data=dataclasses.replace(config.data, new_head=False),
        training=dataclasses.replace(config.training, output=None, mirror=None),
    )
