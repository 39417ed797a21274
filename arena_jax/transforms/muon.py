"""Muon for the kernels of a transformer, Adam for everything else."""

from __future__ import annotations

from typing import Any

import jax
import optax

from arena_jax.transforms.correspondence import kind_of, parameters_of
from arena_jax.transforms.trees import read

_KERNELS = ("attention", "feed-forward")


def muon_dimensions(params: Any) -> Any:
    """Which parameters of one model Muon takes, and which of their axes are input and output.

    Muon takes the kernels of attention and feed-forward parts: matrices that one layer multiplies its vectors by. A
    leaf under ``blocks`` holds one such matrix per layer on its leading axis, and each is orthogonalised by itself.
    Embeddings, heads, norms, biases and whatever has another number of axes are Adam's.

    Args:
        params: the parameters of one model.

    Returns:
        A tree like ``params`` of ``optax.contrib.MuonDimensionNumbers``, or None where Adam takes the leaf.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"blocks": {"mlp": {"kernel": jnp.ones((2, 4, 8))}}, "embeddings": {"token": jnp.ones((10, 4))}}
        >>> dimensions = muon_dimensions(params)
        >>> dimensions["blocks"]["mlp"]["kernel"]
        MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        >>> print(dimensions["embeddings"]["token"])
        None
    """
    _, treedef, leaves = read({"model": params})
    dimensions: list[Any] = []
    for stacked, paths, shape in parameters_of(leaves):
        first = 1 if stacked else 0
        takes = len(shape) == 2 and kind_of(paths[0]) in _KERNELS
        dimensions.append(optax.contrib.MuonDimensionNumbers(first, first + 1) if takes else None)
    return jax.tree.unflatten(treedef, dimensions)["model"]


def scale_by_muon(
    momentum: float = 0.95, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    r"""``optax.contrib.muon`` as a direction, for one model: an ``inner=`` of ``multi_model_adamw``.

    Updates of Muon's matrices are scaled to the root mean square 0.2, :math:`0.2 \sqrt{\max(\text{in}, \text{out})}`
    times an orthogonal matrix, which is about that of Adam's: so that one learning rate serves both.

    Args:
        momentum: of Muon, with Nesterov's correction.
        b1: decay of the first moment of Adam (also with Nesterov's correction, as Optax has it).
        b2: decay of the second moment of Adam.
        eps: added to the denominators of both.

    Returns:
        A transformation of one model's parameters; wrap it in ``per_model``. ``muon_dimensions`` says what goes where.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"mlp": {"kernel": jnp.eye(2)}, "head": {"kernel": jnp.eye(2)}}
        >>> inner = scale_by_muon()
        >>> direction, _ = inner.update(params, inner.init(params), params)
        >>> direction["mlp"]["kernel"].shape
        (2, 2)

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scale: Liu et al. 2025, arXiv:2502.16982.
    """
    # A rate of −1 undoes Optax's own descent: what comes out is the direction.
    return optax.contrib.muon(
        -1.0,
        beta=momentum,
        eps=eps,
        adam_b1=b1,
        adam_b2=b2,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=muon_dimensions,
    )
