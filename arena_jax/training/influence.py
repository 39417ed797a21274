r"""What one model's shared gradient does to another: the change of its loss by one step along it, by kind of parameter.

With g the gradient of model j on some held-out rows and k(p) the group that a parameter p of model i is in, the
direction is j's part of the pool, :math:`d_p = w_j \sum_{q \in k(p),\, m(q) = j} g_q`, as sharing adds it. Of one kind
of parameters at a time, i is moved against it by a fixed part of these parameters' norm, and its loss is taken on
held-out rows that g has not seen. The control is the same step with the numbers of each array in random order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.forms import KINDS
from arena_jax.transforms.correspondence import Correspondence, kind_of
from arena_jax.transforms.pools import plan, pooled
from arena_jax.transforms.trees import read

Loss = Callable[[Any], Any]


class Influence(NamedTuple):
    """Of one model on another, through one kind of parameters.

    Attributes:
        gain: by how much the loss falls, nats; below 0: it rises.
        shuffled: the same of the control, the mean over the shuffles.
        spread: standard deviation of the control.
    """

    gain: float
    shuffled: float
    spread: float


def shared_gradient(
    gradients: Mapping[str, Any],
    giver: str,
    weights: Mapping[str, float],
    correspondence: Correspondence,
    *,
    mean: bool,
) -> dict[str, Any]:
    """A model's part of every pool, where the parameters of all models meet it.

    Args:
        gradients: ``{model: tree}``.
        giver: whose part.
        weights: ``{model: weight}``.
        correspondence: which parameters belong together.
        mean: whether pools are means.

    Returns:
        ``{model: tree}``; 0 where a parameter meets none.

    Example:
        >>> import jax.numpy as jnp
        >>> from arena_jax.transforms import by_kind
        >>> gradients = {"a": {"up": jnp.ones(2)}, "b": {"down": jnp.full(2, 5.0)}}
        >>> print(shared_gradient(gradients, "b", {"a": 1.0, "b": 2.0}, by_kind, mean=False)["a"]["up"])
        [10. 10.]
    """
    alone = {name: tree if name == giver else jax.tree.map(jnp.zeros_like, tree) for name, tree in gradients.items()}
    values, treedef, leaves = read(alone)
    groups = plan(leaves, correspondence)
    shared = pooled(
        [(value,) for value in values], leaves, groups, cast("Mapping[Any, float]", weights), None, mean=mean
    )
    result = [jnp.zeros_like(value) for value in values]
    for index, pool in shared.items():
        value = jnp.broadcast_to(pool.value, result[index].shape).astype(result[index].dtype)
        result[index] = value if pool.belongs is None else jnp.where(pool.belongs, value, result[index])
    directions: dict[str, Any] = jax.tree.unflatten(treedef, result)
    return directions


def of_kind(name: str, tree: Any, kind: str) -> Any:
    """A model's tree with all but one kind of parameters set to 0."""
    values, treedef, leaves = read({name: tree})
    values_of_kind = [
        v if kind_of(leaf.path) == kind else jnp.zeros_like(v) for v, leaf in zip(values, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, values_of_kind)[name]


def shuffled(tree: Any, key: jax.Array) -> Any:
    """Each array of a tree with its numbers in random order; an array of zeros stays what it is."""
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    values, treedef = jax.tree.flatten(tree)
    # NumPy's order: XLA's is a sort, which takes a hundred times as long on a CPU.
    mixed = [_mixed(np.asarray(value), draw) if np.any(value) else value for value in values]
    return jax.tree.unflatten(treedef, mixed)


def _mixed(value: np.ndarray[Any, Any], draw: np.random.Generator) -> np.ndarray[Any, Any]:
    return draw.permutation(value.ravel()).reshape(value.shape)


def influences(
    losses: Mapping[str, Loss],
    params: Mapping[str, Any],
    gradients: Mapping[str, Any],
    weights: Mapping[str, float],
    correspondence: Correspondence,
    *,
    mean: bool,
    part: float = 0.01,
    shuffles: int = 5,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Influence]]]:
    """The influence of every model on every other, and on itself, through every kind of parameters.

    Args:
        losses: ``{model: parameters -> loss}`` on rows that the gradients have not seen; nats.
        params: ``{model: parameters}``.
        gradients: ``{model: tree}``.
        weights: ``{model: weight}`` in what is shared.
        correspondence: which parameters belong together.
        mean: whether pools are means.
        part: the length of the step, of the norm of the parameters that it moves.
        shuffles: of the control.
        seed: of their order.

    Returns:
        ``{kind: {taker: {giver: influence}}}``; kinds in which nothing is shared are left out.
    """
    names = sorted(params)
    zeros = {name: jax.tree.map(jnp.zeros_like, params[name]) for name in names}

    def compiled(taker: str) -> Callable[[Any, Any], Any]:
        """Its loss after a step: one program, whatever the direction."""

        def moved_loss(along: Any, scale: Any) -> Any:
            moved = jax.tree.map(lambda p, d: p - jnp.asarray(scale, p.dtype) * d, params[taker], along)
            return losses[taker](moved)

        return jax.jit(moved_loss)

    loss_after = {name: compiled(name) for name in names}
    before = {name: float(loss_after[name](zeros[name], 0.0)) for name in names}
    result: dict[str, dict[str, dict[str, Influence]]] = {}
    for number, giver in enumerate(names):
        directions = shared_gradient(gradients, giver, weights, correspondence, mean=mean)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), shuffles)
        for kind in KINDS:
            for taker in names:
                direction = of_kind(taker, directions[taker], kind)
                norm = _norm(direction)
                if norm == 0:
                    continue
                scale = (part * _norm(of_kind(taker, params[taker], kind)) or part) / norm
                gain, *control = (
                    before[taker] - float(loss_after[taker](along, scale))  # how far its loss falls against it
                    for along in (direction, *(shuffled(direction, key) for key in keys))
                )
                result.setdefault(kind, {}).setdefault(taker, {})[giver] = Influence(
                    gain, float(np.mean(control)), float(np.std(control))
                )
    return result


def _norm(tree: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(tree))))
