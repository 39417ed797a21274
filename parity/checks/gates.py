"""Gates on heads and neurons against PyTorch, where a hook changes what reaches the output projections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from arena_jax import models
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case
from parity.checks.forward import TOLERANCE, visible
from parity.measure import Measurement, compare, exactly
from parity.registry import Check

GROUPS = 4
PROJECTIONS = {  # by family: of the heads, of the neurons
    "bert": ("bert.encoder.layer.{}.attention.output.dense", "bert.encoder.layer.{}.output.dense"),
    "roberta": ("roberta.encoder.layer.{}.attention.output.dense", "roberta.encoder.layer.{}.output.dense"),
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj"),
}


@contextlib.contextmanager
def hooked(case: Case, gates: list[np.ndarray], means: list[np.ndarray]) -> Iterator[None]:
    """The reference with z ← g·z + (1 − g)·μ before each output projection; gates (blocks, parts)."""
    handles = []
    for pattern, gate, mean in zip(PROJECTIONS[case.family], gates, means, strict=True):
        for layer in range(gate.shape[0]):
            g = torch.tensor(gate[layer]).repeat_interleave(mean.shape[1] // gate.shape[1])
            filling = (1 - g) * torch.tensor(mean[layer])

            def change(module: Any, given: tuple[Any, ...], g: Any = g, filling: Any = filling) -> tuple[Any, ...]:
                return (given[0] * g + filling, *given[1:])

            handles.append(case.reference.get_submodule(pattern.format(layer)).register_forward_pre_hook(change))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def gates(family: str, dtype: str) -> Iterator[Measurement]:
    """Closed parts, half-open ones, with means and with zeros; and open ones, which change no bit."""
    case = random_case(family, MAIN_TASK[family])
    generator = np.random.default_rng(7)
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        config = models.merge(structure, params).config
        batch = inputs.variants(case.sizes)["right padding"]
        run = jax.jit(lambda p, b, g: models.merge(structure, p)(**b, gates=g))
        layers = config.num_layers
        sizes = ((config.num_heads, config.hidden_size), (GROUPS, config.intermediate_size))
        means = [generator.normal(size=(layers, width)) for _, width in sizes]
        draws = {
            "masked": [generator.integers(0, 2, (layers, parts)).astype(np.float64) for parts, _ in sizes],
            "half open": [generator.random((layers, parts)) for parts, _ in sizes],
        }
        for name, drawn in draws.items():
            for filling, mean in (("zeros", [0 * m for m in means]), ("means", means)):
                with hooked(case, drawn, mean):
                    wanted = {"logits": case.torch_outputs(batch).logits.detach().numpy()}
                # None is what zeros mean.
                given = [None, None] if filling == "zeros" else [jnp.asarray(m) for m in mean]
                found = {"logits": run(params, batch, models.Gates(*map(jnp.asarray, drawn), *given))}
                yield from compare(visible(found, batch), visible(wanted, batch), f"{name}, {filling}: ")
        ones = [jnp.ones((layers, parts)) for parts, _ in sizes]
        gated = run(params, batch, models.Gates(*ones, *map(jnp.asarray, means)))
        plain = run(params, batch, None)
        yield exactly("all open: logits", np.asarray(gated).tobytes() == np.asarray(plain).tobytes())


def checks() -> list[Check]:
    """One per family."""
    return [
        Check("gates", family, MAIN_TASK[family], "float64", partial(gates, family, "float64"), TOLERANCE["float64"])
        for family in MAIN_TASK
    ]
