"""Whole blocks that go: what each is worth, and which are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from arena_jax import models
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria.arguments import Array, real_number, seed_number
from arena_jax.game.ablation import AblationGame
from arena_jax.game.coalitions import Values, with_names
from arena_jax.game.layer_inputs import layer_inputs
from arena_jax.models.pruning import remove_blocks


def score_blocks(game: AblationGame, criterion: str = "block-influence", *, seed: int = 0) -> Values:
    """What each block is worth by a criterion; the lowest goes first.

    ===============  =================================================================================
    criterion        what it is
    ===============  =================================================================================
    block-influence  1 − E cos(x, y), x the states that enter, y those that leave (ShortGPT, Men et al.
                     2024, arXiv 2403.03853, equation 1)
    leave-one-out    the increase of the loss on the probe without the block, nats
    magnitude        the Frobenius norm of its kernels
    random           drawn
    ===============  =================================================================================

    Args:
        game: of the model: its probe, and the calibration batches that states are averaged over.
        criterion: one of the above.
        seed: of random.

    Returns:
        Values (blocks,), named "block 0", ….

    Raises:
        ArenaError: an unknown criterion, or a model of one block, of which none can go.

    Example:
        >>> from arena_jax import game
        >>> probe = [{"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}]
        >>> played = game.AblationGame(models.create("gpt2-tiny", task="causal-lm"), probe)
        >>> values = score_blocks(played)
        >>> values.names, bool((values.values > 0).all())
        (('block 0', 'block 1'), True)
    """
    if criterion not in BLOCK_CRITERIA:
        raise ArenaError(f"unknown criterion {criterion!r} for blocks; {nearest(str(criterion), BLOCK_CRITERIA)}")
    layers = game.model.config.num_layers
    if layers < 2:
        raise ArenaError("the model has one block: none can go")
    values = np.array(_CRITERIA[criterion](game, seed), np.float64)
    evaluations = layers + 1 if criterion == "leave-one-out" else 0
    names = [f"block {layer}" for layer in range(layers)]
    return with_names(Values(values, np.zeros(layers), evaluations, criterion), names)


def choose_blocks(values: Values, share: float) -> tuple[int, ...]:
    """The blocks that go: the share of them, rounded, of the lowest values; one stays.

    Args:
        values: of blocks.
        share: part of the blocks, from 0 to 1.

    Returns:
        Their numbers, in order.

    Raises:
        ArenaError: a share outside [0, 1], or a value that is not finite.

    Example:
        >>> choose_blocks(Values(np.array([3.0, 1.0, 2.0, 4.0]), np.zeros(4), 0, "given"), 0.5)
        (1, 2)
    """
    real_number(share, "share", "a part of the blocks, from 0 to 1", lambda x: 0 <= x <= 1)
    if not np.isfinite(values.values).all():
        raise ArenaError(f"'{values.method}' gives a block no finite value; choose another criterion")
    blocks = len(values.values)
    most = min(round(share * blocks), blocks - 1)
    return tuple(sorted(int(i) for i in np.argsort(values.values, kind="stable")[:most]))


def _block_influence(game: AblationGame, seed: int) -> Array:
    layers = range(game.model.config.num_layers)
    return np.array([layer_inputs(game.model, game.calibration, layer).influence for layer in layers])


def _leave_one_out(game: AblationGame, seed: int) -> Array:
    config = game.model.config
    whole = -float(game.evaluate(np.ones((1, len(game.table))))[0])
    structure: Any = models.split(models.abstract(config.replace(num_layers=config.num_layers - 1), game.model.task))[0]

    @jax.jit
    def sums(params: Any) -> Any:
        def of_batch(batch: Any) -> Any:
            rows, key = batch
            result = game.objective(models.merge(structure, params), rows, key, False).sums
            return result["loss_sum"], result["count"]

        return jax.lax.map(of_batch, (game.probe, game.keys))

    def loss(layer: int) -> float:
        total, count = sums(remove_blocks(config, [layer]).parameters(game.params))
        return float(np.asarray(total, np.float64).sum() / np.asarray(count, np.float64).sum())

    return np.array([loss(layer) for layer in range(config.num_layers)]) - whole


def _magnitude(game: AblationGame, seed: int) -> Array:
    blocks = jax.tree_util.tree_flatten_with_path(models.split(game.model)[1]["blocks"])[0]
    kernels = [np.asarray(leaf, np.float64) for path, leaf in blocks if path[-1].key == "kernel"]
    total = np.sum([np.square(kernel).sum(axis=(1, 2)) for kernel in kernels], axis=0)
    return np.asarray(np.sqrt(total))


def _random(game: AblationGame, seed: int) -> Array:
    return np.random.default_rng(seed_number(seed)).random(game.model.config.num_layers)


_CRITERIA: dict[str, Callable[[AblationGame, int], Array]] = {
    "block-influence": _block_influence,
    "leave-one-out": _leave_one_out,
    "magnitude": _magnitude,
    "random": _random,
}
BLOCK_CRITERIA = tuple(_CRITERIA)
