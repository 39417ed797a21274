"""The step of a run: what joint training, a competition and a plan compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from arena_jax.config import RunConfig
from arena_jax.training.build_optimizer import build_optimizer, learning_rate_metrics
from arena_jax.training.make_step import make_step
from arena_jax.training.objectives import Objective
from arena_jax.training.step import Step
from arena_jax.training.teachers import distillation_of


def build_step(
    config: RunConfig,
    networks: Mapping[str, Any],
    objectives: Mapping[str, Objective],
    *,
    mesh: Mesh,
    accumulation: int | Mapping[str, int] = 1,
) -> Step:
    """The step over a run's models, with its optimizer, its seed and all that a run reports.

    Args:
        config: of the run.
        networks: ``{name: model}``; models with shapes in place of arrays can be compiled, too.
        objectives: ``{name: objective}``.
        mesh: of the devices.
        accumulation: microbatches per step, for all models or ``{name: count}``.

    Returns:
        A step that reports gradient norms and learning rates, and leaves non-finite models out. Learning rates come
        with each update, ``learning_rates={model: scalar or schedule}``: those of a competition follow what is spent,
        others are :func:`arena_jax.training.build_optimizer.schedules`.
    """
    return make_step(
        networks,
        build_optimizer(config),
        objectives,
        accumulation=accumulation,
        mesh=mesh,
        seed=config.training.seed,
        gradient_norms=True,
        skip_nonfinite=True,
        report=learning_rate_metrics,
        ema=config.together.ema,
        histograms_every=config.training.log_every if config.training.histograms else None,
        **distillation_of(config),
    )
