"""A plan as a TOML file, or as dictionaries: read, checked, and written back."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arena_jax.compare import functions
from arena_jax.compare.plan import Arm, Outcome, Plan, Success, Tuning, fields_of
from arena_jax.config import RunConfig, from_dict, load, presets, to_dict
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError, first_line, nearest
from arena_jax.config.fields import build, error_text, plain

EXAMPLE = Path(__file__).with_name("example.toml")
_FIELDS = ("name", "base", "change", "seeds", "baseline", "arms", "outcome", "tuning", "success")
_ARM_FIELDS = ("configure", "train", "against", "grid")


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Args:
        path: a TOML file. Files that it names are relative to its folder.

    Raises:
        ArenaError: it cannot be read, or is no plan; the message names the file and what is wrong.

    Example:
        >>> read_plan(EXAMPLE).baseline
        'slow'
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArenaError(f"cannot read the plan '{path}': {error.strerror or error}") from None
    except ValueError as error:  # tomllib's own is one, and so is text that is not UTF-8
        raise ArenaError(f"the plan '{path}' is not TOML: {first_line(error)}") from None
    try:
        return plan_from({"name": path.stem, **values}, path.parent)
    except ArenaError as error:
        raise ArenaError(f"{path}: {error}") from None


def plan_from(values: Mapping[str, Any], folder: str | Path = ".") -> Plan:
    """Build a plan from dictionaries.

    Args:
        values: as a TOML file holds them. ``base`` may also be a configuration, ``configure`` and ``train`` functions.
        folder: what files named in it are relative to.

    Raises:
        ArenaError: an unknown field, with the nearest one, or a plan that compares nothing.

    Example:
        >>> plan = plan_from({"name": "rates", "base": "joint-synthetic", "seeds": 3, "baseline": "slow",
        ...                   "arms": {"slow": {"optimizer": {"learning_rate": 1e-3}}, "fast": {}},
        ...                   "outcome": {"kind": "score", "metric": "loss"}})
        >>> plan.seeds, plan.arm("slow").changes
        ((0, 1, 2), {'optimizer.learning_rate': 0.001})
    """
    folder = Path(folder)
    for name in values:
        if name not in _FIELDS:
            raise ArenaError(f"unknown field '{name}'; {nearest(str(name), _FIELDS)}")
    for name in ("name", "base", "seeds", "baseline", "arms"):
        if name not in values:
            raise ArenaError(f"{name} is missing: `arena-jax compare --example` shows a plan that has everything")
    seeds = _seeds(values["seeds"], "seeds", first=0)
    base = change(_base(values["base"], folder), _object(values.get("change", {}), "change"))
    outcome = values.get("outcome")
    return Plan(
        name=values["name"],
        base=base,
        seeds=seeds,
        arms=tuple(_arm(str(name), value, folder) for name, value in _object(values["arms"], "arms").items()),
        baseline=values["baseline"],
        outcome=Outcome.of(base) if outcome is None else build(Outcome, _object(outcome, "outcome"), "outcome."),
        tuning=_tuning(values.get("tuning"), seeds),
        success=build(Success, _object(values.get("success", {}), "success"), "success."),
    )


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as JSON holds it, with the whole base configuration; `plan_from` reads it."""
    arms: dict[str, Any] = {}
    for arm in plan.arms:
        extra = {"configure": arm.configure, "train": arm.train, "against": arm.against}
        arms[arm.name] = dict(arm.changes) | {name: value for name, value in extra.items() if value is not None}
        if arm.grid:
            arms[arm.name]["grid"] = {name: list(tried) for name, tried in arm.grid.items()}
    values: dict[str, Any] = {
        "name": plan.name,
        "base": to_dict(plan.base),
        "seeds": list(plan.seeds),
        "baseline": plan.baseline,
        "arms": arms,
        "outcome": _without_none(plain(plan.outcome)),
        "success": _without_none(plain(plan.success)),
    }
    if plan.tuning is not None:
        grid = {name: list(tried) for name, tried in plan.tuning.grid.items()}
        tuning = {"grid": grid, "seeds": list(plan.tuning.seeds), "trials": plan.tuning.trials}
        values["tuning"] = _without_none(tuning)
    return values


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _base(value: Any, folder: Path) -> RunConfig:
    if isinstance(value, RunConfig):
        return value
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, str) and value in presets.PRESETS:
        return presets.get(value)
    if isinstance(value, str) and (value.endswith(".json") or (folder / value).is_file()):
        return load(folder / value)
    raise ArenaError(f"base is {error_text(value)}: give a configuration's file or a preset; " + _preset(value))


def _preset(value: Any) -> str:
    return nearest(str(value), presets.PRESETS)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArenaError(f"{where} is {error_text(value)}: it must be a table, [{where}]")
    return value


def _seeds(value: Any, where: str, *, first: int) -> tuple[int, ...]:
    """The seeds, or as many as a number says."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= 100_000:
            raise ArenaError(f"{where} is {error_text(value)}: give how many, or a list of them")
        return tuple(range(first, first + value))
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArenaError(f"{where} is {error_text(value)}: give how many, or a list of them")
    return tuple(value)


def _arm(name: str, value: Any, folder: Path) -> Arm:
    values = dict(_object(value, f"arms.{name}"))
    extra = {field: values.pop(field) for field in _ARM_FIELDS if field in values}
    for field in ("configure", "train"):
        if callable(extra.get(field)):
            extra[field] = functions.reference(extra[field])
        elif isinstance(extra.get(field), str):
            extra[field] = functions.absolute(extra[field], folder, field)
            functions.load(extra[field])
        elif field in extra:
            raise ArenaError(f"arms.{name}.{field} is {error_text(extra[field])}: give FILE.py:NAME of a function")
    if not isinstance(extra.get("against", ""), str):
        raise ArenaError(f"arms.{name}.against is {error_text(extra['against'])}: give the name of an arm")
    return Arm(
        name,
        fields_of(values),
        extra.get("configure"),
        extra.get("train"),
        extra.get("against"),
        _grid(extra.get("grid", {}), f"arms.{name}.grid"),
    )


def _grid(value: Any, where: str) -> dict[str, tuple[Any, ...]]:
    grid = {}
    for name, tried in fields_of(_object(value, where)).items():
        if isinstance(tried, str) or not isinstance(tried, Sequence):
            raise ArenaError(f"{where}.{name} is {error_text(tried)}: it must be a list of values to try")
        grid[name] = tuple(tried)
    return grid


def _tuning(value: Any, seeds: Sequence[Any]) -> Tuning | None:
    if value is None:
        return None
    values = _object(value, "tuning")
    for name in values:
        if name not in ("grid", "seeds", "trials"):
            raise ArenaError(f"unknown field 'tuning.{name}'; {nearest(str(name), ('grid', 'seeds', 'trials'))}")
    if "seeds" not in values:
        raise ArenaError("tuning.seeds is missing: how many, or a list; no final run may use them")
    trials = values.get("trials")
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool)):
        raise ArenaError(f"tuning.trials is {error_text(trials)}: it must be a whole number")
    first = max((seed for seed in seeds if isinstance(seed, int)), default=-1) + 1
    return Tuning(
        _grid(values.get("grid", {}), "tuning.grid"), _seeds(values["seeds"], "tuning.seeds", first=first), trials
    )
