"""Algorithm 2: corresponding parameters are drawn towards their weighted average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_count, is_number, is_traced
from arena_jax.transforms.by_model import constant_weights, current_active, current_weights, silence, silence_idle
from arena_jax.transforms.correspondence import Correspondence, by_kind
from arena_jax.transforms.pools import plan, pooled, select
from arena_jax.transforms.trees import Name, models_of, read


class SynchronizeParametersState(NamedTuple):
    """How many updates were made, int32."""

    count: jax.Array  # type: ignore[assignment]


def synchronize_parameters(
    weights: Mapping[Name, float] | None = None,
    *,
    beta: float = 0.1,
    every: int = 10,
    correspondence: Correspondence | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Draw parameters towards the weighted average of their group, as they will be after this update.

    .. math::
        \bar p_k = \frac{\sum_{p \in k} w_{m(p)}\, p}{\sum_{p \in k} w_{m(p)}}, \qquad
        p \leftarrow (1 - \beta)\, p + \beta\, \bar p_k

    where p already holds the update that arrives here. **It must be the last link of a chain**: what comes after it
    would scale the synchronisation as if it were a gradient. A group of one parameter, and a tree of one model, are
    left untouched; so is a group whose weights sum to 0.

    Args:
        weights: ``{model: weight}``, finite and at least 0; None is 1 each. ``update(..., weights=...)`` overrides
            them, and may be traced.
        beta: how far towards the average, in [0, 1]. With 0 updates pass through bit by bit.
        every: synchronise after updates number every, 2·every, … (counted from 1).
        correspondence: ``(path, shape) -> key or None``; ``by_kind`` (None), ``by_role``, ``by_layer`` or your own.

    Returns:
        A transformation over ``{model: updates}`` that needs ``params``. Its update understands ``weights={model: w}``
        and ``active={model: bool}``: a model that is not active adds nothing to any average and does not move.
        Averages are taken in float32 at least; results have the updates' dtypes.

    Raises:
        ArenaError: a bad argument (when built), names that are not the models' (at init or update), or no ``params``.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> synchronize = synchronize_parameters(beta=0.5, every=2)
        >>> params = {"a": {"up": jnp.array([1.0, 2.0])}, "b": {"down": jnp.array([3.0, 4.0])}}
        >>> state = synchronize.init(params)
        >>> for step in (1, 2):
        ...     updates = {"a": {"up": jnp.ones(2)}, "b": {"down": jnp.ones(2)}}
        ...     updates, state = synchronize.update(updates, state, params)
        ...     params = optax.apply_updates(params, updates)
        ...     print(step, params["a"]["up"], params["b"]["down"])
        1 [2. 3.] [4. 5.]
        2 [3.5 4.5] [4.5 5.5]

    Source: MultiModelOptimizer, Algorithm 2.
    """
    constants = constant_weights(weights, "synchronize_parameters")
    same = by_kind if correspondence is None else correspondence
    if not is_number(beta, lambda part: 0 <= part <= 1):
        raise ArenaError(f"synchronize_parameters: beta is {beta!r}; it is a part, so give a number from 0 to 1")
    if not (is_traced(every) or is_count(every)):
        raise ArenaError(f"synchronize_parameters: every is {every!r}; give a number of updates, 1 or more")

    on = is_traced(beta) or beta > 0

    def weights_now(models: tuple[Name, ...], weights: Any) -> dict[Name, Any]:
        return current_weights(constants, weights, models, normalize=False, what="synchronize_parameters")

    def init_fn(params: Any) -> SynchronizeParametersState:
        weights_now(models_of(params), None)
        return SynchronizeParametersState(jnp.zeros([], jnp.int32))

    def update_fn(
        updates: Any,
        state: SynchronizeParametersState,
        params: Any = None,
        *,
        weights: Mapping[Name, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, SynchronizeParametersState]:
        del extra_args
        if params is None:
            raise ArenaError("synchronize_parameters needs the parameters; call update(updates, state, params)")
        models = models_of(updates)
        current = weights_now(models, weights)
        mask = current_active(active, models, "synchronize_parameters")
        count = optax.safe_increment(state.count)
        updates = silence_idle(updates, mask)

        def draw(updates: Any) -> Any:
            steps, treedef, leaves = read(updates)
            groups = plan(leaves, same)
            moved = list(zip(jax.tree.leaves(params), steps, strict=True))
            for index, pool in pooled(moved, leaves, groups, current, mask, mean=True).items():
                old, step = (part.astype(pool.value.dtype) for part in moved[index])
                # The way to the average, not the new parameter less the old: nothing cancels.
                drawn = select(pool, step + beta * (pool.value - (old + step)), steps[index])
                steps[index] = silence(drawn, mask, leaves[index].model)
            return jax.tree.unflatten(treedef, steps)

        if is_traced(every) or every > 1:  # the whole of it in one branch: no pool is held on the updates between
            updates = jax.lax.cond(count % every == 0, draw, lambda undrawn: undrawn, updates) if on else updates
        elif on:
            updates = draw(updates)
        return updates, SynchronizeParametersState(count)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
