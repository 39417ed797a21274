"""Who teaches in a run, and whether its models see the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from arena_jax import data
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.together import BEST, ENSEMBLE
from arena_jax.training.build import Parts
from arena_jax.training.distillation import Distillation


def distillation_of(config: RunConfig) -> dict[str, Any]:
    """What :func:`arena_jax.training.make_step` is given: how much is learnt from teachers, and from whom at first.

    Where the best model teaches, the first one stands for it until there is a run: a plan, or a search for what fits
    memory, then counts a teacher in.
    """
    together = config.together
    if not together.teaches:
        return {}
    teachers = teachers_now(config, {model.name: 0.0 for model in config.models})
    weights = tuple((model.name, model.teacher_weight) for model in config.models)
    return {"distillation": Distillation(together.alpha, together.temperature, weights), "teachers": teachers}


def teachers_now(config: RunConfig, losses: Mapping[str, float]) -> tuple[str, ...]:
    """Who teaches after an evaluation.

    Args:
        config: of the run.
        losses: ``{model: validation loss}``; empty before the first evaluation.

    Returns:
        Names; nobody where the best is to teach and no loss is known or finite.
    """
    distil = config.together.distil
    if distil is None:
        return teachers_at_rest(config)
    if distil == ENSEMBLE:
        return tuple(sorted(model.name for model in config.models))
    if distil != BEST:
        return (distil,)
    finite = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
    return (min(sorted(finite), key=lambda name: finite[name]),) if finite else ()


def teachers_at_rest(config: RunConfig) -> tuple[str, ...]:
    """The models that teach one and take no step themselves; none where all learn."""
    student = config.together.distil_into
    return () if student is None else tuple(sorted(model.name for model in config.models if model.name != student))


def check_rows(config: RunConfig, parts: Parts, padding: data.Padding | None) -> None:
    """Refuse to distil between models whose rows are not the same.

    Args:
        config: of the run.
        parts: of it.
        padding: of the models' rows together; None where they are not the same examples.

    Raises:
        ArenaError: with the reason.
    """
    if not config.together.teaches:
        return
    first, *others = sorted(parts.train)
    if parts.train[first].task == "sequence-classification":
        if padding is None:
            raise ArenaError("distillation: the models' rows are not the same examples; give them the same data")
        return
    for other in others:
        vocabularies = [parts.tokenizers[name].backend.get_vocab(with_added_tokens=True) for name in (first, other)]
        if vocabularies[0] != vocabularies[1] or parts.train[first].fingerprint != parts.train[other].fingerprint:
            raise ArenaError(
                f"'{first}' and '{other}' cannot teach one another {parts.train[first].task}: their tokens differ; "
                f"give both one tokenizer, --model {first}.tokenizer=FOLDER --model {other}.tokenizer=FOLDER"
            )


def record(config: RunConfig, teachers: tuple[str, ...]) -> dict[str, list[str]]:
    """What an evaluation's record says: who teaches from now on; nothing where nobody ever does."""
    return {"teachers": list(teachers)} if config.together.teaches else {}
