"""The small parts: linear map, table, layer normalisation, dropout, activations."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class Linear(nnx.Module):
    """y = x W + b with W of shape (in, out)."""

    def __init__(
        self, inputs: int, outputs: int, std: float, dtype: DTypeLike, *, bias: bool = True, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (inputs, outputs), dtype))
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype)) if bias else None

    def __call__(self, x: Array) -> Array:
        """(..., in) → (..., out), in the type of x."""
        y = x @ self.kernel[...].astype(x.dtype)
        if self.bias is None:
            return y
        return y + jnp.expand_dims(self.bias[...].astype(x.dtype), tuple(range(x.ndim - 1)))


class Embedding(nnx.Module):
    """A table of rows; the row of ``padding`` starts at zero and learns nothing from lookups, as in PyTorch."""

    def __init__(
        self, rows: int, size: int, std: float, dtype: DTypeLike, *, padding: int | None = None, rngs: nnx.Rngs
    ) -> None:
        table = std * jax.random.normal(rngs.params(), (rows, size), dtype)
        self.embedding = nnx.Param(table if padding is None else table.at[padding].set(0))
        self.padding = padding

    def __call__(self, ids: Array, dtype: DTypeLike) -> Array:
        """int32 ids of any shape → (..., size) rows of the given type."""
        # A row that does not exist reads as NaN: a wrong token must not pass as a neighbouring one.
        rows = jnp.take(self.embedding[...], ids, axis=0, mode="fill").astype(dtype)
        if self.padding is not None:
            rows = jnp.where((ids == self.padding)[..., None], jax.lax.stop_gradient(rows), rows)
        return rows


class LayerNorm(nnx.Module):
    """y = (x − mean) / sqrt(variance + ε) · scale + bias over the last axis, computed in at least float32."""

    def __init__(self, size: int, epsilon: float, dtype: DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones((size,), dtype))
        self.bias = nnx.Param(jnp.zeros((size,), dtype))
        self.epsilon = epsilon

    def __call__(self, x: Array) -> Array:
        """(..., size) → the same shape and type."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        axes = tuple(range(x.ndim - 1))
        centred = wide - wide.mean(-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        scale = jnp.expand_dims(self.scale[...].astype(wide.dtype), axes)
        bias = jnp.expand_dims(self.bias[...].astype(wide.dtype), axes)
        return (centred * inverse * scale + bias).astype(x.dtype)


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Set a share of the numbers to zero and scale the others up, so that the mean stays.

    Args:
        x: any shape.
        rate: probability of a zero, in [0, 1).
        key: random key; None means evaluation: x is returned as it is.

    Returns:
        Same shape and type as x.
    """
    if key is None or rate == 0.0:
        return x
    # 16 random bits per number decide (half the random words): the rate is exact to 1/65536 and the scale uses
    # the rate as rounded, so the mean is not biased.
    threshold = min(round(rate * 65536), 65535)
    keep = jax.random.bits(key, x.shape, jnp.uint16) >= jnp.uint16(threshold)
    return jnp.where(keep, x * jnp.asarray(65536 / (65536 - threshold), x.dtype), jnp.zeros((), x.dtype))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


@functools.cache
def activation(name: str) -> Callable[[Array], Array]:
    """The activation function of a Hugging Face name."""
    return _ACTIVATIONS[name]
