"""Models that leave and join an optimizer in mid-training; the state of the others stays what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.transforms.trees import Name, models_of


def select_models(state: Any, names: Iterable[Name]) -> Any:
    """Keep the state of some models: those that leave are forgotten.

    Args:
        state: of any optimizer over ``{model: parameters}``: of this package, a chain, or Optax's own.
        names: the models that stay.

    Returns:
        The state of an optimizer over these models alone, whose leaves are those of ``state``, to the bit. Counts that
        belong to no model stay as well.

    Raises:
        ArenaError: no model, or one that the state does not know.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from arena_jax import transforms
        >>> optimizer = transforms.multi_model_adamw(0.1)
        >>> params = {"a": {"up": jnp.ones(1)}, "b": {"up": jnp.ones(1)}}
        >>> _, state = optimizer.update(params, optimizer.init(params), params)
        >>> list(transforms.learning_rates(select_models(state, ["b"])))
        ['b']
    """
    names = tuple(dict.fromkeys(names))
    if not names:
        raise ArenaError("select_models: no model is named; name those that stay")

    def select(node: Any) -> Any:
        if isinstance(node, Mapping):
            present = [name for name in names if name in node]
            if len(present) == len(names):
                return type(node)({name: node[name] for name in node if name in names})  # type: ignore[call-arg]
            if present:
                missing = next(name for name in names if name not in node)
                raise ArenaError(
                    f"select_models: the state has no model {missing!r}; {nearest(str(missing), map(str, node))}"
                )
            return type(node)({name: select(value) for name, value in node.items()})  # type: ignore[call-arg]
        if isinstance(node, tuple | list):
            members = [select(member) for member in node]
            return type(node)(*members) if hasattr(node, "_fields") else type(node)(members)
        return node

    selected = select(state)
    if _models_in(state) and not _models_in(selected) & set(names):
        names_in_state = map(str, _models_in(state))
        raise ArenaError(
            f"select_models: the state has no model {names[0]!r}; {nearest(str(names[0]), names_in_state)}"
        )
    return selected


def _models_in(state: Any) -> set[Name]:
    """The keys of the outermost dictionaries of a state: its models."""
    if isinstance(state, Mapping):
        return set(state)
    if isinstance(state, tuple | list):
        return {name for member in state for name in _models_in(member)}
    return set()


def add_models(optimizer: optax.GradientTransformation, state: Any, params: Any) -> Any:
    """Let models join: they begin as at init, in the midst of the others.

    Args:
        optimizer: over all models, the new ones included (their weights and learning rates too).
        state: of the same optimizer over the models so far.
        params: ``{model: parameters}`` of all models, as they are now.

    Returns:
        The state of ``optimizer`` over all models. What was in ``state`` stands in it to the bit; a model that joins
        has moments of 0 and starts its own warm-up.

    Raises:
        ArenaError: a model of ``state`` is not in ``params``, has other shapes there, or the optimizer is put together
            in another way.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from arena_jax import transforms
        >>> optimizer = transforms.multi_model_adamw(optax.constant_schedule(0.1))
        >>> params = {"a": {"up": jnp.ones(1)}}
        >>> _, state = optimizer.update(params, optimizer.init(params), params)
        >>> state = add_models(optimizer, state, {**params, "b": {"up": jnp.ones(1)}})
        >>> {model: float(rate) for model, rate in transforms.learning_rates(state).items()}
        {'a': 0.10000000149011612, 'b': 0.0}
    """
    fresh = optimizer.init(params)
    entries, treedef = jax.tree_util.tree_flatten_with_path(fresh)
    before = dict(jax.tree_util.tree_flatten_with_path(state)[0])
    models = {jax.tree_util.DictKey(name): name for name in models_of(params)}
    # A model that joins is one whose name stands in no path of the old state.
    present = {key for path in before for key in path if key in models}
    leaves = []
    for path, leaf in entries:
        if path not in before:
            if not any(key in models and key not in present for key in path):
                raise ArenaError(_unlike(path))
            leaves.append(leaf)
            continue
        old = before.pop(path)
        if jnp.shape(old) != jnp.shape(leaf) or jnp.result_type(old) != jnp.result_type(leaf):
            raise ArenaError(
                f"add_models: {jax.tree_util.keystr(path)} is {_described(old)} in the state and {_described(leaf)} "
                "for the parameters; give the parameters that the state was made for"
            )
        leaves.append(old)
    if before:
        raise ArenaError(_unlike(next(iter(before))) + ", or a model of the state is not among the parameters")
    return jax.tree.unflatten(treedef, leaves)


def _described(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _unlike(path: Any) -> str:
    return (
        f"add_models: the optimizer and the state do not fit at {jax.tree_util.keystr(path)}; give the optimizer that "
        "the state was made by, with the new models' weights and rates"
    )
