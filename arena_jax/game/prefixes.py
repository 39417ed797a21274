"""Many coalitions at once: those that agree on the first blocks share what these blocks compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.models.transformer import attention_pattern
from arena_jax.training.objectives import Objective

Means = tuple[jax.Array, jax.Array] | None


class Plan(NamedTuple):
    """Which different states some coalitions reach, block by block, and from which earlier ones; C places for each.

    Attributes:
        mixed: (blocks,) how many different states enter each block.
        attended: (blocks,) how many there are after its attention.
        attended_from: (blocks, C) which entering state each of them comes from.
        heads: (blocks, C, heads) its gates.
        fed: (blocks,) how many there are after its feed-forward part.
        fed_from: (blocks, C) which state after the attention each of them comes from.
        groups: (blocks, C, groups) its gates.
    """

    mixed: Array
    attended: Array
    attended_from: Array
    heads: Array
    fed: Array
    fed_from: Array
    groups: Array


def plan(rows: Array, blocks: int, heads: int, places: int) -> Plan:
    """Find what coalitions share.

    Args:
        rows: (c, players) gates, different ones in lexicographic order: those that agree on the first blocks are
            neighbours. Players are in the order of ``fine_players``.
        blocks: of the model.
        heads: of a block.
        places: C, at least c.

    Returns:
        The plan; after the last block, state i is that of coalition i.

    Example:
        >>> rows = np.array([[0, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])  # two blocks of a head and a group each
        >>> found = plan(rows, 2, 1, 4)
        >>> found.mixed.tolist(), found.attended.tolist(), found.fed.tolist(), found.attended_from[1].tolist()
        ([1, 2], [2, 3], [2, 3], [0, 1, 1, 0])
    """
    width = rows.shape[1] // blocks
    changes = np.zeros(rows.shape, bool)
    changes[1:] = rows[1:] != rows[:-1]

    def states(decided: int) -> Array:
        """The number of each coalition's state once that many of its gates have acted."""
        return np.asarray(np.cumsum(changes[:, :decided].any(axis=1)))

    def padded(values: Array) -> Array:
        return np.concatenate([values, np.zeros((places - len(values), *values.shape[1:]), values.dtype)])

    levels: list[tuple[Array, ...]] = []
    for block in range(blocks):
        start, middle, end = block * width, block * width + heads, (block + 1) * width
        before, between, after = states(start), states(middle), states(end)
        attended, fed = (np.unique(numbers, return_index=True)[1] for numbers in (between, after))
        levels.append(
            (
                before[-1] + 1,
                between[-1] + 1,
                padded(before[attended]),
                padded(rows[attended, start:middle]),
                after[-1] + 1,
                padded(between[fed]),
                padded(rows[fed, middle:end]),
            )
        )
    kinds = (np.int32, np.int32, np.int32, np.float32, np.int32, np.int32, np.float32)
    return Plan(*(np.asarray(part, kind) for part, kind in zip(zip(*levels, strict=True), kinds, strict=True)))


def shared_sums(
    model: models.Transformer,
    objective: Objective,
    means: Means,
    todo: Plan,
    count: jax.Array,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    together: int,
) -> tuple[jax.Array, jax.Array]:
    """The objective's sums of a batch for every coalition of a plan.

    What heads find depends on the state that enters their block, not on their gates: it is computed once for all
    coalitions that share this state, as is each half of a block. The loops run as often as the plan says, so that
    one compiled program does for all plans of as many places.

    Args:
        model: of the coalitions, without gates.
        objective: of its task.
        means: as in ``PlayerTable.gates``.
        todo: the plan.
        count: int32 scalar, how many coalitions it holds.
        batch: of the probe.
        key: of the hidden tokens.
        together: states computed side by side; divides the plan's places.

    Returns:
        Sums of the loss (C,), and what they are averaged over (C,); places behind the last coalition hold 0.

    Raises:
        ArenaError: an objective that does not encode its batch exactly once.
    """
    config = model.config
    inputs = _inputs(model, objective, batch, key)
    embedded = model.embeddings(
        inputs["input_ids"], inputs["token_type_ids"], inputs["position_ids"], None, inputs["segment_ids"]
    )
    mask = attention_pattern(config, embedded.shape[1], inputs["attention_mask"], inputs["segment_ids"])
    graph, stack = nnx.split(model.blocks)
    places = todo.heads.shape[1]

    def run(stores: Any, layer: Any) -> tuple[Any, None]:
        entering, mixed, attended = stores
        params, number, part, head_means, neuron_means = layer
        block = nnx.merge(graph, params)

        def mix(x: jax.Array) -> jax.Array:
            return block.attention.mix(block.attention_input(x), mask, number, None)

        def attend(x: jax.Array, z: jax.Array, gates: jax.Array) -> jax.Array:
            return block.attend(x, z, (gates, head_means))

        def feed(x: jax.Array, gates: jax.Array) -> jax.Array:
            return block.feed(x, (gates, neuron_means))

        mixed = _fill(part.mixed, together, mix, mixed, (entering, None))
        origin = part.attended_from
        attended = _fill(
            part.attended, together, attend, attended, (entering, origin), (mixed, origin), (part.heads, None)
        )
        entering = _fill(part.fed, together, feed, entering, (attended, part.fed_from), (part.groups, None))
        return (entering, mixed, attended), None

    entering = jnp.zeros((places, *embedded.shape), embedded.dtype).at[0].set(embedded)
    mixed = jnp.zeros((places, *embedded.shape[:2], config.num_heads * config.head_size), embedded.dtype)
    numbers = jnp.arange(config.num_layers, dtype=jnp.int32)
    layers = (nnx.to_pure_dict(stack), numbers, todo, *(means or (None, None)))
    (hidden, _, _), _ = jax.lax.scan(run, (entering, mixed, jnp.zeros_like(entering)), layers)

    def score(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        encoded = Encoded(model, x if model.final_norm is None else model.final_norm(x))
        sums = objective(encoded, batch, key, False).sums
        return sums["loss_sum"], sums["count"]

    zeros = jax.tree.map(lambda x: jnp.zeros((places, *x.shape), x.dtype), jax.eval_shape(score, embedded))
    loss, total = _fill(count, together, score, zeros, (hidden, None))
    behind = jnp.arange(places) >= count
    return jnp.where(behind, 0, loss), jnp.where(behind, 0, total)


class Encoded:
    """A model with hidden states that are there already: with it an objective computes head and loss alone.

    Without hidden states it only notes what it is asked to encode.
    """

    def __init__(self, model: models.Transformer, hidden: jax.Array | None = None) -> None:
        self.model, self.hidden = model, hidden
        self.config, self.task = model.config, model.task
        self.inputs: list[dict[str, Any]] = []

    def __call__(self, input_ids: jax.Array, *inputs: Any, **options: Any) -> jax.Array:
        """As the model's."""
        mask = inputs[0] if inputs else options.get("attention_mask")
        return self.model.predict(self.encode(input_ids, *inputs, **options), input_ids, attention_mask=mask)

    def encode(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        *,
        segment_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """As the model's."""
        self.inputs.append(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "position_ids": position_ids,
                "segment_ids": segment_ids,
            }
        )
        if self.hidden is None:
            return jnp.zeros((*input_ids.shape, self.config.hidden_size), self.config.compute_dtype)
        return self.hidden

    def predict_tokens(self, hidden: jax.Array) -> jax.Array:
        """As the model's."""
        return self.model.predict_tokens(hidden)

    def vocabulary_projection(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """As the model's, so that a language model's logits are never whole here either."""
        return self.model.vocabulary_projection(hidden)


def _inputs(model: models.Transformer, objective: Objective, batch: Mapping[str, Any], key: jax.Array) -> Any:
    """What the objective encodes: a masked language model's hides some of the batch's tokens first."""
    listener = Encoded(model)
    objective(listener, batch, key, False)
    if len(listener.inputs) != 1:
        raise ArenaError(f"the objective encodes a batch {len(listener.inputs)} times; a game needs one that does once")
    inputs = listener.inputs[0]
    jax.eval_shape(lambda: model.encode(**inputs))  # refuses wrong shapes and too long rows in the model's own words
    return inputs


def _fill(count: Any, together: int, compute: Callable[..., Any], into: Any, *sources: tuple[Any, Any]) -> Any:
    """Fill the first ``count`` places: each given array is read in order, or at the places that are named."""

    def fill_chunk(turn: jax.Array, filled: Any) -> Any:
        start = turn * together

        def gather(source: jax.Array, places: jax.Array | None) -> jax.Array:
            if places is None:
                return jax.lax.dynamic_slice_in_dim(source, start, together)
            return jnp.take(source, jax.lax.dynamic_slice_in_dim(places, start, together), axis=0)

        results = jax.vmap(compute)(*(gather(*source) for source in sources))
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new.astype(all_.dtype), start, 0),
            filled,
            results,
        )

    return jax.lax.fori_loop(0, (count + together - 1) // together, fill_chunk, into)
