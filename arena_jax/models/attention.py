"""Multi-head self-attention, written out for XLA or handed to ``jax.nn.dot_product_attention``."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig
from arena_jax.models.gates import gate
from arena_jax.models.initial import Initial
from arena_jax.models.layers import Linear, dropout

# The platform that is compiled for where it is not the one that is here: GPUs need not be present to be compiled for.
compiling_for: ContextVar[str | None] = ContextVar("compiling_for", default=None)


def drops_weights(config: TransformerConfig, key: Array | None) -> bool:
    """Whether attention weights are dropped, which the library functions cannot do: attention is then written out."""
    return key is not None and config.attention_dropout > 0


class Attention(nnx.Module):
    """softmax(Q Kᵀ · s + mask) V per head (:meth:`mix`), then one output map (:meth:`join`).

    s is 1/sqrt(head size) unless the configuration turns it off; GPT-2 can divide it by the block's number as well.
    """

    def __init__(self, config: TransformerConfig, output_std: float, initial: Initial) -> None:
        size, std = config.hidden_size, config.initializer_range
        inner = config.num_heads * config.head_size
        self.query = Linear(size, inner, std, initial)
        self.key = Linear(size, inner, std, initial)
        self.value = Linear(size, inner, std, initial)
        self.output = Linear(inner, size, output_std, initial)
        self.config = config

    def mix(self, x: Array, mask: Array | None, layer: Array, key: Array | None) -> Array:
        """What the heads find, side by side, before the output map.

        Args:
            x: (B, L, D).
            mask: bool, broadcastable to (B, heads, L, L): True where a query may see a key; or where the library masks
                by itself, int32 (B,), the real tokens of each row, which come first. None: everywhere.
            layer: int32 scalar, the number of this block from 0.
            key: random key of the dropout on attention weights, or None.

        Returns:
            (B, L, heads · d).
        """
        config = self.config
        heads = (*x.shape[:-1], config.num_heads, config.head_size)
        joined = (*x.shape[:-1], config.num_heads * config.head_size)
        query, keys, values = (part(x).reshape(heads) for part in (self.query, self.key, self.value))
        dropping = drops_weights(config, key)
        if dropping and config.attention == "cudnn":
            raise ArenaError(
                f"attention='cudnn' cannot drop attention weights, and attention_dropout is {config.attention_dropout}:"
                " set it to 0, or use attention='xla'"
            )
        if config.attention != "xla" and not dropping:
            scale = self.scale(layer, jnp.promote_types(x.dtype, jnp.float32))
            mixed = _library_attention(config, (query * scale).astype(x.dtype), keys, values, mask)
            return mixed.reshape(joined)
        # (B, heads, L, d): said outright, XLA's CPU backend saves the copies that it makes when an einsum hides it.
        query, keys, values = (part.transpose(0, 2, 1, 3) for part in (query, keys, values))
        return self.weigh(query, keys, values, mask, layer, key)

    def mix_cached(
        self, x: Array, cache: tuple[Array, Array], place: Array, mask: Array, layer: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        """What the heads find for new tokens, in themselves and in those whose keys and values are kept.

        Args:
            x: (B, L, D), the new tokens alone.
            cache: keys and values of M places, (B, heads, M, d) each.
            place: int32 scalar, the place of the first new token.
            mask: bool, broadcastable to (B, heads, L, M).
            layer: int32 scalar, the number of this block from 0.

        Returns:
            (B, L, heads · d), and the cache with the new tokens in it.
        """
        heads = (*x.shape[:-1], self.config.num_heads, self.config.head_size)
        query, *new = (part(x).reshape(heads).transpose(0, 2, 1, 3) for part in (self.query, self.key, self.value))
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(array, part.astype(array.dtype), place, axis=2)
            for array, part in zip(cache, new, strict=True)
        )
        return self.weigh(query, keys, values, mask, layer, None), (keys, values)

    def weigh(
        self, query: Array, keys: Array, values: Array, mask: Array | None, layer: Array, key: Array | None
    ) -> Array:
        """Softmax of the scores times the values, heads side by side: the attention written out.

        Args:
            query: (B, heads, L, d).
            keys: (B, heads, M, d).
            values: (B, heads, M, d).
            mask: bool, broadcastable to (B, heads, L, M), or None.
            layer: int32 scalar, the number of this block from 0.
            key: random key of the dropout on attention weights, or None.

        Returns:
            (B, L, heads · d).
        """
        config, dtype = self.config, query.dtype
        wide = jnp.promote_types(dtype, jnp.float32)
        scale = self.scale(layer, wide)
        sums = wide if config.reorder_and_upcast_attn else None
        scores = jnp.einsum("bhld,bhmd->bhlm", query, keys, preferred_element_type=sums).astype(wide) * scale
        if mask is not None:
            # The smallest finite number, not −inf: a row that may see nothing then averages instead of giving NaN.
            scores = jnp.where(mask, scores, jnp.finfo(wide).min)
        # Softmax with the division moved behind the product with V, where it has head_size/L as much to divide.
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        total = weights.sum(-1, keepdims=True)
        weights = dropout(weights.astype(dtype), config.attention_dropout, key)
        mixed = jnp.einsum("bhlm,bhmd->bhld", weights, values).astype(wide) / total
        mixed = mixed.astype(dtype).transpose(0, 2, 1, 3)
        return mixed.reshape(*mixed.shape[:2], config.num_heads * config.head_size)

    def scale(self, layer: Array, dtype: DTypeLike) -> Array:
        """What the scores q·k of block ``layer`` (int32 scalar, from 0) are multiplied by: a scalar of the dtype."""
        config = self.config
        scale = jnp.asarray(config.head_size**-0.5 if config.scale_attn_weights else 1.0, dtype)
        return scale / (layer + 1).astype(dtype) if config.scale_attn_by_inverse_layer_idx else scale

    def join(self, mixed: Array, gates: tuple[Array, Array | None] | None = None) -> Array:
        """Make one vector of what the heads found.

        Args:
            mixed: (B, L, heads · d), as :meth:`mix` returns it.
            gates: one number per head (heads,), and what closed heads give (heads · d,) or None for 0; None: all open.

        Returns:
            (B, L, D), before dropout.
        """
        return self.output(mixed if gates is None else gate(mixed, *gates))


def _library_attention(
    config: TransformerConfig, query: Array, keys: Array, values: Array, mask: Array | None
) -> Array:
    """``jax.nn.dot_product_attention`` of (B, L, heads, d) with the scale already in the queries."""
    platform = compiling_for.get() or jax.default_backend()
    if config.attention == "cudnn" and platform not in ("gpu", "cuda"):
        raise ArenaError(f"attention='cudnn' needs an NVIDIA GPU, not {platform}: use attention='xla'")
    implementation: Literal["cudnn"] | None = "cudnn" if config.attention == "cudnn" else None
    if mask is not None and mask.ndim == 1:
        # Lengths and not a mask: cuDNN then reads no (B, heads, L, L) array, and skips what is padding.
        return jax.nn.dot_product_attention(
            query,
            keys,
            values,
            scale=1.0,
            is_causal=config.causal,
            query_seq_lengths=mask,
            key_value_seq_lengths=mask,
            implementation=implementation,
        )
    # A mask without examples of its own is the causal one, which cuDNN knows by itself and then skips half the work.
    causal = implementation == "cudnn" and mask is not None and config.causal and mask.shape[0] == 1 < query.shape[0]
    return jax.nn.dot_product_attention(
        query, keys, values, mask=None if causal else mask, scale=1.0, is_causal=causal, implementation=implementation
    )
