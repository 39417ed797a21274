"""Three models of the three families on both sides, for what concerns them together."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.case import Case, random_case
from parity.names import as_tree, by_reference_name
from parity.reference.parameters import Parameter, literal_parameters

TASKS = {"bert": "token-classification", "gpt2": "causal-lm", "roberta": "sequence-classification"}
WEIGHTS: dict[Any, float] = {"bert": 1.0, "gpt2": 0.8, "roberta": 1.2}  # the paper's
# Small, as a hundred steps are taken. One model has a layer more, so that stacks of two lengths meet.
_NARROW = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 16, "num_hidden_layers": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "bert": _NARROW,
    "gpt2": {"n_embd": 12, "n_head": 3, "n_inner": 16, "n_layer": 3},
    "roberta": {**_NARROW, "vocab_size": 61},  # BERT's vocabulary: tables that correspond
}


@dataclasses.dataclass
class Ensemble:
    """{name: case} and a copy of the PyTorch models that may be trained."""

    cases: dict[str, Case]
    torch_models: dict[str, Any]

    @property
    def literals(self) -> dict[str, list[Parameter]]:
        """{name: literal parameters} of the copies."""
        return {name: literal_parameters(model) for name, model in self.torch_models.items()}

    def tree(self, dtype: str) -> dict[str, Any]:
        """The copies' parameters as our trees."""
        trees = {name: as_tree(name, found) for name, found in self.literals.items()}
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), trees)

    def set_gradients(self, generator: np.random.Generator, dtype: str) -> dict[str, Any]:
        """Random gradients in the copies, large and tiny ones from parameter to parameter; the same as our trees."""
        for parameters in self.literals.values():
            for p in parameters:
                if p.base.grad is None:
                    p.base.grad = torch.zeros_like(p.base)
                size = 10.0 ** generator.uniform(-6, 1)
                value = (size * generator.standard_normal(tuple(p.data.shape))).astype(np.float32)
                assert p.grad is not None
                p.grad.copy_(torch.from_numpy(value))
        return self.gradients(dtype)

    def gradients(self, dtype: str) -> dict[str, Any]:
        """The copies' gradients as our trees."""
        trees = {}
        for name, parameters in self.literals.items():
            as_data: Any = [_Gradient(p.name, p.grad) for p in parameters]
            trees[name] = as_tree(name, as_data)
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), trees)

    def named(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Our trees under PyTorch's names, the model's name in front."""
        found: dict[str, Any] = {}
        for name, parameters in self.literals.items():
            found |= {f"{name}: {k}": v for k, v in by_reference_name(name, tree[name], parameters).items()}
        return found

    def wanted(self) -> dict[str, Any]:
        """The copies' parameters, named likewise."""
        return {f"{name}: {p.name}": p.data.clone() for name, found in self.literals.items() for p in found}

    def wanted_gradients(self) -> dict[str, Any]:
        """The copies' gradients, named likewise."""
        return {f"{name}: {p.name}": _there(p.grad) for name, found in self.literals.items() for p in found}


@dataclasses.dataclass(frozen=True)
class _Gradient:
    name: str
    data: torch.Tensor | None


def _there(gradient: torch.Tensor | None) -> torch.Tensor:
    assert gradient is not None
    return gradient.clone()


def ensemble() -> Ensemble:
    """A fresh one: nothing that was trained before."""
    cases = {name: random_case(name, task, 7, tuple(OPTIONS[name].items())) for name, task in TASKS.items()}
    return Ensemble(cases, {name: copy.deepcopy(case.reference) for name, case in cases.items()})
