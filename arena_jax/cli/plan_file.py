"""A plan as a file: written by `arena-jax plan --output FILE.json`, taken by `arena-jax train --plan FILE.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax import config as configurations
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.units import parse_memory

FORMAT = 1
_WRITTEN_BY = "arena-jax plan … --device KIND --output FILE.json writes one"
# What a plan answers beside batch sizes, and the options that say the same.
_TRAINING = {"dtype": "--dtype", "attention": "--attention", "remat": "--remat", "shard": "--shard"}
# What a plan's bytes hang on and does not answer: a run must have the same.
_MODEL = (
    "preset", "checkpoint", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions", "dropout"
)  # fmt: skip
_OPTIMIZER = ("form", "inner", "amsgrad", "share_alpha", "synchronize_beta", "convergence_window", "freeze")


class PlanFile(NamedTuple):
    """What a run takes from a plan.

    Attributes:
        path: of the file, for messages.
        config: that was planned.
        batch_sizes: ``{model: examples per GPU}`` of all models in one step; empty for a competition.
        gpus: how many GPUs share a batch.
        gpu: their name.
        memory: bytes that programs may take on each.
    """

    path: str
    config: RunConfig
    batch_sizes: Mapping[str, int]
    gpus: int
    gpu: str
    memory: int


def content(
    config: RunConfig,
    gpu: Mapping[str, Any],
    gpus: int,
    memory: int,
    needs: Sequence[Any],
    variants: Sequence[Any],
    shares: Sequence[Any],
) -> dict[str, Any]:
    """A plan as JSON holds it."""
    return {
        "plan": FORMAT,
        "device": dict(gpu),
        "gpus": gpus,
        "memory": memory,
        "config": configurations.to_dict(config),
        "needs": [_need(need) for need in needs],
        "variants": [variant._asdict() | {"need": variant.need and _need(variant.need)} for variant in variants],
        "shares": [share._asdict() for share in shares],
    }


def _need(need: Any) -> dict[str, Any]:
    return {**need._asdict(), "batch_sizes": dict(need.batch_sizes), "least_seconds": need.least_seconds}


def content_of(path: str) -> dict[str, Any]:
    """What a plan's file holds, as `content` made it.

    Raises:
        ArenaError: no file, no plan in it, or one of another version.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot read the plan '{path}' ({error}); {_WRITTEN_BY}") from None
    if not isinstance(values, dict) or "plan" not in values:
        raise ArenaError(f"'{path}' holds no plan; {_WRITTEN_BY}")
    if values["plan"] != FORMAT:
        raise ArenaError(f"'{path}' is of another version of arena-jax: plan again")
    return values


def read(path: str) -> PlanFile:
    """Read a plan.

    Raises:
        ArenaError: no file, or no plan in it.
    """
    values = content_of(path)
    try:
        config = configurations.from_dict(values["config"])
        names = {model.name for model in config.models}
        together = [need["batch_sizes"] for need in values["needs"] if set(need["batch_sizes"]) == names]
        sizes = {} if config.arena else {name: int(size) for name, size in together[0].items()}
        return PlanFile(path, config, sizes, int(values["gpus"]), str(values["device"]["title"]), int(values["memory"]))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ArenaError(f"'{path}' holds no plan; {_WRITTEN_BY}") from None


