"""Layer 4, rates by part: a run's optimizer against ``torch.optim.AdamW`` with a parameter group for each part.

The configuration goes through ``training.build_optimizer``, the function that ``arena-jax train`` calls. Which group a
parameter is in follows from PyTorch's names by the patterns below, and the groups' rates are worked out here by hand.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import optax
import torch

from arena_jax.config import OptimizerConfig, RunConfig
from arena_jax.training.build_optimizer import build_optimizer, schedules
from parity.case import precision
from parity.checks.run_optimizer import DEFAULT, OPEN, compared, config_of, reference_of
from parity.ensemble import ensemble
from parity.measure import Measurement, compare
from parity.registry import ALL, Check

STEPS = 20
PATTERNS = {  # first match wins
    "norms": r"LayerNorm|\.ln_",
    "query/key": r"self\.(query|key)|c_attn.*\[(query|key)\]",
    "value/output": r"self\.value|attention\.output|c_attn.*\[value\]|attn\.c_proj",
    "feed-forward": r"intermediate|layer\.\d+\.output|mlp",
    "position embedding": r"position_embeddings|wpe",
    "token embedding": r"embeddings|wte",
    "task head": r"classifier|pooler",
}
SHARED = {"token-embedding": 10, "position-embedding": 10, "norms": 1, "query-key": 8, "value-output": 4,
          "feed-forward": 6}  # fmt: skip
BY_MODEL = {
    "bert": {"query-key": [8, 0.5], "feed-forward": 3, "norms": 0},
    "gpt2": {"query-key": [4, 2, 1], "value-output": [0, 1, 2], "embeddings": 5},
}
# By hand: roots of the products of the numbers above 0, all of a layered part as their own geometric mean.
MEANS = {
    "shared": {"bert": 19200 ** (1 / 7), "gpt2": 19200 ** (1 / 6), "roberta": 19200 ** (1 / 7)},
    "by model": {"bert": (2 * 3) ** (1 / 6), "gpt2": (2 * 2**0.5 * 25) ** (1 / 6), "roberta": 19200 ** (1 / 7)},
}


def part_of(name: str) -> str:
    """The part of a model that PyTorch's name belongs to."""
    return next(part for part, pattern in PATTERNS.items() if re.search(pattern, name))


def factor(variant: str, model: str, name: str) -> float:
    """What a parameter's rate is multiplied by."""
    rates: dict[str, Any] = BY_MODEL.get(model, SHARED) if variant == "by model" else SHARED
    part = part_of(name)
    spelling = part.replace(" ", "-").replace("/", "-")
    number = rates.get(spelling, rates.get("embeddings", 1) if part.endswith("embedding") else 1)
    if isinstance(number, list):
        layer = re.search(r"\.(?:layer|h)\.(\d+)\.", name)
        assert layer is not None
        number = number[int(layer[1])]
    return float(number / MEANS[variant][model])


def config_with(variant: str, optimizer: OptimizerConfig) -> RunConfig:
    """A run of the ensemble's models with rates by part."""
    config = config_of(dataclasses.replace(optimizer, component_rates=SHARED))  # type: ignore[arg-type]
    if variant == "shared":
        return config
    models = tuple(
        dataclasses.replace(model, component_rates=BY_MODEL.get(model.name, ()))  # type: ignore[arg-type]
        for model in config.models
    )
    return dataclasses.replace(config, models=models)


def groups(dtype: str, variant: str) -> Iterator[Measurement]:
    """Without sharing: PyTorch's own AdamW, a group for every part of every layer."""
    with precision(dtype):
        alone = OptimizerConfig(
            learning_rate=0.01, warmup_steps=0, decay="constant", epsilon=1e-4, weight_decay=0.05,
            max_gradient_norm=0.0, share_alpha=0.0, synchronize_beta=0.0,
        )  # fmt: skip
        config = config_with(variant, alone)
        optimizer, rates = build_optimizer(config), schedules(config, STEPS)
        both, generator = ensemble(), np.random.default_rng(21)
        params = both.tree(dtype)
        state = optimizer.init(params)
        # A parameter of its own for each view: query, key and value of GPT-2 are one matrix in PyTorch's model.
        copies = {
            (model, p.name): torch.nn.Parameter(p.data.clone())
            for model, parameters in both.literals.items()
            for p in parameters
        }
        by_rate: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
        for (model, name), parameter in copies.items():
            by_rate[0.01 * (0.4 if model == "gpt2" else 1.0) * factor(variant, model, name)].append(parameter)
        reference = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for rate, parameters in by_rate.items()], eps=1e-4, weight_decay=0.05
        )
        for step in range(STEPS):
            gradients = both.set_gradients(generator, dtype)
            for model, parameters in both.literals.items():
                for p in parameters:
                    assert p.grad is not None
                    copies[model, p.name].grad = p.grad.clone()
            reference.step()
            updates, state = optimizer.update(gradients, state, params, learning_rates=rates)
            params = optax.apply_updates(params, updates)
            parameters = {f"{model}: {name}": parameter.detach() for (model, name), parameter in copies.items()}
            yield from compare(both.named(params), parameters, f"after step {step + 1}: ")


def together(dtype: str, variant: str) -> Iterator[Measurement]:
    """With sharing, clipping, synchronisation and a schedule: our reference, its rates multiplied."""
    with precision(dtype):
        config = config_with(variant, OptimizerConfig(**OPEN))
        reference = reference_of({**DEFAULT, "factor": partial(factor, variant)})
        yield from compared(dtype, config, reference, lambda step: {}, schedules(config, 100))


def checks() -> list[Check]:
    """The layer's checks."""
    rows = []
    for variant in MEANS:
        task = f"{variant}, parameter groups"
        rows.append(Check("rates by part", ALL, task, "float64", partial(groups, "float64", variant), 1e-13))
        task = f"{variant}, with sharing"
        rows.append(Check("rates by part", ALL, task, "float64", partial(together, "float64", variant), 1e-12))
    return rows
