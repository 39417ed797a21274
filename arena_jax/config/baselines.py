"""Baselines, most of them of the MultiModelOptimizer's paper (§4.3): `arena-jax train PRESET --baseline WORD`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.optimizer import CONVERGENCE, OptimizerConfig
from arena_jax.config.run import RunConfig
from arena_jax.config.together import BEST, ENSEMBLE, TogetherConfig

# Of AdamW alone, as the trials of a plan chose it: {(preset, data): rate}.
TUNED_RATES = {
    ("mmo-paper", "synthetic-sentiment"): 2.5e-3,  # studies/mmo-table1.toml: accuracy after 3 epochs
}

_OF_THE_FORM = ("max_gradient_norm", "warmup_steps", "decay", "weight_decay")  # of a form, where models are alone


def independent(config: RunConfig) -> RunConfig:
    """AdamW for each model by itself: nothing is shared, no rate follows anything, and clipping stays as it is.

    Example:
        >>> from arena_jax.config import presets
        >>> alone = independent(presets.get("mmo-paper")).optimizer
        >>> alone.form, alone.share_alpha, alone.synchronize_beta, alone.resolved().max_gradient_norm
        ('default', 0.0, 0.0, 0.0)
    """
    before = config.optimizer.resolved()
    form: dict[str, Any] = {name: getattr(before, name) for name in _OF_THE_FORM}
    alone = _unshared(config.optimizer)
    changes: dict[str, Any] = dict.fromkeys(CONVERGENCE)
    changes |= {"form": "default", "convergence_window": 0, **form}
    return dataclasses.replace(
        config,
        models=tuple(dataclasses.replace(model, teacher_weight=1.0) for model in config.models),
        optimizer=dataclasses.replace(alone, **changes),
        together=TogetherConfig(ema=config.together.ema),
    )


def muon(config: RunConfig) -> RunConfig:
    """Independent models with Muon: its kernels by Muon, embeddings, heads and all else by AdamW.

    A better optimizer is not learning together: what is claimed for that has to beat this one, too. Its rate is to be
    tuned by itself.

    Example:
        >>> from arena_jax.config import presets
        >>> optimizer = muon(presets.get("mmo-paper")).optimizer
        >>> optimizer.inner, optimizer.share_alpha, optimizer.resolved().momentum
        ('muon', 0.0, 0.95)
    """
    alone = independent(config)
    # Betas and momentum that were given belong to the optimizer that they were given for.
    fields: dict[str, Any] = dict.fromkeys(("b1", "b2", "epsilon", "momentum"))
    changes = {"inner": "muon", "amsgrad": False, **({} if alone.optimizer.inner == "muon" else fields)}
    return dataclasses.replace(alone, optimizer=dataclasses.replace(alone.optimizer, **changes))


def joint(config: RunConfig) -> RunConfig:
    """The same program without sharing and synchronisation; what is left of the form, such as its rates, stays.

    Example:
        >>> from arena_jax.config import presets
        >>> optimizer = joint(presets.get("mmo-paper")).optimizer
        >>> optimizer.form, optimizer.share_alpha, optimizer.resolved().convergence_window
        ('paper', 0.0, 100)
    """
    return dataclasses.replace(config, optimizer=_unshared(config.optimizer))


def distillation(config: RunConfig) -> RunConfig:
    """Sequential knowledge distillation: a teacher is trained for half of the steps, then it guides the students.

    The teacher is the model that ``together.distil`` names, the first one if none is named. Models are independent
    otherwise; students begin as they are, and see the teacher's logits and the labels in equal parts
    (``together.distil_alpha``, ``distil_temperature``).

    Example:
        >>> from arena_jax.config import presets
        >>> together = distillation(presets.get("mmo-paper")).together
        >>> together.relay, together.distil, together.relay_warm
        ('bert', 'bert', False)
    """
    named = config.together.distil
    teacher = config.models[0].name if named in (None, BEST, ENSEMBLE) else named
    together = TogetherConfig(
        distil=teacher,
        distil_alpha=config.together.distil_alpha,
        distil_temperature=config.together.distil_temperature,
        relay=teacher,
        relay_part=config.together.relay_part,
        relay_warm=False,
        ema=config.together.ema,
    )
    return dataclasses.replace(independent(config), together=together)


def tuned(config: RunConfig) -> RunConfig:
    """Independent AdamW with the learning rate that a plan's trials chose: the baseline that counts.

    Raises:
        ArenaError: nobody has tuned it for this preset and these data.

    Example:
        >>> from arena_jax.config import presets
        >>> tuned(presets.get("mmo-paper")).optimizer.learning_rate
        0.0025
    """
    rate = TUNED_RATES.get((config.preset, config.data.name))
    if rate is None:
        there = ", ".join(f"{preset} on {name}" for preset, name in TUNED_RATES)
        raise ArenaError(
            f"no learning rate was tuned for '{config.preset}' on '{config.data.name}' (there is one for {there}): "
            "choose it by the [tuning] of a plan, `arena-jax compare --example`, and give --baseline independent"
        )
    alone = independent(config)
    return dataclasses.replace(alone, optimizer=dataclasses.replace(alone.optimizer, learning_rate=rate))


def _unshared(optimizer: OptimizerConfig) -> OptimizerConfig:
    return dataclasses.replace(
        optimizer, share_alpha=0.0, synchronize_beta=0.0, synchronize_every=None, unshared=(), weights_follow="none"
    )


BASELINES: dict[str, Callable[[RunConfig], RunConfig]] = {
    "independent": independent,
    "muon": muon,
    "joint": joint,
    "distillation": distillation,
    "tuned": tuned,
}


def baseline(config: RunConfig, word: str) -> RunConfig:
    """A run's configuration turned into a baseline of it.

    Args:
        config: of the run.
        word: "independent", "muon" (independent, too), "joint" (no sharing, no synchronisation), "distillation"
            (sequential) or "tuned".

    Raises:
        ArenaError: an unknown word, or a competition.
    """
    if word not in BASELINES:
        raise ArenaError(f"unknown baseline '{word}'; {nearest(word, BASELINES)}")
    if config.arena is not None:
        raise ArenaError("a competition has no such baseline: its models share nothing; give --policy static")
    return BASELINES[word](config)