def take(plan: PlanFile, run: RunConfig, words: Mapping[str, Any]) -> RunConfig:
    """A run as a plan says: batch sizes, precision, attention, what blocks keep, devices; of a competition its budget.

    Args:
        plan: from :func:`read`.
        run: the configuration, command line applied.
        words: the parsed options by destination; None for those that were not given.

    Raises:
        ArenaError: the command line says something else, or the run is not the one that was planned.
    """
    _check_same(plan, run)
    training: dict[str, Any] = {name: getattr(plan.config.training, name) for name in _TRAINING}
    training["devices"] = plan.gpus
    flags = {**_TRAINING, "devices": "--devices"}
    sizes = {name: size * plan.gpus * run.accumulation(name) for name, size in plan.batch_sizes.items()}
    differ = len(set(sizes.values())) > 1
    if sizes and not differ:
        training["batch_size"] = next(iter(sizes.values()))
        flags["batch_size"] = "--batch-size"
    for name, flag in flags.items():
        _check_word(plan, flag, words.get(f"training.{name}"), getattr(run.training, name), training[name])
    models = []
    for model in run.models:
        planned = plan.config.model(model.name)
        changes: dict[str, Any] = {"attention_dropout": planned.attention_dropout}
        changes["batch_size"] = sizes[model.name] if differ else None if sizes else model.batch_size
        for name, value in changes.items():
            where = f"{model.name}.{name}"
            word = next((w for w in words.get("model") or () if w.partition("=")[0] == where), None)
            _check_word(plan, f"--model {where}", word, getattr(model, name), value)
        models.append(dataclasses.replace(model, **changes))
    if differ and words.get("training.batch_size") is not None:
        raise ArenaError(
            f"--batch-size contradicts {plan.path}, which has one for each model; leave one of the two out"
        )
    arena = run.arena
    if arena:
        budget, word = f"{plan.memory}B", words.get("arena.memory_budget")
        if word is not None and parse_memory(word) != parse_memory(budget):
            raise _contradiction(plan, "--memory-budget", word, budget)
        arena = dataclasses.replace(arena, memory_budget=budget)
    return dataclasses.replace(
        run, models=tuple(models), training=dataclasses.replace(run.training, **training), arena=arena
    )


def described(plan: PlanFile, devices: int, kind: str) -> str:
    """One line: what was taken, for which device, and on which the run is."""
    sizes = ", ".join(f"{size} of {name}" for name, size in plan.batch_sizes.items())
    answer = f"{sizes} per GPU" if sizes else f"a budget of {plan.memory / 1e9:.1f} GB per GPU"
    return f"{plan.path}: {answer}, for {plan.gpus} × {plan.gpu}; this run is on {devices} × {kind}"


def _check_word(plan: PlanFile, option: str, word: Any, value: Any, planned: Any) -> None:
    if word is not None and value != planned:
        raise _contradiction(plan, option, value, planned)


def _contradiction(plan: PlanFile, option: str, value: Any, planned: Any) -> ArenaError:
    return ArenaError(f"{option} {value} contradicts {plan.path}, which says {planned}; leave one of the two out")


def _check_same(plan: PlanFile, run: RunConfig) -> None:
    """Refuse a run whose bytes are not those of the plan."""
    pairs: list[tuple[str, Any, Any]] = [
        ("task", plan.config.task, run.task),
        ("models", sorted(m.name for m in plan.config.models), sorted(m.name for m in run.models)),
        ("a competition", plan.config.arena is not None, run.arena is not None),
        ("data.documents", plan.config.data.documents, run.data.documents),
        ("data.max_length", plan.config.data.max_length, run.data.max_length),
    ]
    was, now = plan.config.optimizer.resolved(), run.optimizer.resolved()
    pairs += [(f"optimizer.{name}", getattr(was, name), getattr(now, name)) for name in _OPTIMIZER]
    for where, planned, value in pairs:
        if planned != value:
            raise _other(plan, where, planned, value)
    for model in run.models:
        planned_model = plan.config.model(model.name)
        fields = [*_MODEL]
        if model.preset:
            fields.append("vocab_size")  # a checkpoint brings its own
        if plan.config.training.attention != "cudnn":
            fields.append("attention_dropout")  # which cuDNN's attention has set to 0
        for name in fields:
            if getattr(planned_model, name) != getattr(model, name):
                raise _other(plan, f"{model.name}.{name}", getattr(planned_model, name), getattr(model, name))


def _other(plan: PlanFile, where: str, planned: Any, value: Any) -> ArenaError:
    return ArenaError(f"{plan.path} is for another run: {where} is {planned} there and {value} here; plan this run")
