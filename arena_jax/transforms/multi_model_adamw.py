"""The MultiModelOptimizer, whole: as the paper prints it, and as its code was published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError
from arena_jax.transforms.arguments import is_count, is_real
from arena_jax.transforms.clip_by_model_norm import clip_by_model_norm
from arena_jax.transforms.correspondence import Correspondence, by_kind
from arena_jax.transforms.per_model import per_model
from arena_jax.transforms.scale_by_adam import scale_by_adam
from arena_jax.transforms.scale_by_convergence import scale_by_convergence
from arena_jax.transforms.scale_by_model_weight import scale_by_model_weight
from arena_jax.transforms.share_gradients import share_gradients
from arena_jax.transforms.synchronize_parameters import synchronize_parameters
from arena_jax.transforms.trees import Name


def multi_model_adamw(
    learning_rate: float | optax.Schedule,
    weights: Mapping[Name, float] | None = None,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    mask: Any | Callable[[Any], Any] | None = None,
    amsgrad: bool = False,
    warmup_steps: int = 100,
    decay_steps: int = 10_000,
    alpha: float = 0.2,
    share_every: int = 1,
    reduce: Literal["sum", "mean"] = "sum",
    alone: bool = False,
    beta: float = 0.1,
    sync_every: int = 10,
    correspondence: Correspondence = by_kind,
    window: int | None = 100,
    convergence_every: int = 1,
    slope: Literal["absolute", "signed"] = "absolute",
    max_norm: float | Mapping[Name, float] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW for several models that share gradients, synchronise, and adapt their learning rates: the paper's form.

    In this order: clip each model (if ``max_norm``); ``share_gradients`` (Algorithm 1); AdamW with

    .. math:: lr_i = lr \cdot f_{warmup}(t) \cdot f_{decay}(t) \cdot f_{conv}(i)

    where t is the number of updates the model has made before this one, f_warmup = min(1, t / warmup_steps), f_decay a
    half cosine to 0 over ``decay_steps`` after the warm-up, and f_conv ``scale_by_convergence`` (Algorithm 3); at last
    ``synchronize_parameters`` (Algorithm 2). Adam's moments and t belong to one model each.

    ==========================  =============================  ========================================
    \                           here (the paper)               ``published_multi_model_adamw``
    ==========================  =============================  ========================================
    weights                     as given                       normalised to sum to 1
    weight in the rate          none (equation 1)              × (0.5 + 0.5·w)
    clipping before sharing     none, or ``max_norm``          none, or ``max_norm``; norm + 1e-6
    warm-up                     t / N from t = 0               t / N from t = 1
    cosine                      to 0                           floored at 10 %
    epsilon                     after the bias correction      before it
    synchronisation             every 10                       off, or ``sync_every``
    convergence scaling         on                             in a scheduler of its own: off, or ``window``
    ==========================  =============================  ========================================

    Args:
        learning_rate: the base rate, or a schedule ``t -> rate`` that stands for lr·f_warmup·f_decay as a whole.
        weights: ``{model: weight}``, finite and at least 0; None is 1 each. ``update(..., weights=...)`` overrides
            them, and may be traced.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, times the learning rate.
        mask: what decays: for one model's parameters, a tree of booleans or a function that returns one; None is all.
        amsgrad: never let the denominator's second moment fall.
        warmup_steps: updates until the full rate; not used with a schedule.
        decay_steps: updates from there to 0 (the paper does not say; 10 000 is the published code's); not used with a
            schedule.
        alpha: part of a gradient that is taken from the pool; 0 turns sharing off.
        share_every: share on every so many updates.
        reduce: ``"sum"`` (the paper) or ``"mean"``: see ``share_gradients``.
        alone: pool a parameter with itself where nothing corresponds to it, as Algorithm 1 is printed.
        beta: how far parameters are drawn to their average; 0 turns synchronisation off.
        sync_every: synchronise after every so many updates.
        correspondence: which parameters belong together.
        window: losses in the regression of ``scale_by_convergence``; None turns it off.
        convergence_every: estimate anew on every so many losses.
        slope: ``"absolute"`` (the paper) or ``"signed"``.
        max_norm: clip each model's gradient to this norm before sharing.

    Returns:
        A transformation over ``{model: parameters}``. ``update`` needs ``params`` and, unless ``window`` is None,
        ``value={model: loss}``; it understands ``weights={model: w}`` and ``active={model: bool}``. The state of a
        model that is not active does not change, and the model does not move.

    Raises:
        ArenaError: a bad argument (when built), or names that are not the models' (at init or update).

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> optimizer = multi_model_adamw(optax.constant_schedule(0.1), {"a": 1.0, "b": 0.8}, window=4)
        >>> params = {"a": {"up": jnp.array([1.0, -2.0])}, "b": {"down": jnp.array([3.0, 0.5])}}
        >>> losses = lambda params: {"a": jnp.sum(params["a"]["up"] ** 2), "b": jnp.sum(params["b"]["down"] ** 2)}
        >>> state = optimizer.init(params)
        >>> for step in range(40):
        ...     gradients = jax.grad(lambda p: sum(losses(p).values()))(params)
        ...     updates, state = optimizer.update(gradients, state, params, value=losses(params))
        ...     params = optax.apply_updates(params, updates)
        >>> print({model: round(float(loss), 2) for model, loss in losses(params).items()})
        {'a': 0.04, 'b': 0.03}

    Source: MultiModelOptimizer, section 3 and section 4.4.
    """
    if callable(learning_rate):
        schedule = learning_rate
    else:
        _check_schedule("multi_model_adamw", learning_rate, warmup_steps, decay_steps)
        schedule = _paper_schedule(learning_rate, warmup_steps, decay_steps)
    links = [] if max_norm is None else [clip_by_model_norm(max_norm)]
    links += [
        share_gradients(
            weights, alpha=alpha, every=share_every, correspondence=correspondence, reduce=reduce, alone=alone
        ),
        per_model(
            optax.chain(
                scale_by_adam(b1, b2, eps, amsgrad=amsgrad),
                optax.add_decayed_weights(weight_decay, mask),
                optax.scale_by_learning_rate(schedule),
            )
        ),
    ]
    if window is not None:
        links.append(scale_by_convergence(window=window, every=convergence_every, slope=slope))
    links.append(synchronize_parameters(weights, beta=beta, every=sync_every, correspondence=correspondence))
    return optax.chain(*links)


