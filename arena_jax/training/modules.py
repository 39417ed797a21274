"""A model as pure pieces: its structure, its parameters, and its other variables, such as batch statistics.

Modules live at the edges: a model is taken apart once, and put together inside the jitted loss. Any ``nnx.Module`` will
do. What is an ``nnx.Param`` is trained. All other variables — random streams of ``nnx.Dropout``, statistics of
``nnx.BatchNorm`` — belong to the train state: they change as the module changes them, and no optimizer sees them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from arena_jax.config.errors import ArenaError
from arena_jax.models import Transformer, shards


class Structure(NamedTuple):
    """What is static of a model.

    Attributes:
        graph: Flax's definition of the module.
        keys: ``{path: generator}`` of the variables that are random keys, which the train state holds as numbers.
        layered: whether the model gathers its blocks by itself, one at a time, where parameters are dealt out.
    """

    graph: Any
    keys: dict[tuple[Any, ...], str]
    layered: bool = False


def take_apart(name: str, model: Any) -> tuple[Structure, dict[str, Any], dict[str, Any]]:
    """A model's structure, its parameters and its other variables, as nested dictionaries of arrays.

    Args:
        name: of the model, for an error.
        model: any ``nnx.Module``; it is read, never changed.

    Raises:
        ArenaError: it is none, or has no parameter.

    Example:
        >>> class Scaled(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.scale, self.dropout = nnx.Param(jnp.ones(3)), nnx.Dropout(0.1, rngs=rngs)
        >>> structure, params, variables = take_apart("mine", Scaled(nnx.Rngs(0)))
        >>> list(params), list(variables["dropout"]["rngs"])
        (['scale'], ['count', 'key'])
    """
    if not isinstance(model, nnx.Module):
        raise ArenaError(
            f"model '{name}' is a {type(model).__name__}, not a flax.nnx.Module: make its parameters nnx.Param of one"
        )
    graph, params, others = _split(model)
    if not jax.tree.leaves(params):
        raise ArenaError(f"model '{name}' has no nnx.Param: there is nothing to train")
    keys, variables = {}, nnx.to_pure_dict(others)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if _is_key(leaf):
            keys[tuple(entry.key for entry in path)] = str(jax.random.key_impl(leaf))
    return Structure(graph, keys, isinstance(model, Transformer)), nnx.to_pure_dict(params), _as_numbers(variables)


def put_together(structure: Structure, params: Any, variables: Any, *, training: bool) -> Any:
    """The model again, in the mode of training or of evaluation (``model.train()``, ``model.eval()``)."""
    for path, generator in structure.keys.items():
        variables = _replaced(variables, path, lambda data, g=generator: jax.random.wrap_key_data(data, impl=g))
    if structure.layered:
        mesh = shards.parameter_mesh()
        params = {name: part if name == "blocks" else shards.whole(mesh, part) for name, part in params.items()}
    model = nnx.merge(structure.graph, params, variables) if variables else nnx.merge(structure.graph, params)
    if variables:
        # Modules without variables have neither dropout nor statistics of their own: ours are told by the key.
        (model.train if training else model.eval)()
    return model


def variables_of(model: Any, like: Any) -> Any:
    """The variables after the model has run; what it added meanwhile (``sow``) is left out.

    Args:
        model: from :func:`put_together`.
        like: the variables before.
    """
    if not like:
        return like
    return _picked(like, _as_numbers(nnx.to_pure_dict(_split(model)[2])))


def variables_or_none(name: str, variables: Any, initial: Any) -> Any:
    """The variables of a model's module, an empty tree where it has none.

    Args:
        name: of the model.
        variables: as a caller has given them; None: not at all.
        initial: those that it began with.

    Raises:
        ArenaError: it has some, and none were given.
    """
    if variables is None and initial:
        raise ArenaError(
            f"model '{name}' has variables beside its parameters, such as batch statistics: give those of the "
            f"train state, variables=state.variables['{name}']"
        )
    return {} if variables is None else variables


def _split(model: nnx.Module) -> tuple[Any, Any, Any]:
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, params, others = parts
    return graph, params, others


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _as_numbers(variables: Any) -> Any:
    """Random keys as the numbers they consist of: what a checkpoint can hold, and a mask can select."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf), variables)


def _replaced(tree: dict[Any, Any], path: tuple[Any, ...], change: Any) -> dict[Any, Any]:
    head, *rest = path
    return {**tree, head: _replaced(tree[head], tuple(rest), change) if rest else change(tree[head])}


def _picked(like: Any, tree: Any) -> Any:
    if isinstance(like, dict):
        return {name: _picked(branch, tree[name]) for name, branch in like.items()}
    return jnp.asarray(tree, like.dtype)
