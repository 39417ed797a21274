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

from arena_jax.models.initial import Initial
from arena_jax.models.shards import looked_up


class Linear(nnx.Module):
    """y = x W + b with W of shape (in, out)."""

    def __init__(self, inputs: int, outputs: int, std: float, initial: Initial, *, bias: bool = True) -> None:
        self.kernel = nnx.Param(initial.normal((inputs, outputs), std))
        self.bias = nnx.Param(initial.constant((outputs,), 0)) if bias else None

    def __call__(self, x: Array) -> Array:
        """(..., in) → (..., out), in the type of x."""
        # As one matrix: with (B, L, in) XLA's CPU backend copies gradients into other layouts (a tenth slower).
        y = x.reshape(-1, x.shape[-1]) @ self.kernel[...].astype(x.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)[None]
        return y.reshape(*x.shape[:-1], y.shape[-1])


class Embedding(nnx.Module):
    """A table of rows; the row of ``padding`` starts at zero and learns nothing from lookups, as in PyTorch."""

    def __init__(self, rows: int, size: int, std: float, initial: Initial, *, padding: int | None = None) -> None:
        self.embedding = nnx.Param(initial.normal((rows, size), std, zero_row=padding))
        self.padding = padding

    def __call__(self, ids: Array, dtype: DTypeLike) -> Array:
        """int32 ids of any shape → (..., size) rows of the given type."""
        # A row that does not exist reads as NaN: a wrong token must not pass as a neighbouring one.
        rows = jnp.take(looked_up(self.embedding[...]), ids, axis=0, mode="fill").astype(dtype)
        if self.padding is not None:
            rows = jnp.where((ids == self.padding)[..., None], jax.lax.stop_gradient(rows), rows)
        return rows


class LayerNorm(nnx.Module):
    """y = (x − mean) / sqrt(variance + ε) · scale + bias over the last axis, computed in at least float32."""

    def __init__(self, size: int, epsilon: float, initial: Initial) -> None:
        self.scale = nnx.Param(initial.constant((size,), 1))
        self.bias = nnx.Param(initial.constant((size,), 0))
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
    threshold = min(round(rate * 2**32), 2**32 - 1)
    keep = random_words(key, x.shape) >= jnp.uint32(threshold)
    return jnp.where(keep, x * jnp.asarray(1 / (1 - threshold / 2**32), x.dtype), jnp.zeros((), x.dtype))


def random_words(key: Array, shape: tuple[int, ...]) -> Array:
    """32 random bits per place: the key and the place's number, mixed twice.

    Threefry took a tenth of a training step and half of its compile time for bits that decide a dropout, and a quarter
    of it for those that hide tokens; this takes neither, and a mesh of devices computes its own part. The mixing
    constants are from the table of https://github.com/skeeto/hash-prospector.

    Args:
        key: a typed key; draw from it once.
        shape: of the result.

    Returns:
        uint32 of that shape.
    """
    words = jax.random.key_data(key).reshape(-1)
    number = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        number = number * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return _mix(_mix(number ^ words[0]) + words[-1])


def _mix(x: Array) -> Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    return x ^ (x >> 15)


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
