"""Algorithm 3: a model's learning rate follows how fast its loss changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import check_length, is_count, is_number, is_real, is_traced
from arena_jax.transforms.by_model import check_names, current_active, silence
from arena_jax.transforms.trees import Name, branches, scale_leaves, wide_dtype


class Convergence(NamedTuple):
    """What is remembered of one model."""

    losses: jax.Array  # (window,), the newest last; float32, or float64 where the parameters are
    count: jax.Array  # type: ignore[assignment]  # finite losses seen so far, int32
    rate: jax.Array  # the estimate r, same dtype as losses
    factor: jax.Array  # the f that its last update was multiplied by, same dtype


class ScaleByConvergenceState(NamedTuple):
    """One ``Convergence`` per model."""

    models: dict[Name, Convergence]


def scale_by_convergence(
    *,
    window: int = 100,
    decay: float = 0.9,
    every: int = 1,
    low: float = 0.5,
    high: float = 1.5,
    slope: Literal["absolute", "signed", "studentized"] = "absolute",
) -> optax.GradientTransformationExtraArgs:
    r"""Scale each model's updates by the inverse of its estimated rate of convergence.

    .. math::
        r \leftarrow \gamma r + (1 - \gamma) \frac{1}{1 + |s|}, \qquad
        f = \operatorname{clip}(1 / r,\ \mathit{low},\ \mathit{high})

    where s is the least-squares slope of the last ``window`` losses (loss per update), r starts at 1 and moves once
    the window is full.

    The paper's :math:`|s|` takes a rising loss for convergence and raises the learning rate of a model that diverges.
    ``slope="signed"`` puts :math:`\max(-s, 0)` in its place: only a falling loss is progress, and under a rising one r
    goes back to 1.

    Both depend on the unit of the loss and on how far apart losses are taken: a slope per update is of the order of
    1e-3 where a model takes thousands of updates, and r stays at 1. ``slope="studentized"`` puts
    :math:`\max(-s / \mathrm{se}(s), 0)` there, the slope over its own standard error,

    .. math::
        \mathrm{se}(s)^2 = \frac{\sum_t (L_t - \hat L_t)^2}{(n - 2) \sum_t (t - \bar t)^2}, \qquad n = \mathit{window}

    with :math:`\hat L` the fitted line: the same for a loss in bits or nats and for every interval, and near 0 where
    a loss no longer falls beyond its noise. A window that lies on its line exactly counts as no noise: r falls as for
    an infinite slope where the line falls.

    Args:
        window: number of losses in the regression, at least 2 (3 with ``"studentized"``). It is the length of an
            array: static under ``optax.inject_hyperparams``.
        decay: :math:`\gamma`, in [0, 1).
        every: move r on every so many recorded losses.
        low: least factor, above 0.
        high: greatest factor.
        slope: ``"absolute"`` (the paper), ``"signed"`` or ``"studentized"``.

    Returns:
        A transformation over ``{model: updates}``; its update needs ``value={model: loss}``, Optax's name for the loss.
        A loss that is not finite is not recorded, and leaves r as it is. A model that is not in ``active`` records
        nothing and gets zero updates. Inside ``optax.MultiSteps`` only the last microbatch's losses are seen.

    Raises:
        ArenaError: a bad argument (when built), no ``value``, or names that are not the models' (at update).

    Example:
        >>> import jax.numpy as jnp
        >>> scale = scale_by_convergence(window=2, decay=0.5, high=3.0)
        >>> updates = {"a": jnp.ones(1), "b": jnp.ones(1)}
        >>> state = scale.init(updates)
        >>> for step in range(3):
        ...     scaled, state = scale.update(updates, state, value={"a": 5.0 - step, "b": 5.0})
        ...     print(scaled["a"], scaled["b"])  # slope −1: r = ½·1 + ½·½ = ¾, then ⅝
        [1.] [1.]
        [1.3333334] [1.]
        [1.6] [1.]

    Source: MultiModelOptimizer, Algorithm 3 and equation 1.
    """
    if slope not in ("absolute", "signed", "studentized"):
        raise ArenaError(f"scale_by_convergence: slope is {slope!r}; give 'absolute', 'signed' or 'studentized'")
    least, needs = (3, "a standard error") if slope == "studentized" else (2, "a slope")
    check_length(window, least, "scale_by_convergence: window", f"{needs} needs at least {least} losses")
    if not is_number(decay, lambda factor: 0 <= factor < 1):
        raise ArenaError(f"scale_by_convergence: decay is {decay!r}; give a number from 0 to below 1")
    if not (is_traced(every) or is_count(every)):
        raise ArenaError(f"scale_by_convergence: every is {every!r}; give a number of losses, 1 or more")
    if not (is_traced(low) or is_traced(high) or (is_real(low) and is_real(high) and 0 < low <= high)):
        raise ArenaError(f"scale_by_convergence: low is {low!r} and high {high!r}; give 0 < low <= high")
    steps = np.arange(window) - (window - 1) / 2
    regression = steps / np.sum(steps**2)  # slope = Σ regression · losses

    def factor_of(rate: jax.Array) -> jax.Array:
        return jnp.clip(1 / rate, low, high).astype(rate.dtype)

    def init_fn(params: Any) -> ScaleByConvergenceState:
        models = {}
        for model, tree in branches(params)[0].items():
            dtype = wide_dtype(tree)
            zeros, count, rate = jnp.zeros([window], dtype), jnp.zeros([], jnp.int32), jnp.ones([], dtype)
            models[model] = Convergence(zeros, count, rate, factor_of(rate))
        return ScaleByConvergenceState(models)

    def observe(old: Convergence, loss: Any, taking_part: Any) -> Convergence:
        loss = jnp.asarray(loss).astype(old.losses.dtype)
        counts = jnp.isfinite(loss) & taking_part
        losses = jnp.where(counts, jnp.concatenate([old.losses[1:], loss[None]]), old.losses)
        count = jnp.where(counts, optax.safe_increment(old.count), old.count)
        # A sum of products, not a dot: matrix units would round it to fewer bits.
        s = jnp.sum((losses - jnp.mean(losses)) * jnp.asarray(regression, losses.dtype))
        progress = jnp.abs(s) if slope == "absolute" else jnp.maximum(-s, 0)
        if slope == "studentized":
            off_the_line = losses - jnp.mean(losses) - s * jnp.asarray(steps, losses.dtype)
            noise = jnp.sqrt(jnp.sum(off_the_line**2) / ((window - 2) * np.sum(steps**2)))
            # Not below what rounding alone leaves on a line: a constant loss has no slope, whatever its last bits say.
            rounding = jnp.finfo(losses.dtype).eps * jnp.max(jnp.abs(losses)) / np.sqrt(np.sum(steps**2))
            progress = progress / jnp.maximum(jnp.maximum(noise, rounding), jnp.finfo(losses.dtype).tiny)
        rate = decay * old.rate + (1 - decay) / (1 + progress)
        moves = counts & (count >= window) & (count % every == 0)
        rate = jnp.where(moves, rate, old.rate).astype(old.rate.dtype)
        # A model that sits out keeps what its last update was multiplied by.
        return Convergence(losses, count, rate, jnp.where(taking_part, factor_of(rate), old.factor))

    def update_fn(
        updates: Any,
        state: ScaleByConvergenceState,
        params: Any = None,
        *,
        value: Mapping[Name, Any] | None = None,
        active: Mapping[Name, Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, ScaleByConvergenceState]:
        del params, extra_args
        if value is None:
            raise ArenaError("scale_by_convergence needs the losses; call update(..., value={model: loss})")
        trees, definition = branches(updates)
        check_names(value, trees, "scale_by_convergence: value")
        for model, loss in value.items():
            if jnp.shape(loss) != ():
                raise ArenaError(
                    f"scale_by_convergence: the loss of {model!r} has shape {jnp.shape(loss)}; give one number a model"
                )
        mask = current_active(active, tuple(trees), "scale_by_convergence")

        models, moved = {}, []
        for model, tree in trees.items():
            now = observe(state.models[model], value[model], True if mask is None else mask[model])
            models[model] = now
            moved.append(silence(scale_leaves(tree, now.factor), mask, model))
        return jax.tree.unflatten(definition, moved), ScaleByConvergenceState(models)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
