"""Pruning by utility: who goes, what stands in for them, and what grows in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, count, real_number
from arena_jax.game.coalitions import Values
from arena_jax.game.flops import player_flops
from arena_jax.game.players import HEAD, PlayerTable
from arena_jax.models.growth import _halves
from arena_jax.models.surgery import PARAMS, Surgery, rewire


def choose(
    found: Values,
    table: PlayerTable,
    *,
    share: float | None = None,
    threshold: float | None = None,
    width: float = 1.96,
    per_flop: int | None = None,
) -> tuple[int, ...]:
    """Choose who is pruned, the least valuable first.

    Args:
        found: the utilities.
        table: the players.
        share: this part of all players; or
        threshold: everybody whose value plus ``width`` standard errors is below this (nats): of whom one can be sure.
        width: of the confidence bound, in standard errors.
        per_flop: rank by value per operation, at this many tokens of context; None: by value.

    Returns:
        Numbers of players. One head and one group of neurons stay in every block.

    Raises:
        ArenaError: neither or both of share and threshold, a share outside [0, 1], a threshold that is not finite, or
            values that some player lacks.

    Example:
        >>> from arena_jax import models
        >>> from arena_jax.game import fine_players
        >>> values = Values(np.arange(16.0), np.zeros(16), 17, "leave-one-out")
        >>> choose(values, fine_players(models.preset("gpt2-tiny")), share=0.25)
        (0, 1, 2, 4)
    """
    check_choice(share, threshold)
    if len(found.values) != len(table) or not np.isfinite(found.values).all():
        raise ArenaError(f"'{found.method}' does not give each of {len(table)} players a value; choose another measure")
    worth = np.array(found.values)
    real_number(width, "width", "a number of standard errors, at least 0", lambda x: x >= 0)
    if per_flop is not None:
        count(per_flop, "per_flop", "the tokens of context at which operations are counted")
        worth = worth / [player_flops(table.config, per_flop, kind, table.groups) for kind in table.kinds]
    # Where one sample cannot tell the error, nobody is surely worth less.
    upper = found.values + width * np.where(np.isnan(found.standard_errors), np.inf, found.standard_errors)
    left = {(p.layer, p.kind): table.config.num_heads if p.kind == HEAD else table.groups for p in table.players}
    wanted = len(table) if share is None else round(share * len(table))
    gone: list[int] = []
    for i in np.argsort(worth, kind="stable"):
        place = table.players[i].layer, table.players[i].kind
        if len(gone) == wanted or (threshold is not None and upper[i] >= threshold) or left[place] == 1:
            if len(gone) == wanted:
                break
            continue
        left[place] -= 1
        gone.append(int(i))
    return tuple(gone)


def check_choice(share: float | None, threshold: float | None) -> None:
    """What :func:`choose` asks of its numbers, to be asked before anything is measured.

    Raises:
        ArenaError: neither or both, a share outside [0, 1], or a threshold that is no finite number.
    """
    if (share is None) == (threshold is None):
        raise ArenaError("say either which share of the players goes, or under which threshold of utility")
    if share is not None:
        real_number(share, "share", "a part of the players, from 0 to 1", lambda x: 0 <= x <= 1)
    if threshold is not None:
        real_number(threshold, "threshold", "a finite number of nats")


def prune(
    table: PlayerTable,
    gone: Sequence[int],
    means: tuple[Any, Any] | None = None,
    *,
    compact: bool = False,
    regrow: Values | None = None,
    seed: int = 0,
) -> Surgery:
    """Remove players; what they gave on average moves into the output biases.

    Args:
        table: heads and groups of neurons.
        gone: numbers of those who go.
        means: μ of heads and neurons, as in the ablation game; None: they leave nothing.
        compact: make the arrays smaller: all blocks as wide as the widest, where what is left over stays zeroed. False
            keeps every shape and zeroes the output rows: what ``transformers`` can always express.
        regrow: split the most valuable player of the same block and kind into every place that is free, by these
            values: as many operations are bought as were sold, and the function stays that of the pruned model.
        seed: of the shares of split players.

    Returns:
        The change.

    Raises:
        ArenaError: the table by type, a player who does not exist, a block left empty, or compact with regrow.
    """
    config = table.config
    if not table.groups:
        raise ArenaError("only heads and neurons can be pruned: give game.fine_players(config)")
    if isinstance(gone, str) or not isinstance(gone, Sequence | np.ndarray):
        raise ArenaError(f"gone is {gone!r}; give the numbers of the players who go")
    if any(not isinstance(i, int | np.integer) or not 0 <= i < len(table) for i in gone):
        raise ArenaError(f"there are {len(table)} players, numbered from 0; {list(gone)} names another")
    if compact and regrow is not None:
        raise ArenaError("regrow fills the places that compact would take away: choose one")
    kept = np.ones(len(table), bool)
    kept[list(gone)] = False
    layers, heads = config.num_layers, config.num_heads
    by_block = kept.reshape(layers, heads + table.groups)
    worth = None if regrow is None else regrow.values.reshape(by_block.shape)
    plans = []
    for place, what in ((slice(0, heads), "head"), (slice(heads, None), "group of neurons")):
        alive = by_block[:, place]
        if not alive.any(axis=1).all():
            raise ArenaError(f"block {int(np.argmin(alive.any(axis=1)))} would be left without a {what}; keep one")
        plans.append(_plan(alive, None if worth is None else worth[:, place], compact, seed))
    size = config.intermediate_size // table.groups
    source, share = plans[1]
    neurons = (source[:, :, None] * size + np.arange(size)).reshape(layers, -1), np.repeat(share, size, axis=1)
    verb = "prune" if regrow is None else "replace"
    inner = rewire(config, name=f"{verb} {len(set(gone))} of {len(table)} players", heads=plans[0], neurons=neurons)

    def change(tree: dict[str, Any], role: str) -> dict[str, Any]:
        if role == PARAMS and means is not None:
            tree = _with_means(tree, table, by_block, means)
        return inner.change(tree, role)

    return Surgery(inner.name, config, inner.after, change)


def _plan(alive: Array, worth: Array | None, compact: bool, seed: int) -> tuple[Array, Array]:
    """Source and share of each place, per block."""
    layers, count = alive.shape
    if compact:
        # The living first, in their order; then as many of the dead as the widest block needs.
        order = np.argsort(~alive, axis=1, kind="stable")[:, : int(alive.sum(axis=1).max())]
        return order, np.take_along_axis(alive, order, axis=1).astype(float)
    source, share = np.tile(np.arange(count), (layers, 1)), alive.astype(float)
    if worth is not None:
        for layer in range(layers):
            free = np.flatnonzero(~alive[layer])
            ranked = sorted(np.flatnonzero(alive[layer]), key=lambda i: -worth[layer, i])
            parents = np.resize(ranked, len(free))
            for parent in set(parents.tolist()):
                children = free[parents == parent]
                parts = 1 / (1 + len(children)) + _uneven(1 + len(children), seed + layer)
                source[layer, children] = parent
                share[layer, [parent, *children]] = parts
    return source, share


def _uneven(count: int, seed: int) -> Array:
    """Small numbers that sum to 0 and are all different, so that split parts do not stay equal."""
    first = (_halves(1, seed)[0] - 0.5) / count
    return first * np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


def _with_means(tree: dict[str, Any], table: PlayerTable, kept: Array, means: tuple[Any, Any]) -> dict[str, Any]:
    """Add what removed players gave on average to the output biases."""
    config, heads = table.config, table.config.num_heads
    blocks = {**tree["blocks"]}
    sizes = (config.head_size, config.intermediate_size // table.groups)
    gates = (kept[:, :heads], kept[:, heads:])
    for (part, name), mean, gate, size in zip(
        (("attention", "output"), ("feed_forward", "down")), means, gates, sizes, strict=True
    ):
        last = blocks[part][name]
        gone = np.asarray(mean, np.float64) * ~np.repeat(gate, size, axis=1)
        moved = np.einsum("ln,lnd->ld", gone, np.asarray(last["kernel"], np.float64))
        bias = (np.asarray(last["bias"], np.float64) + moved).astype(last["bias"].dtype)
        blocks[part] = {**blocks[part], name: {**last, "bias": bias}}
    return {**tree, "blocks": blocks}
