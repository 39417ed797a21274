"""Pruning by utility: which players are removed, and the change of the model that removes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import count, real_number
from arena_jax.game.coalitions import Values
from arena_jax.game.flops import player_flops
from arena_jax.game.players import HEAD, PlayerTable
from arena_jax.models.pruning import remove_parts
from arena_jax.models.surgery import Surgery


def choose(
    values: Values,
    table: PlayerTable,
    *,
    share: float | None = None,
    threshold: float | None = None,
    width: float = 1.96,
    per_flop: int | None = None,
    even: bool = False,
) -> tuple[int, ...]:
    """Choose the players that are pruned, the least valuable first.

    Args:
        values: the utilities.
        table: the players.
        share: this part of all players; or
        threshold: every player whose value plus ``width`` standard errors is below this (nats).
        width: of the confidence bound, in standard errors.
        per_flop: rank by value per operation, at this many tokens of context; None: by value.
        even: take the share of the heads, and of the groups, of every block, rounded: all blocks stay alike, so that
            the compact form is as small as it can be. False: of all players.

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
    if len(values.values) != len(table) or not np.isfinite(values.values).all():
        raise ArenaError(
            f"'{values.method}' does not give each of {len(table)} players a value; choose another measure"
        )
    worth = np.array(values.values)
    real_number(width, "width", "a number of standard errors, at least 0", lambda x: x >= 0)
    if per_flop is not None:
        count(per_flop, "per_flop", "the tokens of context at which operations are counted")
        worth = worth / [player_flops(table.config, per_flop, kind, table.groups) for kind in table.kinds]
    # Where one sample has no standard error, no player is surely worth less.
    upper = values.values + width * np.where(np.isnan(values.standard_errors), np.inf, values.standard_errors)
    left = {(p.layer, p.kind): table.config.num_heads if p.kind == HEAD else table.groups for p in table.players}
    most = len(table) if share is None else round(share * len(table))
    if even and share is None:
        raise ArenaError("even takes a share of every block: give share, not threshold")
    least = {
        place: max(1, parts - round(share * parts)) if even and share is not None else 1
        for place, parts in left.items()
    }
    removed: list[int] = []
    for i in np.argsort(worth, kind="stable"):
        place = table.players[i].layer, table.players[i].kind
        if len(removed) == most and not even:
            break
        if left[place] == least[place] or (threshold is not None and upper[i] >= threshold):
            continue
        left[place] -= 1
        removed.append(int(i))
    return tuple(removed)


def check_choice(share: float | None, threshold: float | None) -> None:
    """Refuse numbers that :func:`choose` cannot take, before anything is measured.

    Raises:
        ArenaError: neither or both, a share outside [0, 1], or a threshold that is no finite number.
    """
    if (share is None) == (threshold is None):
        raise ArenaError(
            "give either the share of the players that is removed, or the threshold of utility under which they are"
        )
    if share is not None:
        real_number(share, "share", "a part of the players, from 0 to 1", lambda x: 0 <= x <= 1)
    if threshold is not None:
        real_number(threshold, "threshold", "a finite number of nats")


def check_removed(table: PlayerTable, removed: Sequence[int]) -> None:
    """Refuse what names no heads or neurons of a table.

    Raises:
        ArenaError: the table by type, or a player that does not exist.
    """
    if not table.groups:
        raise ArenaError("only heads and neurons can be pruned: give game.fine_players(config)")
    if isinstance(removed, str) or not isinstance(removed, Sequence | np.ndarray):
        raise ArenaError(f"removed is {removed!r}; give the numbers of the players to remove")
    if any(not isinstance(i, int | np.integer) or not 0 <= i < len(table) for i in removed):
        raise ArenaError(f"there are {len(table)} players, numbered from 0; {list(removed)} names another")


def prune(
    table: PlayerTable,
    removed: Sequence[int],
    means: tuple[Any, Any] | None = None,
    *,
    compact: bool = False,
    all_heads: bool = False,
    regrow: Values | None = None,
    seed: int = 0,
) -> Surgery:
    """Remove players; their mean output moves into the output biases.

    Args:
        table: heads and groups of neurons.
        removed: their numbers.
        means: μ of heads and neurons, as in the ablation game; None: they leave nothing.
        compact: make the arrays smaller: all blocks as wide as the widest, where what is left over stays zeroed. False
            keeps every shape and zeroes the output rows: what ``transformers`` can always express.
        all_heads: with compact, keep the places of all heads: what ``transformers`` can express.
        regrow: split the most valuable player of the same block and kind into every place that is free, by these
            values: as many operations are bought as were sold, and the function stays that of the pruned model.
        seed: of the shares of split players.

    Returns:
        The change.

    Raises:
        ArenaError: the table by type, a player that does not exist, a block left empty, or compact with regrow.
    """
    config = table.config
    check_removed(table, removed)
    if compact and regrow is not None:
        raise ArenaError("regrow fills the places that compact would take away: choose one")
    rest = np.ones(len(table), bool)
    rest[list(removed)] = False
    heads = config.num_heads
    by_block = rest.reshape(config.num_layers, heads + table.groups)
    scores = None if regrow is None else regrow.values.reshape(by_block.shape)
    verb = "prune" if regrow is None else "replace"
    return remove_parts(
        config,
        by_block[:, :heads],
        by_block[:, heads:],
        means,
        name=f"{verb} {len(set(removed))} of {len(table)} players",
        compact=compact,
        all_heads=all_heads,
        scores=None if scores is None else (scores[:, :heads], scores[:, heads:]),
        seed=seed,
    )
