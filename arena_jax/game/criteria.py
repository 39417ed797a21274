"""By what a part is removed: the game's values, and the criteria of the literature, all of one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from arena_jax import models
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria.arguments import Array, seed_number
from arena_jax.game.ablation import AblationGame
from arena_jax.game.coalitions import Values, with_names
from arena_jax.game.layer_inputs import layer_inputs
from arena_jax.game.layer_least_squares import removal_errors
from arena_jax.game.players import PlayerTable
from arena_jax.game.utilities import METHODS, measure

GAME = tuple(name for name in METHODS if name != "entropy")  # entropy ranks nobody


def score(game: AblationGame, criterion: str, *, seed: int = 0) -> Values:
    """What each head and group of neurons is worth by a criterion; the lowest goes first.

    =============  ====================================================================================
    criterion      what it is, W the part's rows of its output map, x what they are multiplied with
    =============  ====================================================================================
    the game's     banzhaf, leave-one-out, shapley, sensitivity, second-order, aumann-shapley: nats
    magnitude      the Frobenius norm of all kernels of the part, incoming and outgoing
    wanda          Σ |W| · √E x², Wanda's score summed over the part (Sun et al. 2023, arXiv 2306.11695)
    least-squares  the squared error of the map without the part, all others of the block refitted as
                   well as can be, biases too (SparseGPT's problem, for groups)
    random         drawn
    =============  ====================================================================================

    Args:
        game: of the model; its calibration batches are what x is averaged over.
        criterion: one of the above.
        seed: of samples and of random.

    Returns:
        Values (n,); ``flops`` is that of the game's measures.

    Raises:
        ArenaError: an unknown criterion.

    Example:
        >>> from arena_jax import game, models
        >>> probe = [{"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}]
        >>> played = game.AblationGame(models.create("gpt2-tiny", task="causal-lm"), probe)
        >>> values = score(played, "wanda")
        >>> values.method, values.values.shape, bool((values.values > 0).all())
        ('wanda', (16,), True)
    """
    if criterion in GAME:
        return measure(game, criterion, seed=seed)
    if criterion not in CRITERIA:
        raise ArenaError(f"unknown criterion {criterion!r}; {nearest(str(criterion), CRITERIA)}")
    values = np.asarray(_LITERATURE[criterion](game, seed), np.float64)
    return with_names(Values(values, np.zeros(len(values)), 0, criterion), game.table.names)


def _magnitude(game: AblationGame, seed: int) -> Array:
    table, params = game.table, models.split(game.model)[1]
    return np.array(
        [
            np.sqrt(sum(float(np.square(np.asarray(x, np.float64)).sum()) for x in _kernels(table, i, params)))
            for i in range(len(table))
        ]
    )


def _wanda(game: AblationGame, seed: int) -> Array:
    def scores(kernel: Array, inputs: Any, groups: list[Array]) -> list[float]:
        weights = np.abs(kernel) * inputs.root_mean_square[:, None]
        return [float(weights[g].sum()) for g in groups]

    return _by_output_map(game, scores)


def _least_squares(game: AblationGame, seed: int) -> Array:
    return _by_output_map(game, lambda kernel, inputs, groups: removal_errors(kernel, inputs.covariance, groups))


def _random(game: AblationGame, seed: int) -> Array:
    return np.random.default_rng(seed_number(seed)).random(len(game.table))


_LITERATURE: dict[str, Callable[[AblationGame, int], Any]] = {
    "magnitude": _magnitude,
    "wanda": _wanda,
    "least-squares": _least_squares,
    "random": _random,
}
CRITERIA = (*GAME, *_LITERATURE)


def _kernels(table: PlayerTable, i: int, params: Any) -> list[Any]:
    pieces = table.pieces(i, params)
    return [piece for part, piece in zip(table.players[i].parts, pieces, strict=True) if part.path[-1] == "kernel"]


def _by_output_map(game: AblationGame, scores: Callable[[Array, Any, list[Array]], Any]) -> Array:
    """(n,) scores from each block's two output maps: (kernel, moments of its inputs, channels of each part)."""
    config, blocks = game.model.config, models.split(game.model)[1]["blocks"]
    rows = []
    for layer in range(config.num_layers):
        inputs = layer_inputs(game.model, game.calibration, layer)
        for part, module, count in (
            ("attention", "output", config.num_heads),
            ("feed_forward", "down", game.table.groups),
        ):
            kernel = np.asarray(blocks[part][module]["kernel"][layer], np.float64)
            groups = np.split(np.arange(len(kernel)), count)
            rows.extend(scores(kernel, inputs.of(part, module), groups))
    return np.array(rows)
