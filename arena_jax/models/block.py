"""One block of a transformer: attention and feed-forward, and the order of their norms and residual sums."""

from __future__ import annotations

from flax import nnx
from jax import Array

from arena_jax.models.attention import Attention
from arena_jax.models.config import TransformerConfig
from arena_jax.models.gates import Gates, gate
from arena_jax.models.initial import Initial
from arena_jax.models.layers import LayerNorm, Linear, activation, dropout


class FeedForward(nnx.Module):
    """y = act(x W₁ + b₁) W₂ + b₂, each token on its own."""

    def __init__(self, config: TransformerConfig, output_std: float, initial: Initial) -> None:
        size, inner = config.hidden_size, config.intermediate_size
        self.up = Linear(size, inner, config.initializer_range, initial)
        self.down = Linear(inner, size, output_std, initial)
        self.activation = config.activation

    def __call__(self, x: Array, gates: tuple[Array, Array | None] | None = None) -> Array:
        """(B, L, D) → (B, L, D); gates (groups,) of neurons and what closed ones give (F,), or None: all open."""
        inner = self.neurons(x)
        return self.down(inner if gates is None else gate(inner, *gates))

    def neurons(self, x: Array) -> Array:
        """(B, L, D) → (B, L, F), after the activation."""
        return activation(self.activation)(self.up(x))


class Block(nnx.Module):
    """Attention and feed-forward, each with a residual sum and a norm: before it in GPT-2, after it otherwise.

    The call takes three steps that may also be taken one by one: what the heads find, the state after the attention
    (:meth:`attend`), the state after the feed-forward part (:meth:`feed`).
    """

    def __init__(self, config: TransformerConfig, initial: Initial) -> None:
        std = config.initializer_range
        # GPT-2 starts what is added to the residual smaller, by the number of sums (GPT-2 paper, section 2.3).
        output_std = std / (2 * config.num_layers) ** 0.5 if config.family == "gpt2" else std
        self.attention = Attention(config, output_std, initial)
        self.attention_norm = LayerNorm(config.hidden_size, config.layer_norm_eps or 0.0, initial)
        self.feed_forward = FeedForward(config, output_std, initial)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.layer_norm_eps or 0.0, initial)
        self.config = config

    def __call__(
        self, x: Array, mask: Array | None, layer: Array, keys: Array | None, gates: Gates | None = None
    ) -> Array:
        """(B, L, D) → (B, L, D); mask, layer as in :meth:`Attention.mix`; three dropout keys; this block's gates."""
        heads = None if gates is None else (gates.heads, gates.head_means)
        neurons = None if gates is None else (gates.feed_forward, gates.feed_forward_means)
        weights_key, first_key, second_key = (None,) * 3 if keys is None else keys
        mixed = self.attention.mix(self.attention_input(x), mask, layer, weights_key)
        return self.feed(self.attend(x, mixed, heads, first_key), neurons, second_key)

    def attention_input(self, x: Array) -> Array:
        """What the attention reads of the state (B, L, D) that enters the block."""
        return self.attention_norm(x) if self._norms_first else x

    def attend(
        self, x: Array, mixed: Array, gates: tuple[Array, Array | None] | None = None, key: Array | None = None
    ) -> Array:
        """The state (B, L, D) after the attention, from the one before and what the heads found in it."""
        return self._sum(x, self.attention.join(mixed, gates), self.attention_norm, key)

    def feed_forward_input(self, x: Array) -> Array:
        """What the feed-forward part reads of the state (B, L, D) after the attention."""
        return self.feed_forward_norm(x) if self._norms_first else x

    def feed(self, x: Array, gates: tuple[Array, Array | None] | None = None, key: Array | None = None) -> Array:
        """The state (B, L, D) that leaves the block, from the one after the attention."""
        return self._sum(x, self.feed_forward(self.feed_forward_input(x), gates), self.feed_forward_norm, key)

    @property
    def _norms_first(self) -> bool:
        return self.config.family == "gpt2"

    def _sum(self, x: Array, output: Array, norm: LayerNorm, key: Array | None) -> Array:
        total = x + dropout(output, self.config.hidden_dropout, key)
        return total if self._norms_first else norm(total)
