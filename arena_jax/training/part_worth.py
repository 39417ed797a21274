"""What the parts of a model are worth in the middle of a run: how much its loss rises without each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models
from arena_jax.models import Gated, Gates
from arena_jax.models.resize import Worth
from arena_jax.training.objectives import Objective
from arena_jax.training.observe import observe


def part_worth(
    model: models.Transformer, objective: Objective, batch: Mapping[str, Any], *, groups: int = 1, seed: int = 0
) -> Worth:
    """Close each head, each group of neurons and each block in turn, and look at the loss.

    A closed part gives what it gives on average over the batch, as in :class:`arena_jax.game.AblationGame`, whose
    leave-one-out values these are.

    Args:
        model: as it is now.
        objective: of its task.
        batch: arrays (B, …), of held-out rows.
        groups: of each block's neurons, contiguous and of one size.
        seed: of the tokens that a masked model has to guess: the same ones whichever part is closed.

    Returns:
        Values, in nats: above 0, the loss rises without it.

    Example:
        >>> from arena_jax.training.objectives import objective_for
        >>> model = models.create("gpt2-tiny", task="causal-lm")
        >>> batch = {"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}
        >>> worth = part_worth(model, objective_for("causal-lm"), batch, groups=2)
        >>> worth.heads.shape, worth.groups.shape, worth.blocks.shape
        ((2, 4), (2, 2), (2,))
    """
    layers, heads = model.config.num_layers, model.config.num_heads
    means = observe(model, [batch]).means
    structure, params = models.split(model)
    numbers = {name: jnp.asarray(value) for name, value in batch.items() if np.asarray(value).dtype != object}
    key = jax.random.split(jax.random.key(seed), 1)[0]

    @jax.jit
    def losses(params: Any, means: Any, batch: Any, gates: jax.Array) -> jax.Array:
        def loss(row: jax.Array) -> jax.Array:
            gated = Gated(models.merge(structure, params), Gates(row[:, :heads], row[:, heads:], *means))
            sums = objective(gated, batch, key, False).sums
            return sums["loss_sum"] / jnp.maximum(sums["count"], 1)

        return jax.lax.map(loss, gates)

    parts = layers * (heads + groups)
    alone = 1 - np.eye(parts, dtype=np.float32).reshape(parts, layers, heads + groups)
    block = np.repeat(1 - np.eye(layers, dtype=np.float32)[:, :, None], heads + groups, axis=2)
    gates = np.concatenate([np.ones((1, layers, heads + groups), np.float32), alone, block])
    values = np.asarray(losses(params, tuple(map(jnp.asarray, means)), numbers, jnp.asarray(gates)), np.float64)
    rises = values[1:] - values[0]
    by_part = rises[:parts].reshape(layers, heads + groups)
    return Worth(by_part[:, :heads], by_part[:, heads:], rises[parts:], means)
