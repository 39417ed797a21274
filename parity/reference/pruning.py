"""Pruning criteria in PyTorch, from the inputs themselves: no second moments, no Cholesky factors.

`collect` runs a model of ``transformers`` and keeps what each linear map reads. Every score is then written as its
paper has it; least squares are solved as such, on the data, with damping as further rows.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch

MAPS = {  # by family: the maps of block {}, by our names
    "bert": {
        "attention/query": "bert.encoder.layer.{}.attention.self.query",
        "attention/key": "bert.encoder.layer.{}.attention.self.key",
        "attention/value": "bert.encoder.layer.{}.attention.self.value",
        "attention/output": "bert.encoder.layer.{}.attention.output.dense",
        "feed_forward/up": "bert.encoder.layer.{}.intermediate.dense",
        "feed_forward/down": "bert.encoder.layer.{}.output.dense",
    },
    "gpt2": {
        "attention/query": "transformer.h.{}.attn.c_attn",
        "attention/key": "transformer.h.{}.attn.c_attn",
        "attention/value": "transformer.h.{}.attn.c_attn",
        "attention/output": "transformer.h.{}.attn.c_proj",
        "feed_forward/up": "transformer.h.{}.mlp.c_fc",
        "feed_forward/down": "transformer.h.{}.mlp.c_proj",
    },
}
MAPS["roberta"] = {name: path.replace("bert.", "roberta.", 1) for name, path in MAPS["bert"].items()}
BLOCKS = {"bert": "bert.encoder.layer", "roberta": "roberta.encoder.layer", "gpt2": "transformer.h"}
DAMPING = 0.01


def weight(model: Any, family: str, layer: int, name: str) -> torch.Tensor:
    """A view (inputs, outputs) of a map's weight."""
    module = model.get_submodule(MAPS[family][name].format(layer))
    matrix = module.weight if family == "gpt2" else module.weight.T
    if MAPS[family][name].endswith("c_attn"):
        third = matrix.shape[1] // 3
        place = ("attention/query", "attention/key", "attention/value").index(name)
        matrix = matrix[:, place * third : (place + 1) * third]
    return matrix.detach()


def bias(model: Any, family: str, layer: int, name: str) -> torch.Tensor:
    """The bias of a map that is not fused."""
    return model.get_submodule(MAPS[family][name].format(layer)).bias.detach()


