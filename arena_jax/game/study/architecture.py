"""Growth and pruning while training: the ablation game moves heads and neurons from where they are worth little."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.equilibria.arguments import Array
from arena_jax.game.players import HEAD, NEURONS
from arena_jax.game.study.trainer import LENGTH, ROWS, Trained, Trainer
from arena_jax.game.worth import banzhaf

SPARE = 0.5  # closed heads and groups of neurons that a model begins with, as a fraction of its own
MOMENTS = (0.25, 0.5)  # of the training: when the game is played
SAMPLES = 3  # coalitions per game, each with its n neighbours
CONFIDENCE = 1.96


class Move(NamedTuple):
    """One part closed, one of the same kind opened: operations are sold and bought in equal number."""

    closed: str
    opened: str
    utility: float
    bound: float
    layer_mean: float


def game_flops(trainer: Trainer) -> float:
    """Operations of one game: its coalitions, each a forward pass over the probe."""
    players = int(trainer.open.sum())
    return SAMPLES * (players + 1) * ROWS * LENGTH * trainer.forward_flops()


def rearrange(trainer: Trainer, state: Trained, gates: Array, seed: int) -> tuple[Trained, Array, list[Move]]:
    """Play the ablation game on the open parts and trade the least useful of each kind.

    A part is closed if the upper confidence bound of its Banzhaf value is under half the mean value of its kind in the
    layer that grows: the layer whose open parts of this kind are worth most on average and that has a spare one. One
    trade per kind and game. A part that opens has its output rows at zero, so that opening it changes nothing.

    Args:
        trainer: of the size.
        state: where training stands.
        gates: (players,) now open.
        seed: of the probe and the coalitions.

    Returns:
        State and gates after the trades, and the trades.
    """
    players = trainer.table.players
    opened = np.flatnonzero(gates)
    probe = trainer.corpus.batches(tokens=ROWS * LENGTH, rows=ROWS, seed=10_000 + seed)[0]

    def value(members: Array) -> Array:
        rows = np.zeros((len(members), len(players)), np.float32)
        rows[:, opened] = members
        return np.array([-trainer.loss(state, probe, row) for row in rows])

    worth = banzhaf(value, len(opened), evaluations=SAMPLES * (len(opened) + 1), seed=seed)
    utility, error = np.full((2, len(players)), np.nan)
    utility[opened], error[opened] = worth.values, worth.standard_errors
    after, moves = gates.copy(), []
    for kind in (HEAD, NEURONS):
        of_kind = np.array([player.kind == kind for player in players])
        layers = np.array([player.layer for player in players])
        means = {
            layer: float(utility[of_kind & (layers == layer) & (gates > 0)].mean())
            for layer in range(trainer.config.num_layers)
            if (of_kind & (layers == layer) & (gates == 0)).any() and (of_kind & (layers == layer) & (gates > 0)).any()
        }
        if not means:
            continue
        grows = max(means, key=lambda layer: means[layer])
        alone = [
            layer for layer in range(trainer.config.num_layers) if (of_kind & (layers == layer) & (gates > 0)).sum() < 2
        ]
        movable = of_kind & (gates > 0) & (layers != grows) & ~np.isin(layers, alone)  # a layer keeps one of each kind
        if not movable.any():
            continue
        worst = int(np.nanargmin(np.where(movable, utility, np.nan)))
        bound = float(utility[worst] + CONFIDENCE * error[worst])
        if not bound < means[grows] / 2:
            continue
        spare = int(np.flatnonzero(of_kind & (layers == grows) & (gates == 0))[0])
        after[worst], after[spare] = 0, 1
        state = state._replace(params=_silenced(state.params, players[spare].parts[-1]))
        moves.append(Move(players[worst].name, players[spare].name, float(utility[worst]), bound, means[grows]))
    return state, after, moves


def _silenced(params: Any, part: Any) -> Any:
    """The parameters with a part's output rows at zero."""

    def zero_output(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf.at[part.index].set(0) if tuple(entry.key for entry in path) == part.path else leaf

    return jax.tree_util.tree_map_with_path(zero_output, jax.tree.map(jnp.asarray, params))
