"""Parameters that stay as they are, named by path."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.correspondence import kind_of
from arena_jax.transforms.trees import Leaf, Name, Path, read

Frozen = Sequence[str] | Callable[[Name, Path], bool]


def freeze(
    frozen: Frozen, optimizer: optax.GradientTransformation | None = None
) -> optax.GradientTransformationExtraArgs:
    """Keep the named parameters as they are, and let an optimizer see the others only.

    As a wrapper, ``freeze(paths, optimizer)``, the optimizer does not know of the frozen parameters: they have no
    momentum, no weight decay, give nothing to any pool, and are not synchronised. Without an optimizer it is a link
    that sets their updates to zero.

    Args:
        frozen: patterns ``"model/name/name"``; each freezes everything below it. ``*``, ``?`` and ``[…]`` match within
            one name: ``"*/embeddings"``, ``"bert/blocks/attention*"``, ``"gpt2"``. Or ``"model:kind"``: every parameter
            that ``kind_of`` calls so, whatever its name, ``"*:embedding"``. Or a function ``(model, path) -> bool``,
            where path is the tuple of names inside the model. A stacked leaf is frozen in all its layers or none.
        optimizer: what to wrap; None for ``optax.identity()``.

    Returns:
        A transformation that gives frozen parameters zero updates.

    Raises:
        ArenaError: a pattern matches nothing (at init).

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = freeze(["*/embeddings"], optax.sgd(0.1))
        >>> params = {"bert": {"embeddings": {"token": jnp.ones(2)}, "head": jnp.ones(2)}}
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["bert"]["embeddings"]["token"], updates["bert"]["head"])
        [0. 0.] [-0.1 -0.1]
        >>> optimizer = freeze(["bert:head"], optax.sgd(0.1))
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["bert"]["embeddings"]["token"], updates["bert"]["head"])
        [-0.1 -0.1] [0. 0.]
    """
    if isinstance(frozen, str):
        raise ArenaError(f"freeze: got the text {frozen!r}; give a list of patterns, [{frozen!r}]")
    inner = optax.with_extra_args_support(optax.identity() if optimizer is None else optimizer)

    def init_fn(params: Any) -> Any:
        _, _, leaves = read(params)
        for pattern in () if callable(frozen) else frozen:
            if not any(_matches(pattern, leaf) for leaf in leaves):
                names = {"/".join(map(str, (leaf.model, *leaf.path))) for leaf in leaves}
                names |= {f"{leaf.model}:{kind_of(leaf.path)}" for leaf in leaves}
                raise ArenaError(f"freeze: no parameter is named {pattern!r}; {nearest(pattern, names, most=6)}")
        return inner.init(without_frozen(frozen, params))

    def update_fn(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        arrays, treedef, leaves = read(updates)
        trained = None if params is None else without_frozen(frozen, params)
        moved, state = inner.update(without_frozen(frozen, updates), state, trained, **extra_args)
        steps = iter(jax.tree.leaves(moved))
        whole = [
            jnp.zeros_like(array) if _is_frozen(frozen, leaf) else next(steps)
            for leaf, array in zip(leaves, arrays, strict=True)
        ]
        return jax.tree.unflatten(treedef, whole), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def without_frozen(frozen: Frozen, tree: Any) -> Any:
    """The tree that the wrapped optimizer sees: ``optax.MaskedNode``, which has no leaves, where one is frozen.

    Example:
        >>> jax.tree.leaves(without_frozen(["a/up"], {"a": {"up": 1.0, "down": 2.0}}))
        [2.0]
    """
    arrays, treedef, leaves = read(tree)
    trained = [
        optax.MaskedNode() if _is_frozen(frozen, leaf) else array for leaf, array in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(treedef, trained)


def _is_frozen(frozen: Frozen, leaf: Leaf) -> bool:
    if callable(frozen):
        return bool(frozen(leaf.model, leaf.path))
    return any(_matches(pattern, leaf) for pattern in frozen)


def _matches(pattern: str, leaf: Leaf) -> bool:
    """Whether a pattern names this leaf or something above it."""
    model, colon, kind = pattern.partition(":")
    if colon and "/" not in model:
        return fnmatch.fnmatchcase(str(leaf.model), model) and fnmatch.fnmatchcase(kind_of(leaf.path), kind)
    parts = pattern.strip("/").split("/")
    names = [str(name) for name in (leaf.model, *leaf.path)]
    return len(parts) <= len(names) and all(
        fnmatch.fnmatchcase(name, part) for name, part in zip(names, parts, strict=False)
    )
