"""The configuration of a run: frozen, checked when it is built, and written to JSON and read back exactly.

Every field is declared once, with its unit and its meaning; the command line's options are generated from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena_jax.config.arena import ArenaConfig
from arena_jax.config.data import DataConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import build, check, error_text, plain
from arena_jax.config.model import ModelConfig
from arena_jax.config.optimizer import OptimizerConfig
from arena_jax.config.scores import SCORES
from arena_jax.config.tasks import CLASSIFIERS
from arena_jax.config.together import ENSEMBLE, RACE, TogetherConfig
from arena_jax.config.training import TrainingConfig

__all__ = [
    "RunConfig",
    "ModelConfig",
    "DataConfig",
    "OptimizerConfig",
    "TrainingConfig",
    "ArenaConfig",
    "TogetherConfig",
    "TASKS",
    "load",
    "save",
    "to_dict",
    "from_dict",
    "differences",
]

TASKS = ("sequence-classification", "language-model", "token-classification", "question-answering")


@dataclass(frozen=True)
class RunConfig:
    """A whole run. Everything that decides its numbers is in here.

    Raises:
        ArenaError: where a field, or two fields together, make no sense.

    Example:
        >>> from arena_jax.config import presets
        >>> run = presets.joint_synthetic()
        >>> [model.name for model in run.models]
        ['bert', 'gpt2', 'roberta']
        >>> from_dict(to_dict(run)) == run
        True
    """

    preset: str = field(metadata={"help": "where the configuration came from; names the run's folder"})
    task: str = field(metadata={"help": "what is learnt", "choices": TASKS})
    models: tuple[ModelConfig, ...] = field(metadata={"help": "the models that train together"})
    data: DataConfig = field(metadata={"help": "what is learnt from"})
    optimizer: OptimizerConfig = field(metadata={"help": "how all of them are updated"})
    training: TrainingConfig = field(metadata={"help": "how long, and what is written"})
    together: TogetherConfig = field(
        default=TogetherConfig(), metadata={"help": "what the models learn from one another"}
    )
    arena: ArenaConfig | None = field(default=None, metadata={"help": "how models compete; none: they train together"})

    def __post_init__(self) -> None:
        check(self, "")
        if not self.models:
            raise ArenaError("models is empty: name at least one, e.g. --models bert=bert-tiny")
        names = [model.name.lower() for model in self.models]
        for i, name in enumerate(names):
            # Models have folders of their own, and some file systems do not tell Bert from bert.
            if name in names[:i]:
                raise ArenaError(f"two models are called '{self.models[i].name}': give each a name of its own")
        self._check_starts()
        self._check_teachers()
        self.together.check_models(
            [model.name for model in self.models],
            [(self.batch_size(model.name), self.accumulation(model.name)) for model in self.models],
            competition=self.arena is not None,
            sharded=self.training.shard == "parameters",
        )
        self._check_resizes()
        if self.task not in SCORES[self.training.score].tasks:
            metrics = ", ".join(name for name, score in SCORES.items() if self.task in score.tasks)
            raise ArenaError(f"training.score: {self.task} has no {self.training.score}; it has {metrics}")
        if self.arena:
            self._check_competition(self.arena)
            return
        if self.training.steps is None and self.training.epochs is None:
            raise ArenaError("training: give either steps or epochs; neither is given")
        for model in self.models:
            rows, parts = self.batch_size(model.name), self.accumulation(model.name)
            if rows % parts:
                field = "training.batch_size" if model.batch_size is None else "batch_size"
                raise ArenaError(
                    f"model '{model.name}': {field} {rows} does not divide into accumulation {parts} equal parts;"
                    " change one"
                )

    def _check_starts(self) -> None:
        by_name = {model.name: model for model in self.models}
        for model in self.models:
            relay = self.together.relay
            follows = self.together.relay_warm and relay not in (None, model.name)
            if follows and model.checkpoint is not None:
                leader = "whoever wins the race" if relay == RACE else f"'{relay}'"
                raise ArenaError(
                    f"model '{model.name}' has a checkpoint, so that it cannot start from {leader}:"
                    " give it a preset, or leave it out of the relay"
                )
            if relay in (RACE, model.name) and model.start in by_name:
                raise ArenaError(
                    f"model '{model.name}' trains alone at first, and cannot start from '{model.start}', a model of the"
                    " same run: give it corpus or a folder as its start, or none"
                )
            path, source = [model.name], by_name.get(model.start or "")
            while source is not None:
                if source.name in path:
                    raise ArenaError(
                        f"model '{model.name}': start {model.start} leads in a circle; let one of them start elsewhere"
                    )
                path.append(source.name)
                if source.checkpoint is None and source.start is None and source.name != self.together.relay:
                    raise ArenaError(
                        f"model '{path[-2]}': start {source.name} names a model that begins at random and has nothing"
                        f" to hand down: give '{source.name}' a checkpoint or a start"
                    )
                source = by_name.get(source.start or "")

    def _check_resizes(self) -> None:
        for model in self.models:
            for resize in model.resizes:
                where = f"model '{model.name}': resize at {resize.step:,}"
                if self.together.relay is not None:
                    raise ArenaError(f"{where}: a relay's steps are those of two runs; leave relay or resize out")
                if self.training.remat == "auto":
                    raise ArenaError(f"{where}: --remat auto is chosen for one shape; give remat none, dots or block")
                if self.training.steps is not None and resize.step >= self.training.steps:
                    raise ArenaError(
                        f"{where} comes after the run's {self.training.steps:,} steps: give an earlier step"
                    )
                if self.arena is not None and resize.step % self.arena.reallocate_every:
                    raise ArenaError(
                        f"{where}: a competition's models change at reallocations: give a multiple of"
                        f" arena.reallocate_every, {self.arena.reallocate_every}"
                    )

    def _check_teachers(self) -> None:
        together = self.together
        several = together.distil == ENSEMBLE or together.distil_into is not None
        for model in self.models:
            if model.teacher_weight != 1 and (not several or model.name == together.distil_into):
                raise ArenaError(
                    f"model '{model.name}': teacher_weight does nothing unless it is one of several teachers; give"
                    " distil ensemble, or distil_into with another model"
                )

    def _check_competition(self, arena: ArenaConfig) -> None:
        if self.training.epochs or (self.training.steps is None and arena.spend is None):
            raise ArenaError("a competition is so many rounds long: give training.steps (rounds) instead of epochs")
        if self.training.steps and arena.spend:
            raise ArenaError("a competition has one length: give either training.steps (rounds) or arena.spend")
        if self.training.histograms:
            raise ArenaError("a competition keeps no histograms: leave training.histograms out")
        if self.optimizer.weights_follow != "none":
            raise ArenaError("a competition's model weights stay as they are: give optimizer.weights_follow none")
        if self.training.evaluate_every is not None and arena.evaluation_share is not None:
            raise ArenaError(
                "arena.evaluation_share says how often models are scored, and so does training.evaluate_every: give one"
            )
        if arena.domains and self.task != "language-model":
            raise ArenaError(
                f"arena.domains are of texts, and the task is {self.task}: classes of two sources need not be the same"
            )
        if arena.domains and len(self.models) < 2:
            raise ArenaError("arena.domains are divided among models, and this run has one: give two or no domains")
        if arena.lesson_steps is not None and not self.together.teaches:
            raise ArenaError("arena.lesson_steps does nothing without a teacher; give together.distil, e.g. best")
        if arena.crossover is not None and self.training.shard == "parameters":
            raise ArenaError("arena.crossover has not been tried with parameters in shards: remove one of the two")
        shapes = (arena.grow_above, arena.prune_below, arena.race_steps)
        changing = any(model.resize for model in self.models) or any(option is not None for option in shapes)
        if changing and (self.together.teaches or arena.crossover is not None or arena.domains):
            raise ArenaError(
                "models of a competition that change their shape have not been tried with lessons (together.distil),"
                " arena.crossover or arena.domains: remove one of the two"
            )
        self._check_objective(arena)
        if self.training.remat == "auto":
            raise ArenaError("a competition's batches follow its memory: give training.remat none, dots or block")
        if self.data.lengths:
            raise ArenaError("a competition compiles one length per model: remove data.lengths")

    def _check_objective(self, arena: ArenaConfig) -> None:
        score = self.training.score
        if arena.target is not None and not SCORES[score].low <= arena.target <= SCORES[score].high:
            low, high = SCORES[score].low, SCORES[score].high
            raise ArenaError(f"arena.target is {arena.target:g}: {score} lies between {low:g} and {high:g}")
        if arena.objective != "ensemble":
            return
        if self.task not in CLASSIFIERS or self.data.problem_type not in (None, "single_label_classification"):
            raise ArenaError(
                "objective ensemble mixes what models say of one class each, and this task has none: "
                "`arena-jax ensemble RUN` scores language models together after a run"
            )
        if score != "loss":
            raise ArenaError(
                f"objective ensemble is judged by the loss of the mixture, and not by {score}: --score loss"
            )
        if len(self.models) < 2:
            raise ArenaError("an ensemble needs two models; this run has one")

    def model(self, name: str) -> ModelConfig:
        """Return the model of that name."""
        for model in self.models:
            if model.name == name:
                return model
        raise ArenaError(f"this run has no model '{name}'; {nearest(name, [m.name for m in self.models])}")

    def batch_size(self, model: str) -> int:
        """Examples of a model per step, over all devices: its own or the run's."""
        return self.model(model).batch_size or self.training.batch_size

    def accumulation(self, model: str) -> int:
        """Microbatches of a model per step: its own or the run's."""
        return self.model(model).accumulation or self.training.accumulation


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Turn a configuration into dictionaries, lists, texts and numbers, as JSON holds them."""
    result: dict[str, Any] = plain(config)
    return result


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Build a configuration from what `to_dict` returns.

    Raises:
        ArenaError: for an unknown field (with the nearest name), a missing one, or a wrong value.

    Example:
        >>> from_dict({"preset": "mine", "taks": "language-model"})
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown field 'taks'; did you mean 'task'?
    """
    run: RunConfig = build(RunConfig, values)
    return run


