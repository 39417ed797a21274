"""Warm starts: what one model has learnt, handed to another before that one begins, by token and by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.models.config import TransformerConfig
from arena_jax.models.token_spelling import match_tokens
from arena_jax.models.transformer import Params, Transformer, merge, split

PARTS = ("embeddings", "positions", "norms", "blocks")
Array = np.ndarray[Any, Any]


class WarmStart(NamedTuple):
    """A model that begins with what another one knows.

    Attributes:
        model: the target with the parts that were handed down; it is new, the target stays as it was.
        matched: tokens of the target that have a row of the source.
        report: what was handed down, a line each.
    """

    model: Transformer
    matched: int
    report: tuple[str, ...]


def hand_down(
    source: Transformer | Array,
    target: Transformer,
    source_tokens: Mapping[str, int],
    target_tokens: Mapping[str, int],
    parts: Sequence[str] = ("embeddings", "positions"),
    *,
    matched_scale: bool = True,
) -> WarmStart:
    r"""Give a model the tables, norms or blocks of another one, of any family and tokenizer.

    A row of the target's token table becomes the row of the source's token with the same text,
    :func:`arena_jax.models.token_spelling.match_tokens`; tokens without one, and the padding row, keep their own. Row
    :math:`o_t + i` of the position table becomes the source's row :math:`o_s + i`, where RoBERTa's offset :math:`o` is
    its padding token + 1. Both tables are multiplied by

    .. math:: \sigma_t / \sqrt{\mathrm{mean}(x^2)}

    over the rows x that are handed down, where :math:`\sigma_t` is the target's ``initializer_range``: without it a
    trained table is several times as large as what the target's other parameters were drawn for. A source that is wider
    gives the best table of the target's width (Eckart and Young 1936): both its tables times the first right singular
    vectors of its token rows.

    Args:
        source: a model, or a table (V, D) of token rows, such as :func:`arena_jax.data.corpus_table` makes.
        target: the model that will begin; it is not changed.
        source_tokens: ``{token: id}`` of the source.
        target_tokens: ``{token: id}`` of the target.
        parts: any of "embeddings" (the token table), "positions", "norms" (scale and bias of every norm that both
            have) and "blocks" (attention and feed-forward, the first ones where numbers differ). The last two need the
            same widths.
        matched_scale: False hands tables down as they are.

    Returns:
        The new model, and what was handed down.

    Raises:
        ArenaError: an unknown part, a part that a table does not have, widths that do not fit, or no token in common.

    Example:
        >>> import jax.numpy as jnp
        >>> from arena_jax import models
        >>> gpt2 = models.create("gpt2-tiny", task="causal-lm", seed=1)
        >>> bert = models.create("bert-tiny", task="masked-lm", seed=2)
        >>> start = hand_down(gpt2, bert, {"Ġthe": 5, "ing": 6}, {"the": 8, "##ing": 9, "[MASK]": 4}, ["embeddings"])
        >>> start.report
        ('embeddings: 2 of 3 tokens by their text, times 1.02',)
    """
    for part in parts:
        if part not in PARTS:
            raise ArenaError(f"a model has no part '{part}' to hand down; {nearest(part, PARTS)}")
    if not parts:
        raise ArenaError(f"nothing is to be handed down: name parts, of {', '.join(PARTS)}")
    structure, params = split(target)
    source_params: Params = {"embeddings": {"token": {"embedding": np.asarray(source)}}}
    config: TransformerConfig | None = None
    if isinstance(source, Transformer):
        config, source_params = source.config, split(source)[1]
    elif set(parts) != {"embeddings"}:
        raise ArenaError("a table has token rows alone: hand down the part embeddings")
    matches = match_tokens(source_tokens, target_tokens)
    rows = np.asarray(source_params["embeddings"]["token"]["embedding"])
    for name, ids, count in (
        ("source", matches.source, len(rows)),
        ("target", matches.target, target.config.vocab_size),
    ):
        if len(ids) and ids.max() >= count:
            raise ArenaError(f"{name}_tokens go up to {ids.max()}, but the {name} has {count} rows: give its own table")
    width, report = target.config.hidden_size, []
    # Row 0 of RoBERTa's position table and the padding token's row are never read with a gradient: they stay.
    keep = matches.target != (-1 if target.config.family == "gpt2" else target.config.pad_token_id)
    source_ids, target_ids = matches.source[keep], matches.target[keep]
    if {"embeddings", "positions"} & set(parts) and not len(target_ids):
        raise ArenaError("source and target have no token in common: are these the tables of their own tokenizers?")
    basis = _basis(rows, width) if {"embeddings", "positions"} & set(parts) else None
    factor = target.config.initializer_range if matched_scale else None
    tables = {**params["embeddings"]}
    if "embeddings" in parts:
        new, scale = _rows(rows[source_ids], basis, factor)
        tables["token"] = {"embedding": _with_rows(tables["token"]["embedding"], target_ids, new)}
        report.append(_tokens_line(len(target_ids), len(target_tokens), matches.kinds, scale))
    if "positions" in parts:
        assert config is not None
        count = min(config.max_length, target.config.max_length)
        table = np.asarray(source_params["embeddings"]["position"]["embedding"])
        new, scale = _rows(table[config.position_offset : config.position_offset + count], basis, factor)
        at = target.config.position_offset + np.arange(count)
        tables["position"] = {"embedding": _with_rows(tables["position"]["embedding"], at, new)}
        report.append(f"positions: the first {count} of {target.config.max_length}, times {scale:.3g}")
    params = {**params, "embeddings": tables}
    if basis is not None and basis.shape[0] > width:
        report.append(f"width: {basis.shape[0]} to {width} by the token rows' first singular vectors")
    if config is not None and {"norms", "blocks"} & set(parts):
        params, lines = _same_width(source_params, params, config, target.config, parts)
        report += lines
    return WarmStart(merge(structure, params), int(keep.sum()), tuple(report))


def _basis(rows: Array, width: int) -> Array:
    """(D, width): what a wider source is multiplied with; the identity where widths are the same."""
    size = rows.shape[1]
    if size < width:
        raise ArenaError(
            f"the source is {size} wide and the target {width}: a narrower table has too little to hand down; give a "
            "source at least as wide"
        )
    if size == width:
        return np.eye(size)
    wide = rows.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)  # ascending
    first = vectors[:, ::-1][:, :width]
    # A vector's sign is free: its largest entry is positive, so that every machine hands down the same.
    return first * np.sign(np.take_along_axis(first, np.abs(first).argmax(0)[None], 0))


def _rows(rows: Array, basis: Array | None, deviation: float | None) -> tuple[Array, float]:
    """Rows in the target's width with a mean square of ``deviation``²; and what they were multiplied by."""
    assert basis is not None
    wide = rows.astype(np.float64)
    wide = wide if basis.shape[0] == basis.shape[1] else wide @ basis
    size = float(np.sqrt(np.mean(np.square(wide))))
    scale = 1.0 if deviation is None or size == 0 else deviation / size
    return wide * scale, scale


