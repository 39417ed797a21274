"""Changes to a run's configuration by the names of its fields, for the command line and the arms of a comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from arena_jax.config.arena import ArenaConfig
from arena_jax.config.data import DataConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import error_text, hints, optional, plain, unknown
from arena_jax.config.model import OF_PRESETS, ModelConfig
from arena_jax.config.optimizer import OptimizerConfig
from arena_jax.config.run import RunConfig, from_dict, to_dict
from arena_jax.config.together import TogetherConfig
from arena_jax.config.training import TrainingConfig

EVERY = "*"  # in the place of a model's name
SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "training": TrainingConfig,
    "together": TogetherConfig,
    "arena": ArenaConfig,
}


def change(run: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Change fields of a configuration; all others stay as they are.

    Args:
        run: the configuration.
        changes: by section and field, nested or with dots: ``{"optimizer": {"learning_rate": 1e-3}}`` or
            ``{"optimizer.learning_rate": 1e-3}``. ``models`` is a list of the names that stay, or ``{name: {field:
            value}}``; ``*`` is each model, before what is its own. "none" leaves a field open that may be left open. A
            length of training (steps, epochs or spend) takes the place of the other.

    Returns:
        The changed configuration, checked.

    Raises:
        ArenaError: an unknown field, with the nearest one, or a wrong value.

    Example:
        >>> from arena_jax.config import presets
        >>> run = change(presets.joint_synthetic(), {"optimizer.learning_rate": 1e-3, "training": {"steps": 9}})
        >>> run.optimizer.learning_rate, run.training.steps, run.training.epochs
        (0.001, 9, None)
        >>> change(run, {"optimizer.learing_rate": 1e-3})
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown field 'optimizer.learing_rate'; did you mean 'learning_rate'?
    """
    sections: dict[str, dict[str, Any]] = {}
    values = to_dict(run)
    for name, value in nest(changes).items():
        if name in SECTIONS:
            if not isinstance(value, Mapping):
                raise ArenaError(f"{name} is {error_text(value)}: it must be an object with the fields of a section")
            unknown(list(value), SECTIONS[name], f"{name}.")
            sections[name] = {field: _open(SECTIONS[name], field, item) for field, item in value.items()}
        elif name == "models":
            values["models"] = _models(run, value)
        elif name == "task":
            values["task"] = value
        else:
            raise ArenaError(f"unknown field '{name}'; {nearest(name, (*SECTIONS, 'models', 'task'))}")
    for name, fields in replace_length(sections, competes=run.arena is not None).items():
        values[name] = (values[name] or plain(SECTIONS[name]())) | fields
    return from_dict(values)


def replace_length(sections: Mapping[str, Mapping[str, Any]], *, competes: bool) -> dict[str, dict[str, Any]]:
    """Let a new length of training take the place of the old: steps, epochs or spend, of which a run has one.

    Args:
        sections: ``{section: {field: value}}`` that change.
        competes: whether the run is a competition.

    Returns:
        The same with the other lengths set to None.

    Example:
        >>> replace_length({"training": {"steps": 5}}, competes=False)
        {'training': {'steps': 5, 'epochs': None}}
    """
    changes = {name: dict(fields) for name, fields in sections.items()}
    training = changes.get("training", {})
    # Both together are refused by the configuration.
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        if training.get(length) is not None and other not in training:
            training[other] = None
            break
    if training.get("steps") is not None and "spend" not in changes.get("arena", {}) and competes:
        changes.setdefault("arena", {})["spend"] = None
    if changes.get("arena", {}).get("spend") is not None and training.get("steps") is None:
        changes["training"] = {"epochs": None, **training, "steps": None}
    return changes


def replace_fields(model: ModelConfig, fields: Mapping[str, Any]) -> ModelConfig:
    """Change fields of one model; a checkpoint takes the place of a preset and its sizes, and a preset of a checkpoint.

    Example:
        >>> model = replace_fields(ModelConfig("m", preset="bert-tiny", num_layers=1), {"checkpoint": "some/where"})
        >>> model.preset, model.num_layers
        (None, None)
    """
    new = dict(fields)
    if new.get("checkpoint"):
        new = {"preset": None, **dict.fromkeys(OF_PRESETS), **new}
    elif new.get("preset"):
        new = {"checkpoint": None, **new}
    return ModelConfig(**{**plain(model), **new})


def collides(name: str, others: Collection[str]) -> bool:
    """Whether a field, ``section.field``, is set by others, too: by itself, or for one model where it is for each.

    Example:
        >>> collides("models.*.dropout", ["models.bert.dropout"]), collides("models.bert.dropout", ["models.*.start"])
        (True, False)
    """
    section, _, rest = name.partition(".")
    if section != "models" or "." not in rest:
        return name in others
    model, _, field = rest.partition(".")
    names = [other.split(".", 2)[1] for other in others if other.startswith("models.") and other.endswith(f".{field}")]
    return bool(names) and (model in names or EVERY in (model, *names))


def nest(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn names with dots into dictionaries in dictionaries.

    Raises:
        ArenaError: a field stands twice.

    Example:
        >>> nest({"optimizer.decay": "linear", "optimizer": {"b1": 0.8}})
        {'optimizer': {'decay': 'linear', 'b1': 0.8}}
    """
    nested: dict[str, Any] = {}
    for name, value in flat(changes).items():
        *path, last = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ArenaError(f"'{name}' is given, and so is a value for '{part}' itself; keep one")
        if last in place:
            raise ArenaError(f"the field '{name}' stands twice; keep one")
        place[last] = value
    return nested


def flat(changes: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Turn dictionaries in dictionaries into names with dots; ``columns`` and ``component_rates``, names too, stay.

    Example:
        >>> flat({"optimizer": {"b1": 0.8, "decay": "linear"}})
        {'optimizer.b1': 0.8, 'optimizer.decay': 'linear'}
    """
    names: dict[str, Any] = {}
    for name, value in changes.items():
        path = f"{where}{name}"
        whole = path == "data.columns" or path.endswith("component_rates")
        items = flat(value, f"{path}.") if isinstance(value, Mapping) and not whole else {path: value}
        for inner, item in items.items():
            if inner in names:
                raise ArenaError(f"the field '{inner}' stands twice; keep one")
            names[inner] = item
    return names


def _open(kind: type, field: str, value: Any) -> Any:
    return None if value == "none" and optional(hints(kind)[field])[1] else value


def _models(run: RunConfig, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        for name in value:
            if name != EVERY:
                run.model(name)
            if not isinstance(value[name], Mapping):
                raise ArenaError(f"models.{name} is {error_text(value[name])}: it must be an object of its fields")
            unknown(list(value[name]), ModelConfig, f"models.{name}.")
        changes = {
            name: {field: _open(ModelConfig, field, item) for field, item in fields.items()}
            for name, fields in value.items()
        }
        every = changes.get(EVERY, {})
        return [plain(replace_fields(model, every | changes.get(model.name, {}))) for model in run.models]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArenaError(f"models is {error_text(value)}: give the names of those that stay, or an object per model")
    return [plain(run.model(str(name))) for name in value]


def resolved(run: RunConfig) -> RunConfig:
    """A configuration with what its optimizer leaves open filled in: equal for runs that compute the same."""
    return dataclasses.replace(run, optimizer=run.optimizer.resolved())