def save(config: RunConfig, path: str | Path) -> None:
    """Write a configuration as JSON, complete or not at all.

    Raises:
        ArenaError: where the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(to_dict(config), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ArenaError(f"cannot write the configuration to {path}: {error.strerror or error}") from error


def load(path: str | Path) -> RunConfig:
    """Read a configuration that `save` wrote or a person edited.

    Raises:
        ArenaError: where the file cannot be read, is not JSON, or holds a wrong field; the message names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, or a NUL in the path
        raise ArenaError(f"cannot read the configuration {path}: it is not UTF-8 text") from error
    try:
        values = json.loads(text, object_pairs_hook=_no_doubles)
    except ArenaError as error:
        raise ArenaError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise ArenaError(f"{path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (RecursionError, ValueError):  # nested or long beyond what Python reads
        raise ArenaError(f"{path} is not a configuration: it is nested too deeply or holds a huge number") from None
    if not isinstance(values, dict):
        raise ArenaError(f"{path} is not a configuration: it must hold one JSON object")
    if "model_type" in values:
        raise ArenaError(f"'{Path(path).parent}' is a Hugging Face model, not a run; give the folder of a run")
    try:
        return from_dict(values)
    except ArenaError as error:
        raise ArenaError(f"{path}: {error}") from None


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for i, (name, _) in enumerate(pairs):
        if any(name == other for other, _ in pairs[:i]):
            raise ArenaError(f"the field '{name}' stands twice; keep one")
    return dict(pairs)


def differences(a: RunConfig, b: RunConfig) -> list[str]:
    """List the fields in which two configurations differ, models compared by name.

    Returns:
        One text per field, "where: value in a → value in b".

    Example:
        >>> from dataclasses import replace
        >>> from arena_jax.config import presets
        >>> run = presets.joint_synthetic()
        >>> other = replace(run, training=replace(run.training, seed=7))
        >>> differences(run, other)
        ['training.seed: 0 → 7']
    """
    old, new = _flat(to_dict(a)), _flat(to_dict(b))
    return [
        f"{where}: {old.get(where, 'absent')} → {new.get(where, 'absent')}"
        for where in dict.fromkeys([*old, *new])
        if old.get(where, "absent") != new.get(where, "absent")
    ]


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name == "models":
            value = {model["name"]: model for model in value}
        if isinstance(value, dict) and name != "columns":
            flat.update(_flat(value, f"{where}{name}."))
        else:
            flat[where + name] = error_text(value)
    return flat