def _with_rows(table: Any, ids: Array, rows: Array) -> Any:
    new = np.array(table)
    new[ids] = rows
    return jnp.array(new, table.dtype, copy=True)


def _tokens_line(matched: int, tokens: int, kinds: Mapping[str, int], scale: float) -> str:
    others = [f"{count} with {kind}" for kind, count in kinds.items() if count and kind != "same text"]
    how = f" ({', '.join(others)})" if others else ""
    return f"embeddings: {matched} of {tokens} tokens by their text{how}, times {scale:.3g}"


_NORMS = (("embeddings", "norm"), ("final_norm",))
_WIDTHS = ("hidden_size", "intermediate_size", "num_heads", "head_size")


def _same_width(
    source_params: Params, params: Params, source: TransformerConfig, target: TransformerConfig, parts: Sequence[str]
) -> tuple[Params, list[str]]:
    """Norms and blocks, as they are."""
    widths = _WIDTHS if "blocks" in parts else _WIDTHS[:1]
    what = "blocks" if "blocks" in parts else "norms"
    for name in widths:
        if getattr(source, name) != getattr(target, name):
            raise ArenaError(
                f"{what} cannot be handed down: {name} is {getattr(source, name)} in the source"
                f" and {getattr(target, name)} in the target; leave the part out"
            )
    count = min(source.num_layers, target.num_layers)
    blocks, lines = {**params["blocks"]}, []
    part_of = {"attention": "blocks", "feed_forward": "blocks", "attention_norm": "norms", "feed_forward_norm": "norms"}
    for module, part in part_of.items():
        if part in parts:
            blocks[module] = _first_layers(source_params["blocks"][module], blocks[module], count)
    params = {**params, "blocks": blocks}
    if "blocks" in parts:
        lines.append(f"blocks: the first {count} of {target.num_layers}")
    if "norms" in parts:
        outer = [where for where in _NORMS if _at(source_params, where) and _at(params, where)]
        for where in outer:
            params = _put(params, where, jax.tree.map(lambda x: jnp.array(x, copy=True), _at(source_params, where)))
        names = ["those of the blocks", *(".".join(where) for where in outer)]
        lines.append(f"norms: {', '.join(names)}")
    return params, lines


def _first_layers(source: Any, target: Any, count: int) -> Any:
    if isinstance(target, dict):
        return {name: _first_layers(source[name], leaf, count) for name, leaf in target.items()}
    return jnp.concatenate([jnp.asarray(source[:count], target.dtype), target[count:]])


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = (tree or {}).get(name)
    return tree


def _put(tree: Params, path: tuple[str, ...], value: Any) -> Params:
    head, *rest = path
    return {**tree, head: _put(tree[head], tuple(rest), value) if rest else value}
