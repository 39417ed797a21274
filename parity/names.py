"""Which of our parameters is which of PyTorch's: a second table, written by hand and apart from the library's own.

The library's converter is one of the things that are checked, so its table cannot be what checks it. Names on the
PyTorch side are those of ``reference.parameters``: GPT-2's fused projection in three, kernels seen as (in, out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.reference.parameters import Parameter

Path = tuple[str, ...]

ENCODER = {
    "embeddings.word_embeddings.weight": "embeddings/token/embedding",
    "embeddings.position_embeddings.weight": "embeddings/position/embedding",
    "embeddings.token_type_embeddings.weight": "embeddings/token_type/embedding",
    "embeddings.LayerNorm": "embeddings/norm",
    "pooler.dense": "pooler",
}
ENCODER_BLOCK = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward/up",
    "output.dense": "feed_forward/down",
    "output.LayerNorm": "feed_forward_norm",
}
DECODER = {
    "wte.weight": "embeddings/token/embedding",
    "wpe.weight": "embeddings/position/embedding",
    "ln_f": "final_norm",
}
DECODER_BLOCK = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention/output",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward/up",
    "mlp.c_proj": "feed_forward/down",
}
HEAD = {
    "cls.predictions.transform.dense": "head/transform",
    "cls.predictions.transform.LayerNorm": "head/norm",
    "cls.predictions.bias": "head/bias",
    "cls.predictions.decoder.weight": "head/output/kernel",
    "cls.predictions.decoder.bias": "head/bias",
    "lm_head.dense": "head/transform",
    "lm_head.layer_norm": "head/norm",
    "lm_head.bias": "head/bias",
    "lm_head.decoder.weight": "head/output/kernel",
    "lm_head.decoder.bias": "head/bias",
    "lm_head": "head/output",
    "classifier.dense": "head/dense",
    "classifier.out_proj": "head/output",
    "classifier": "head/output",
    "qa_outputs": "head/output",
    "score": "head/output",
}
DEAD = ("cls.predictions.bias", "lm_head.bias")
BASE = {"bert": "bert.", "roberta": "roberta.", "gpt2": "transformer."}


def our_place(family: str, name: str) -> tuple[Path, int | None]:
    """The path of one PyTorch parameter in our tree, and its layer where ours is stacked."""
    name = name.removeprefix(BASE[family])
    encoder, decoder = (ENCODER, ENCODER_BLOCK, "encoder.layer."), (DECODER, DECODER_BLOCK, "h.")
    whole, block, marker = decoder if family == "gpt2" else encoder
    if name.startswith(marker):
        number, _, rest = name.removeprefix(marker).partition(".")
        if rest.startswith("attn.c_attn."):
            leaf, _, role = rest.removeprefix("attn.c_attn.").rstrip("]").partition("[")
            return ("blocks", "attention", role, _leaf(leaf, False)), int(number)
        return ("blocks", *_look_up(block, rest)), int(number)
    return _look_up({**whole, **HEAD}, name), None


def _look_up(table: Mapping[str, str], name: str) -> Path:
    if name in table:
        return tuple(table[name].split("/"))
    module, _, leaf = name.rpartition(".")
    place = table[module]
    return (*place.split("/"), _leaf(leaf, "norm" in place))


def _leaf(leaf: str, norm: bool) -> str:
    return leaf if leaf == "bias" else ("scale" if norm else "kernel")


def at(tree: Mapping[str, Any], path: Path) -> Any:
    """The leaf at a path, or None."""
    for name in path:
        if name not in tree:
            return None
        tree = tree[name]
    return tree


def in_use(literals: Sequence[Parameter]) -> list[Parameter]:
    """All but a vocabulary bias that an untied decoder's own has replaced: PyTorch keeps it and never reads it."""
    names = {p.name for p in literals}
    dead = {name for name in names if name.endswith(DEAD) and name.removesuffix("bias") + "decoder.bias" in names}
    return [p for p in literals if p.name not in dead]


def by_reference_name(family: str, tree: Mapping[str, Any], literals: Sequence[Parameter]) -> dict[str, Any]:
    """Our arrays under PyTorch's names, one per layer; what only we have stands under our own path."""
    found: dict[str, Any] = {}
    used: dict[Path, int] = {}
    for p in in_use(literals):
        path, layer = our_place(family, p.name)
        leaf = at(tree, path)
        if leaf is None:
            continue
        used[path] = used.get(path, 0) + 1
        found[p.name] = leaf if layer is None else np.asarray(leaf)[layer]
    for path, leaf in leaves(tree):
        expected = leaf.shape[0] if path[0] == "blocks" else 1
        if used.get(path, 0) != expected:
            found["ours: " + "/".join(path)] = leaf
    return found


def leaves(tree: Mapping[str, Any], path: Path = ()) -> list[tuple[Path, Any]]:
    """Every leaf of a nested dictionary with its path."""
    found = []
    for name, value in tree.items():
        inner = (*path, name)
        found += leaves(value, inner) if isinstance(value, Mapping) else [(inner, value)]
    return found


def as_tree(family: str, literals: Sequence[Parameter]) -> dict[str, Any]:
    """PyTorch's parameters in the shape of our tree (numpy, PyTorch's dtype)."""
    stacks: dict[Path, dict[int, np.ndarray]] = {}
    tree: dict[str, Any] = {}
    for p in in_use(literals):
        path, layer = our_place(family, p.name)
        value = p.data.detach().numpy().copy()
        if layer is None:
            _put(tree, path, value)
        else:
            stacks.setdefault(path, {})[layer] = value
    for path, layers in stacks.items():
        _put(tree, path, np.stack([layers[i] for i in range(len(layers))]))
    return tree


def _put(tree: dict[str, Any], path: Path, value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
