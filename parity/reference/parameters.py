"""Which parameter is of which type, read off PyTorch's names.

The papers classify a parameter as (type, shape): "its function (e.g., attention, feed-forward, embedding) and shape".
PyTorch's own layout hides two things that the classification is about, so the methods here run over a *literal
re-parameterisation* of a model: a list of views into its parameters, changed in place.

* GPT-2 keeps query, key and value in one matrix ``c_attn`` (D, 3D). It is three parameters of the attention type, as
  BERT has them: three views (D, D), named ``...c_attn.weight[query]``, ``[key]`` and ``[value]``.
* ``nn.Linear`` stores (out, in) and GPT-2's ``Conv1D`` (in, out). The same role should have the same shape, so a
  ``Linear`` weight is viewed transposed: every kernel is (in, out).

A tied head is one parameter, the word embedding. A layer's parameter is one parameter: nothing is stacked.

The six types, first match wins; where the paper is silent this is what we read into it:
head (everything behind the encoder: pooler, prediction transform with its norm, classifier, vocabulary bias),
normalisation (both vectors of every LayerNorm), embedding, bias (of attention and feed-forward), attention,
feed-forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

HEADS = ("cls", "lm_head", "score", "classifier", "qa_outputs", "pooler")
EMBEDDINGS = ("embeddings", "wte", "wpe")
ATTENTION = ("attention", "attn")
FEED_FORWARD = ("intermediate", "output", "mlp")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A view of one of a model's parameters: PyTorch's name, the type, and how to see it in a tensor like its base."""

    name: str
    kind: str
    base: torch.nn.Parameter
    view: Callable[[torch.Tensor], torch.Tensor]

    @property
    def data(self) -> torch.Tensor:
        """The values, as a view: writing into it changes the model."""
        return self.view(self.base.data)

    @property
    def grad(self) -> torch.Tensor | None:
        """The gradient, as a view, or None where backward left none."""
        return None if self.base.grad is None else self.view(self.base.grad)

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """(type, shape)."""
        return self.kind, tuple(self.data.shape)


def kind_of(name: str) -> str:
    """The type of a parameter, from its PyTorch name."""
    parts = name.split(".")
    if any(part in HEADS for part in parts):
        return "head"
    if any("LayerNorm" in part or part.startswith("ln_") for part in parts):
        return "normalisation"
    if any(part in EMBEDDINGS for part in parts):
        return "embedding"
    if parts[-1] == "bias":
        return "bias"
    if any(part in ATTENTION for part in parts):
        return "attention"
    if any(part in FEED_FORWARD for part in parts):
        return "feed-forward"
    raise ValueError(f"no type for the parameter {name}")


def is_linear(model: torch.nn.Module, name: str) -> bool:
    """Whether the parameter is the (out, in) weight of an ``nn.Linear``."""
    module, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(module), torch.nn.Linear)


def third(part: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The part-th third of the last axis: query, key or value of GPT-2's fused projection."""

    def view(tensor: torch.Tensor) -> torch.Tensor:
        size = tensor.shape[-1] // 3
        return tensor[..., part * size : (part + 1) * size]

    return view


def literal_parameters(model: torch.nn.Module) -> list[Parameter]:
    """Every parameter of a model once, in the model's own order, as the papers' loops see them."""
    found = []
    for name, parameter in model.named_parameters():
        kind = kind_of(name)
        if ".c_attn." in name:
            for part, role in enumerate(("query", "key", "value")):
                found.append(Parameter(f"{name}[{role}]", kind, parameter, third(part)))
        elif is_linear(model, name):
            found.append(Parameter(name, kind, parameter, torch.Tensor.t))
        else:
            found.append(Parameter(name, kind, parameter, lambda tensor: tensor))
    return found