def published_multi_model_adamw(
    learning_rate: float | optax.Schedule,
    weights: Mapping[Name, float] | None = None,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    warmup_steps: int = 1000,
    decay_steps: int = 10_000,
    alpha: float = 0.2,
    share_every: int = 1,
    sync_every: int | None = None,
    beta: float = 0.1,
    correspondence: Correspondence = by_kind,
    window: int | None = None,
    max_norm: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The MultiModelOptimizer as its PyTorch code was published; ``multi_model_adamw`` lists the differences.

    .. math::
        lr_i = lr\,(0.5 + 0.5\, w_i)\,f(t), \qquad f(t) = \begin{cases} t / N & t < N \\
        \max(0.1,\ \tfrac12 + \tfrac12 \cos(\pi \max(1, t - N) / T)) & t \ge N \end{cases}

    with t counted from 1, N = ``warmup_steps``, T = ``decay_steps``, weights normalised to sum to 1, and
    :math:`p \leftarrow p - lr_i \lambda p - lr_i \frac{\sqrt{c_2}}{c_1} \frac{m}{\sqrt v + \epsilon}`. Beyond T the
    cosine rises again, as it does there.

    Args:
        learning_rate: the base rate lr, or a schedule over updates counted from 0 that stands for lr·f as a whole.
        weights: ``{model: weight}``; None is equal weights. ``update(..., weights=...)`` overrides them.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment before the bias correction.
        weight_decay: λ, decoupled, times the learning rate.
        amsgrad: never let the denominator's second moment fall.
        warmup_steps: N.
        decay_steps: T; the published code has 10 000 times its gradient accumulation steps.
        alpha: part of a gradient that is taken from the pool.
        share_every: share on every so many updates.
        sync_every: synchronise after every so many updates; None, as there by default, never.
        beta: how far parameters are drawn to their average.
        correspondence: which parameters belong together. (The published one reads PyTorch names.)
        window: losses in the regression of ``scale_by_convergence``; None leaves it out, as its optimizer does.
        max_norm: clip each model's gradient to this norm before sharing, as ``clip_grad_norm_`` does.

    Returns:
        A transformation over ``{model: parameters}``, with the extra arguments of ``multi_model_adamw``.

    Raises:
        ArenaError: a bad argument (when built), or names that are not the models' (at init or update).

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = published_multi_model_adamw(0.1, {"a": 1.0, "b": 3.0}, warmup_steps=2)
        >>> params = {"a": {"up": jnp.ones(1)}, "b": {"up": jnp.ones(1)}}
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["a"]["up"], updates["b"]["up"])  # 0.1 · ½ · (0.5 + 0.5·¼), 0.1 · ½ · (0.5 + 0.5·¾)
        [-0.03124999] [-0.04374998]

    Source: github.com/The-Swarm-Corporation/MultiModelOptimizer, main.py.
    """
    if callable(learning_rate):
        schedule = learning_rate
    else:
        _check_schedule("published_multi_model_adamw", learning_rate, warmup_steps, decay_steps)
        schedule = _published_schedule(learning_rate, warmup_steps, decay_steps)
    links = [] if max_norm is None else [clip_by_model_norm(max_norm, epsilon=1e-6)]
    links += [
        share_gradients(weights, alpha=alpha, every=share_every, correspondence=correspondence, normalize=True),
        per_model(
            optax.chain(
                scale_by_adam(b1, b2, eps, eps_before_correction=True, amsgrad=amsgrad),
                optax.add_decayed_weights(weight_decay),
                optax.scale_by_learning_rate(schedule),
            )
        ),
        scale_by_model_weight(weights, base=0.5, normalize=True),
    ]
    if window is not None:
        links.append(scale_by_convergence(window=window))
    if sync_every is not None:
        links.append(synchronize_parameters(weights, beta=beta, every=sync_every, correspondence=correspondence))
    return optax.chain(*links)


def _paper_schedule(rate: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from 0, then half a cosine to 0; ``count`` is the number of updates made before."""

    def schedule(count: Any) -> Any:
        # Optax's own schedule is float32 whatever JAX is set to: too coarse beside float64 parameters.
        t = jnp.asarray(count, float)
        rising = t / max(1, warmup_steps)
        falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((t - warmup_steps) / decay_steps, 0, 1)))
        return rate * jnp.where(t < warmup_steps, rising, falling)

    return schedule


def _published_schedule(rate: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from step/N, then a cosine that is never below a tenth; ``count`` is from 0, its t from 1."""

    def schedule(count: Any) -> Any:
        t = jnp.asarray(count + 1, float)
        rising = t / max(1, warmup_steps)
        falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.maximum(1, t - warmup_steps) / decay_steps))
        return rate * jnp.where(t < warmup_steps, rising, jnp.maximum(0.1, falling))

    return schedule


def _check_schedule(what: str, learning_rate: Any, warmup_steps: int, decay_steps: int) -> None:
    if not (is_real(learning_rate) and learning_rate >= 0):
        raise ArenaError(f"{what}: learning_rate is {learning_rate!r}; give a number that is at least 0, or a schedule")
    if not (is_count(warmup_steps, 0) and is_count(decay_steps)):
        raise ArenaError(
            f"{what}: warmup_steps is {warmup_steps!r} and decay_steps {decay_steps!r}; give at least 0 and at least 1"
        )
