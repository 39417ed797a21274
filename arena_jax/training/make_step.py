"""How the joint step is made: what it is given, checked before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optax
from jax.sharding import Mesh

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import make_mesh
from arena_jax.training.distillation import Distillation
from arena_jax.training.objective_signature import SIGNATURE, check_objective
from arena_jax.training.objectives import Objective, objective_for
from arena_jax.training.step import Report, Step


def make_step(
    models: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    objectives: Mapping[str, Objective] | None = None,
    *,
    accumulation: int | Mapping[str, int] = 1,
    mesh: Mesh | None = None,
    seed: int = 0,
    gradient_norms: bool = False,
    skip_nonfinite: bool = False,
    report: Report | None = None,
    distillation: Distillation | None = None,
    teachers: Sequence[str] = (),
    ema: float | None = None,
    histograms_every: int | None = None,
) -> Step:
    """Compile the training of several models into one program.

    Args:
        models: ``{name: model}`` from :mod:`arena_jax.models`, or any ``nnx.Module`` of your own; they are read, never
            changed. What is no ``nnx.Param`` of a module (dropout's random streams, batch statistics) is in the state's
            ``variables``; ``model.train()`` and ``model.eval()`` are called.
        optimizer: an Optax transformation over ``{name: parameter tree}``, such as
            :func:`arena_jax.transforms.multi_model_adamw`. It is given ``value={name: loss}``.
        objectives: ``{name: objective}``; those of the models' tasks if not given (``masked-lm`` needs
            :func:`arena_jax.training.masked_token`, for the tokenizer's mask token). One of your own is a function
            ``objective(model, batch, key, training) -> Result``: ``batch`` is ``{name: array (B, …)}``, ``key`` the
            microbatch's, ``training`` a bool; ``Result.sums`` holds scalars summed over the examples, ``loss_sum`` and
            ``count`` at least, so that a loss over microbatches of different fill is exact.
        accumulation: microbatches per step, for all models or ``{name: count}``. The gradient is that of the whole
            batch; memory is that of one microbatch.
        mesh: from :func:`arena_jax.runtime.make_mesh`; one device if not given.
        seed: dropout and masking are folded from it.
        gradient_norms: also report each model's ``gradient_norm`` (before sharing and clipping).
        skip_nonfinite: a model whose loss or gradient is not finite sits this update out: nothing moves, its optimizer
            state stays, and it is in no pool and no average. Its metrics say ``skipped`` 1. The others' parameters are
            those of a step in which it was not ``active``, to the bit.
        report: ``report(step, opt_state) -> {name: {metric: scalar}}``, computed inside the program from the new state
            of the optimizer and added to the metrics: how effective learning rates get out.
        distillation: how much models learn from ``teachers``, beside their labels (ModelArena, equation 11). Every
            batch then holds the same examples in the same order. The losses reported are the task's own.
        teachers: names of the models that teach from the first step on; ``step.teachers`` may be changed later.
        ema: decay per step of a running average of each model's parameters, kept in the state's ``averages``
            (:func:`arena_jax.training.averages.next_average`); None: none.
        histograms_every: after every so many steps, histograms of each model's gradients (before sharing and clipping)
            and of its weights are in its metrics, :func:`arena_jax.training.histograms.histograms`; None: never.

    Returns:
        A :class:`Step`: ``state = step.init()``, then ``state, metrics = step(state, batches)``.

    Raises:
        ArenaError: no model, or names that differ between the arguments.

    Example:
        >>> import numpy as np, optax
        >>> from arena_jax import models, training
        >>> bert = models.create(models.preset("bert-tiny"), task="sequence-classification", seed=0)
        >>> step = training.make_step({"bert": bert}, optax.adamw(1e-3))
        >>> batch = {"input_ids": np.ones((4, 8), np.int32), "labels": np.zeros(4, np.int32)}
        >>> state, metrics = step(step.init(), {"bert": batch})
        >>> int(state.step), int(metrics["bert"]["count"])
        (1, 4)
    """
    if not models:
        raise ArenaError("no model to train; give {name: model}")
    if objectives is None:
        foreign = [name for name, model in models.items() if not hasattr(model, "task")]
        if foreign:
            raise ArenaError(
                f"model '{foreign[0]}' is a {type(models[foreign[0]]).__name__}, which has no task: give objectives="
                f"{{'{foreign[0]}': objective, …}}; write {SIGNATURE}"
            )
        objectives = {name: objective_for(model.task) for name, model in models.items()}
    counts = dict(accumulation) if isinstance(accumulation, Mapping) else dict.fromkeys(models, accumulation)
    for what, by_name in (("objectives", objectives), ("accumulation", counts)):
        if set(by_name) != set(models):
            raise ArenaError(
                f"{what} are given for {sorted(by_name)}, models are {sorted(models)}; the names must be the same"
            )
    for name in teachers:
        if distillation is None or name not in models:
            raise ArenaError(f"'{name}' cannot teach: give distillation=…, and names of {', '.join(sorted(models))}")
    for name, objective in objectives.items():
        check_objective(name, objective)
    if ema is not None and not 0 <= ema < 1:
        raise ArenaError(f"ema is {ema}; give a decay per step of at least 0 and below 1, such as 0.999")
    bad = [name for name, count in counts.items() if count < 1]
    if bad:
        raise ArenaError(f"accumulation of model '{bad[0]}' is {counts[bad[0]]}; give 1 or more microbatches")
    return Step(
        models,
        optimizer,
        objectives,
        accumulation=counts,
        mesh=make_mesh(1) if mesh is None else mesh,
        seed=seed,
        gradient_norms=gradient_norms,
        skip_nonfinite=skip_nonfinite,
        report=report,
        distillation=distillation,
        teachers=teachers,
        ema=ema,
        histograms_every=histograms_every,
    )