@contextlib.contextmanager
def hooks(model: Any, paths: dict[str, str], kept: dict[str, torch.Tensor], real: torch.Tensor) -> Iterator[None]:
    """Keep the inputs of modules, of real tokens alone."""
    handles = []
    for name, path in paths.items():

        def keep(module: Any, arguments: Any, options: Any, name: str = name) -> None:
            value = arguments[0] if arguments else options["hidden_states"]
            kept[name] = value.detach()[real]

        handles.append(model.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def collect(model: Any, family: str, layer: int, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """(tokens, c) inputs of a block's maps."""
    kept: dict[str, torch.Tensor] = {}
    with hooks(model, {n: p.format(layer) for n, p in MAPS[family].items()}, kept, batch["attention_mask"] != 0):
        model(**batch)
    return kept


@torch.no_grad()
def block_influence(model: Any, family: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """1 − mean cosine of what enters and leaves each block (ShortGPT, equation 1)."""
    states: dict[int, torch.Tensor] = {}
    outputs: dict[int, torch.Tensor] = {}
    handles = []
    for i, block in enumerate(model.get_submodule(BLOCKS[family])):

        def keep(module: Any, arguments: Any, options: Any, output: Any, i: int = i) -> None:
            states[i] = arguments[0] if arguments else options["hidden_states"]
            outputs[i] = output[0] if isinstance(output, tuple) else output

        handles.append(block.register_forward_hook(keep, with_kwargs=True))
    model(**batch)
    for handle in handles:
        handle.remove()
    real = batch["attention_mask"] != 0
    cosine = [torch.cosine_similarity(states[i], outputs[i], dim=-1)[real].mean() for i in sorted(states)]
    return 1 - torch.stack(cosine)


def parts(model: Any, family: str, layers: int, heads: int, groups: int) -> Iterator[tuple[int, str, torch.Tensor]]:
    """Each part: its block, its output map, its channels there; block by block, heads first."""
    for layer in range(layers):
        for name, count in (("attention/output", heads), ("feed_forward/down", groups)):
            for channels in torch.arange(weight(model, family, layer, name).shape[0]).chunk(count):
                yield layer, name, channels


def magnitude(model: Any, family: str, layer: int, name: str, channels: torch.Tensor) -> torch.Tensor:
    """The norm of all weights into and out of a part."""
    before = (
        ("attention/query", "attention/key", "attention/value") if name == "attention/output" else ("feed_forward/up",)
    )
    squares = weight(model, family, layer, name)[channels].square().sum()
    for incoming in before:
        squares = squares + weight(model, family, layer, incoming)[:, channels].square().sum()
    return squares.sqrt()


def wanda(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """|W| · ‖x‖ / √tokens: (c, d) (Wanda, equation 1)."""
    return kernel.abs() * (x.norm(dim=0) / len(x) ** 0.5)[:, None]


def without(x: torch.Tensor, kernel: torch.Tensor, stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best kernel on the channels that stay, and its squared error per token; inputs are centred by the bias."""
    centred = x - x.mean(0)
    ridge = (DAMPING * centred.square().mean() * len(x)) ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype)
    rows = torch.cat([centred, ridge])
    new = torch.zeros_like(kernel)
    new[stays] = torch.linalg.lstsq(rows[:, stays], rows @ kernel, driver="gelsd").solution
    return new, (rows @ (kernel - new)).square().sum() / len(x)


@torch.no_grad()
def refit(model: Any, family: str, batch: dict[str, torch.Tensor], removed: set[int], heads: int, groups: int) -> Any:
    """A copy whose output maps do without some parts, fitted one after the other."""
    model = copy.deepcopy(model)
    numbered = list(enumerate(parts(model, family, len(model.get_submodule(BLOCKS[family])), heads, groups)))
    for layer, name in dict.fromkeys((layer, name) for _, (layer, name, _) in numbered):
        kernel = weight(model, family, layer, name)
        stays = torch.ones(len(kernel), dtype=torch.bool)
        for i, (other, map_name, channels) in numbered:
            if i in removed and (other, map_name) == (layer, name):
                stays[channels] = False
        if stays.all():
            continue
        x = collect(model, family, layer, batch)[name]
        new, _ = without(x, kernel, stays)
        bias(model, family, layer, name).add_(x.mean(0) @ (kernel - new))
        kernel.copy_(new)
    return model


def lowest(score: torch.Tensor, share: float) -> torch.Tensor:
    """Where the lowest share of all numbers is."""
    order = score.flatten().argsort(stable=True)
    goes = torch.zeros(score.numel(), dtype=torch.bool)
    goes[order[: round(share * score.numel())]] = True
    return goes.reshape(score.shape)


def sparsegpt(x: torch.Tensor, kernel: torch.Tensor, share: float) -> torch.Tensor:
    """Channel after channel, with the inverse of what is left of the Hessian computed anew each time (no blocks)."""
    hessian = x.T @ x / len(x)
    hessian += DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=x.dtype)
    inverses = [torch.linalg.inv(hessian[i:, i:]) for i in range(len(hessian))]
    scores = torch.stack([kernel[i].square() / inverses[i][0, 0] for i in range(len(kernel))])
    goes, new = lowest(scores, share), kernel.clone()
    for i, inverse in enumerate(inverses):
        error = torch.where(goes[i], new[i], 0.0) / inverse[0, 0]
        new[i:] -= inverse[:, :1] * error
        new[i] = torch.where(goes[i], 0.0, new[i])
    return new


@torch.no_grad()
def sparsify(model: Any, family: str, batch: dict[str, torch.Tensor], share: float, criterion: str) -> Any:
    """A copy whose blocks' weights are sparse, block after block."""
    model = copy.deepcopy(model)
    for layer in range(len(model.get_submodule(BLOCKS[family]))):
        inputs = collect(model, family, layer, batch)
        for name, x in inputs.items():
            kernel = weight(model, family, layer, name)
            if criterion == "sparsegpt":
                kernel.copy_(sparsegpt(x, kernel, share))
            elif criterion == "wanda":
                scores = wanda(x, kernel)
                goes = torch.stack([lowest(column, share) for column in scores.T], dim=1)
                kernel.masked_fill_(goes, 0.0)
            else:
                kernel.masked_fill_(lowest(kernel.abs(), share), 0.0)
    return model


@torch.no_grad()
def without_block(model: Any, family: str, layer: int) -> Any:
    """A copy that lacks one block."""
    model = copy.deepcopy(model)
    del model.get_submodule(BLOCKS[family])[layer]
    return model
