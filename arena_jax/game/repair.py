"""What is left of a pruned model makes up for what went: output maps refitted by least squares, or a short training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax import models, training
from arena_jax.equilibria.arguments import count, real_number
from arena_jax.game.layer_inputs import layer_inputs
from arena_jax.game.layer_least_squares import DAMPING, refit
from arena_jax.game.players import PlayerTable
from arena_jax.game.pruning import check_removed
from arena_jax.training.objectives import Objective


def refit_without(
    model: models.Transformer,
    table: PlayerTable,
    removed: Sequence[int],
    batches: Sequence[Mapping[str, Any]],
    *,
    damping: float = DAMPING,
) -> models.Transformer:
    """The same model without some parts, whose output maps come nearest to what they gave: block after block.

    Every map is fitted on what reaches it once everything before it is pruned; its bias takes up the mean. Give the
    result to :func:`game.prune` with the same parts and no means, which removes what is zero here.

    Args:
        model: before.
        table: its heads and groups of neurons.
        removed: their numbers.
        batches: what the maps are fitted on.
        damping: of the least squares, part of the mean variance of a channel.

    Returns:
        A model of the same shapes; the output rows of removed parts are zero.

    Raises:
        ArenaError: the table by type, a player that does not exist, or no batches.

    Example:
        >>> from arena_jax import game
        >>> model = models.create("gpt2-tiny", task="causal-lm")
        >>> ids = {"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}
        >>> new = refit_without(model, game.fine_players(model.config), [0], [ids])
        >>> rows = new.blocks.attention.output.kernel[...][0]
        >>> bool((rows[:8] == 0).all()), bool((rows[8:] == 0).any())
        (True, False)
    """
    check_removed(table, removed)
    config = table.config
    rest = np.ones(len(table), bool)
    rest[list(removed)] = False
    by_block = rest.reshape(config.num_layers, config.num_heads + table.groups)
    plans = (
        ("attention", "output", by_block[:, : config.num_heads]),
        ("feed_forward", "down", by_block[:, config.num_heads :]),
    )
    structure, params = models.split(model)
    for layer in range(config.num_layers):
        for part, module, stays in plans:
            if stays[layer].all():
                continue
            inputs = layer_inputs(models.merge(structure, params), batches, layer).of(part, module)
            output = params["blocks"][part][module]
            kernel = np.asarray(output["kernel"][layer], np.float64)
            channels = np.repeat(stays[layer], len(kernel) // stays.shape[1])
            new = refit(kernel, inputs.covariance, channels, damping)
            bias = np.asarray(output["bias"][layer], np.float64) + inputs.mean @ (kernel - new)
            leaves = {name: output[name].at[layer].set(x) for name, x in (("kernel", new), ("bias", bias))}
            blocks = params["blocks"]
            params = {**params, "blocks": {**blocks, part: {**blocks[part], module: leaves}}}
    return models.merge(structure, params)


def recover(
    model: models.Transformer,
    objective: Objective,
    next_batch: Callable[[], Mapping[str, Any]],
    steps: int,
    *,
    learning_rate: float,
    seed: int = 0,
) -> models.Transformer:
    """Train a pruned model for a short while; what was pruned stays away: a weight that is zero stays zero.

    AdamW without weight decay, gradients clipped at norm 1, the rate falling to 0 in a straight line.

    Args:
        model: pruned.
        objective: of its task.
        next_batch: gives the batches.
        steps: how many.
        learning_rate: at the start.
        seed: of dropout and of hidden tokens.

    Returns:
        The model after the last step.

    Raises:
        ArenaError: fewer than 1 step, or a rate that is not above 0.
    """
    count(steps, "steps", "steps of recovery")
    real_number(learning_rate, "the learning rate of the recovery", "above 0", lambda x: x > 0)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.linear_schedule(learning_rate, 0.0, steps)),
        keep_zeros(),
    )
    step = training.make_step({"model": model}, optimizer, {"model": objective}, seed=seed)
    state = step.init()
    for _ in range(steps):
        state, _ = step(state, {"model": next_batch()})
    return models.merge(step.structures["model"], state.params["model"])


def keep_zeros() -> optax.GradientTransformation:
    """No update of a kernel's weights that are zero where the training begins; leaves named "kernel" are looked at.

    Example:
        >>> params = {"kernel": np.array([0.0, 2.0]), "bias": np.array([0.0])}
        >>> transformation, ones = keep_zeros(), {"kernel": np.ones(2), "bias": np.ones(1)}
        >>> updates, _ = transformation.update(ones, transformation.init(params))
        >>> updates["kernel"].tolist(), updates["bias"].tolist()
        ([0.0, 1.0], [1.0])
    """

    def mask(path: Any, leaf: Any) -> Any:
        return (leaf != 0) if getattr(path[-1], "key", None) == "kernel" else jnp.ones((), bool)

    # In the state, not in the program: all prunings of one model train by the same compiled step.
    def init(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(mask, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def masked(update: Any, mask: Any) -> Any:
            number = jnp.asarray(update)
            return number * mask.reshape(mask.shape or (1,) * number.ndim).astype(number.dtype)

        return jax.tree.map(masked, updates, state), state

    return optax.GradientTransformation(init, update)
