"""What a causal language model writes: greedy or drawn, in batches padded on the left, with keys and values kept."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from arena_jax.config.errors import ArenaError
from arena_jax.models.decode import Cache, blocks_of, decode, empty_cache
from arena_jax.models.transformer import Params, Transformer, merge, split

_MULTIPLE = 16  # prompts are padded to a multiple of this: one program serves many lengths


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int = 32,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    end_id: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> list[list[int]]:
    """Let a model go on after each prompt.

    Args:
        model: of the task causal-lm.
        prompts: token numbers, at least one each; of any lengths.
        tokens: how many new ones at most.
        temperature: what logits are divided by before a token is drawn; 0 takes the likeliest.
        top_k: draw among so many of the likeliest alone.
        top_p: draw among the fewest of the likeliest that have this probability together, in (0, 1].
        end_id: a text ends before this token; None: no token ends it.
        seed: of the draws; a prompt's do not depend on its batch.
        batch_size: prompts at a time.

    Returns:
        The new tokens of each prompt, without the end.

    Raises:
        ArenaError: another task, an empty prompt, one that does not fit with what is to be written, or a bad number.

    Example:
        >>> from arena_jax import models
        >>> model = models.create("gpt2-tiny", task="causal-lm", seed=0)
        >>> greedy = generate(model, [[5, 6, 7], [8]], tokens=4)
        >>> [len(text) for text in greedy], generate(model, [[8]], tokens=4) == greedy[1:]
        ([4, 4], True)
    """
    _check(model, prompts, tokens, temperature, top_k, top_p, batch_size)
    structure, params = split(model)
    longest = -(-max(map(len, prompts), default=1) // _MULTIPLE) * _MULTIPLE
    texts = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        ids, real = np.zeros((2, batch_size, longest), np.int32)
        for row, prompt in enumerate(part):
            ids[row, longest - len(prompt) :] = prompt
            real[row, longest - len(prompt) :] = 1
        real[len(part) :, -1] = 1  # rows that only fill up attend to something
        written = np.asarray(
            _write(
                structure,
                tokens,
                temperature > 0,
                top_k,
                top_p is not None and top_p < 1,
                params,
                ids,
                real != 0,
                np.arange(start, start + batch_size) < len(prompts),
                jax.random.key(seed),
                np.int32(start),
                np.float64(temperature or 1.0),
                np.float64(1.0 if top_p is None else top_p),
                np.int32(-1 if end_id is None else end_id),
            )
        )
        for row in written[: len(part)].tolist():
            texts.append(row[: row.index(end_id)] if end_id in row else row)
    return texts


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _write(
    structure: nnx.GraphDef[Transformer],
    tokens: int,
    draws: bool,
    top_k: int | None,
    nucleus: bool,
    params: Params,
    ids: Array,
    real: Array,
    prompted: Array,
    key: Array,
    first_row: Array,
    temperature: Array,
    top_p: Array,
    end_id: Array,
) -> Array:
    """New tokens (B, tokens) after ids (B, P), padded on the left; the end's number from a row's end on."""
    model = merge(structure, params)
    rows, length = ids.shape
    blocks, cache = blocks_of(model), empty_cache(model, rows, length + tokens)
    real = jnp.concatenate([real, jnp.ones((rows, tokens), bool)], axis=1)
    # As transformers counts: padding has no place of its own, and RoBERTa's begin behind its padding's.
    numbers = jnp.maximum(jnp.cumsum(real[:, :length], axis=1, dtype=jnp.int32) - 1, 0)
    places = numbers + jnp.int32(model.config.position_offset)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(first_row + jnp.arange(rows))

    def choose(hidden: Array, i: Array) -> Array:
        logits = model.predict_tokens(hidden[:, -1])
        if not draws:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        scores = likely_logits(logits, temperature, top_k=top_k, top_p=top_p if nucleus else None)
        own_keys = jax.vmap(lambda k: jax.random.fold_in(k, i))(keys)
        return jax.vmap(jax.random.categorical)(own_keys, scores).astype(jnp.int32)

    def more(state: tuple[Array, Array, Array, Array, Cache]) -> Array:
        i, _, _, over, _ = state
        return (i < tokens) & ~jnp.all(over)

    def write(state: tuple[Array, Array, Array, Array, Cache]) -> Any:
        i, written, last, over, cache = state
        position = places[:, -1:] + i
        hidden, cache = decode(model, blocks, last[:, None], position, cache, length + i - 1, real)
        token = jnp.where(over, end_id, choose(hidden, i))
        written = jax.lax.dynamic_update_slice_in_dim(written, token[:, None], i, axis=1)
        return i + 1, written, token, over | (token == end_id), cache

    hidden, cache = decode(model, blocks, ids, places, cache, jnp.int32(0), real)
    first = choose(hidden, jnp.int32(0))
    written = jnp.full((rows, tokens), end_id, jnp.int32).at[:, 0].set(first)
    over = (first == end_id) | ~prompted
    return jax.lax.while_loop(more, write, (jnp.int32(1), written, first, over, cache))[1]


def likely_logits(
    logits: Array, temperature: Array | float, *, top_k: int | None = None, top_p: Array | float | None = None
) -> Array:
    """The logits that a token is drawn from: divided by the temperature, −inf where a token is ruled out.

    Args:
        logits: (..., V).
        temperature: above 0.
        top_k: tokens that stay, and those as likely as the last of them.
        top_p: the fewest of the likeliest that have this probability together stay.

    Returns:
        (..., V) in at least float32.

    Example:
        >>> print(likely_logits(jnp.array([2.0, 1.0, 0.0]), 1.0, top_p=0.7))  # probabilities 0.67, 0.24, 0.09
        [  2.   1. -inf]
        >>> print(likely_logits(jnp.array([3.0, 2.0, 1.0]), 0.5, top_k=1))
        [  6. -inf -inf]

    Source: Holtzman et al. 2020 (arXiv 1904.09751) for ``top_p``; Fan et al. 2018 (arXiv 1805.04833) for ``top_k``.
    """
    scores = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    scores = scores / jnp.asarray(temperature, scores.dtype)
    if top_k is not None and top_k < scores.shape[-1]:
        smallest = jax.lax.top_k(scores, top_k)[0][..., -1:]
        scores = jnp.where(scores < smallest, -jnp.inf, scores)
    if top_p is not None:
        rising = jnp.sort(scores, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(rising, axis=-1), axis=-1)
        stays = (below > 1 - jnp.asarray(top_p, scores.dtype)).at[..., -1].set(True)
        smallest = jnp.min(jnp.where(stays, rising, jnp.inf), axis=-1, keepdims=True)
        scores = jnp.where(scores < smallest, -jnp.inf, scores)
    return scores


def _check(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    batch_size: int,
) -> None:
    if model.task != "causal-lm":
        raise ArenaError(f"only a causal language model writes; this one's task is {model.task!r}")
    for name, number in (("tokens", tokens), ("batch_size", batch_size), ("top_k", top_k)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ArenaError(f"generate: {name} is {number!r}; give a whole number, at least 1")
    if not 0 <= temperature < float("inf"):
        raise ArenaError(f"generate: temperature is {temperature!r}; give 0 (the likeliest token) or a number above")
    if top_p is not None and not 0 < top_p <= 1:
        raise ArenaError(f"generate: top_p is {top_p!r}; give a probability above 0, at most 1")
    if temperature == 0 and (top_k is not None or top_p is not None):
        raise ArenaError("generate: top_k and top_p do nothing where the likeliest token is taken; give a temperature")
    room, vocabulary = model.config.max_length, model.config.vocab_size
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise ArenaError(f"generate: prompt {number} is empty; give at least one token")
        if len(prompt) + tokens > room:
            raise ArenaError(
                f"generate: prompt {number} has {len(prompt)} tokens and {tokens} are to be written, but the model"
                f" takes {room}; cut the prompt or write fewer"
            )
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise ArenaError(
                f"generate: prompt {number} holds a token outside of 0 to {vocabulary - 1}: use the model's tokenizer"
            )
