"""A learning-rate multiplier for each kind of component, which may change at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.by_model import current_active, silence_idle
from arena_jax.transforms.trees import Name, Path, is_float, models_of, read


def scale_by_component(
    labels: Any, multipliers: Mapping[str, Any], *, normalize: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Scale the updates of each component by its multiplier.

    .. math::
        u_p \leftarrow \frac{m_{k(p)}}{\left(\prod_{\bar m_j > 0} \bar m_j\right)^{1/\#\{\bar m_j > 0\}}}\, u_p

    where k(p) is the label of parameter p, and m̄ a label's multiplier, or the geometric mean of those above 0 where it
    has one per layer. The geometric mean over labels is brought to 1, so that the base learning rate keeps its meaning
    and is tuned apart. Put it after ``scale_by_adam`` and ``add_decayed_weights`` and
    before ``scale(-rate)``: then it equals an ``optax.partition`` of AdamW with the rates m·rate, and 0 freezes a
    component, weight decay included. In a chain with a clipping by global norm, clip first.

    Args:
        labels: a tree of strings like the parameters (or a prefix of theirs), or a function from a parameter's path
            (the tuple of all its names) to its label.
        multipliers: a number at least 0 for each label; for layers stacked on a leading axis also an array (layers,).
        normalize: False takes the multipliers as they are.

    Returns:
        A transformation over any parameters. ``update(..., multipliers={label: m})`` replaces the multipliers for this
        step; they may be traced. All ones give the updates back bit by bit. With ``active={model: bool}`` the children
        of the tree are models, and the silent ones get zero updates.

    Raises:
        ArenaError: a label without a multiplier or the reverse, a multiplier that is negative or not finite, or labels
            that do not fit the parameters (at init and update).

    Example:
        >>> import jax.numpy as jnp
        >>> scale = scale_by_component({"qk": "attention", "up": "ffn"}, {"attention": 4.0, "ffn": 1.0})
        >>> updates = {"qk": jnp.ones(2), "up": jnp.ones(1)}
        >>> scaled, state = scale.update(updates, scale.init(updates))
        >>> print(scaled["qk"], scaled["up"])  # the geometric mean of 4 and 1 is 2
        [2. 2.] [0.5]
        >>> scaled, state = scale.update(updates, state, multipliers={"attention": 0.0, "ffn": 3.0})
        >>> print(scaled["qk"], scaled["up"])
        [0. 0.] [1.]

    Source: block-wise learning rates: Wang et al. 2025 (arXiv 2502.19002).
    """
    if not isinstance(multipliers, Mapping) or not multipliers:
        raise ArenaError("scale_by_component: multipliers is not a dictionary {label: number} with at least one label")
    fixed: dict[str, Any] = {}
    for label, m in multipliers.items():
        try:
            fixed[label] = np.asarray(m, dtype=np.float64)
        except (TypeError, ValueError):
            raise ArenaError(f"scale_by_component: the multiplier of {label!r} is {m!r}; give a number") from None
        if not (np.isfinite(fixed[label]) & (fixed[label] >= 0)).all():
            raise ArenaError(f"scale_by_component: the multiplier of {label!r} is {m!r}; give a number, 0 or more")
    if normalize:
        fixed = normalized(fixed)

    def init_fn(params: Any) -> optax.EmptyState:
        labels_in_tree = _labels_of(labels, params)
        _check(set(labels_in_tree), set(fixed), "the parameters")
        return optax.EmptyState()

    def update_fn(
        updates: Any,
        state: optax.EmptyState,
        params: Any = None,
        *,
        multipliers: Mapping[str, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, optax.EmptyState]:
        del params, extra_args
        now: Mapping[str, Any] = fixed
        if multipliers is not None:
            _check(set(fixed), set(multipliers), "update(..., multipliers=)")
            now = {label: jnp.asarray(m, jnp.result_type(float, m)) for label, m in multipliers.items()}
            now = normalized(now, jnp) if normalize else now
        arrays, treedef = jax.tree.flatten(updates)
        names = _labels_of(labels, updates)
        scaled = [_times(u, now[label], label) for u, label in zip(arrays, names, strict=True)]
        result = jax.tree.unflatten(treedef, scaled)
        if active is None:  # the children need not be models, nor be there
            return result, state
        return silence_idle(result, current_active(active, models_of(result), "scale_by_component")), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def normalized(multipliers: Mapping[str, Any], xp: Any = np) -> dict[str, Any]:
    """Divide by the geometric mean of the positive multipliers; a label counts once, however many layers it has.

    Args:
        multipliers: a number or an array (layers,) for each label.
        xp: ``jnp`` where they are traced.

    Example:
        >>> {label: m.tolist() for label, m in normalized({"a": 8.0, "b": np.array([2.0, 2.0]), "c": 0.0}).items()}
        {'a': 2.0, 'b': [0.5, 0.5], 'c': 0.0}
    """
    logs, positive = [], []
    for m in multipliers.values():
        counts = xp.ravel(m) > 0
        logs.append(xp.sum(xp.where(counts, xp.log(xp.where(counts, xp.ravel(m), 1)), 0)) / xp.maximum(counts.sum(), 1))
        positive.append(counts.any())
    mean = xp.exp(xp.sum(xp.stack(logs)) / xp.maximum(xp.sum(xp.stack(positive)), 1))
    return {label: m / mean for label, m in multipliers.items()}


def _labels_of(labels: Any, tree: Any) -> list[str]:
    """The label of each leaf, in the order of the tree's leaves."""
    if callable(labels):
        label: Callable[[Path], str] = labels
        return [label((leaf.model, *leaf.path)) for leaf in read(tree)[2]]
    try:
        whole = jax.tree.map(lambda name, branch: jax.tree.map(lambda _: name, branch), labels, tree)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ArenaError(f"scale_by_component: the labels do not fit the parameters ({reason})") from None
    return jax.tree.leaves(whole)


def _check(labels: set[str], components: set[str], where: str) -> None:
    for label in sorted(labels ^ components, key=str):
        if label in labels:
            raise ArenaError(f"scale_by_component: no multiplier for the label {label!r} in {where}; add one")
        raise ArenaError(
            f"scale_by_component: no parameter is labelled {label!r}; {nearest(str(label), map(str, labels))}"
        )


def _times(update: Any, multiplier: Any, label: str) -> Any:
    """Multiply in the update's own dtype; 0 also stops what is not finite."""
    if not is_float(update):
        return update
    m = jnp.asarray(multiplier, update.dtype)
    if m.ndim > update.ndim or m.shape != update.shape[: m.ndim]:
        raise ArenaError(
            f"scale_by_component: the multiplier of {label!r} has shape {m.shape} and its parameter {update.shape}; "
            "give a number, or one number per layer of a stacked parameter"
        )
    m = m.reshape(m.shape + (1,) * (update.ndim - m.ndim))
    return jnp.where(m == 0, jnp.zeros_like(update), update * m)
