"""The MultiModelOptimizer, whole, in three forms. The only place where its links are chained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.forms import FORMS, default_beta
from arena_jax.transforms.arguments import is_number, is_real, is_traced, named_mistakes
from arena_jax.transforms.by_model import constant_weights
from arena_jax.transforms.clip_by_model_norm import clip_by_model_norm
from arena_jax.transforms.correspondence import CORRESPONDENCES, Correspondence, by_kind, without_kinds
from arena_jax.transforms.form_schedule import form_schedule
from arena_jax.transforms.per_model import Optimizer, per_model
from arena_jax.transforms.scale_by_adam import scale_by_adam
from arena_jax.transforms.scale_by_component_rates import Multipliers, scale_by_component_rates
from arena_jax.transforms.scale_by_convergence import scale_by_convergence
from arena_jax.transforms.scale_by_learning_rates import Rate, scale_by_learning_rates
from arena_jax.transforms.scale_by_model_weight import scale_by_model_weight
from arena_jax.transforms.share_gradients import share_gradients
from arena_jax.transforms.synchronize_parameters import synchronize_parameters
from arena_jax.transforms.trees import Name, Path

Inner = Optimizer | Callable[[], Optimizer]


@named_mistakes(2)
def multi_model_adamw(
    learning_rate: Rate | Mapping[Name, Rate] | None,
    weights: Mapping[Name, float] | None = None,
    *,
    form: Literal["default", "paper", "published"] = "default",
    inner: Inner | Mapping[Name, Inner] | None = None,
    b1: float | None = None,
    b2: float | None = None,
    eps: float | None = None,
    amsgrad: bool | None = None,
    weight_decay: float | None = None,
    mask: Any | Callable[[Any], Any] | None = None,
    component_rates: Multipliers | None = None,
    components: Callable[[Path], str] | None = None,
    max_norm: float | Mapping[Name, float] | None = None,
    alpha: float | None = None,
    share_every: int | None = None,
    reduce: Literal["sum", "mean"] | None = None,
    alone: bool | None = None,
    correspondence: Correspondence | None = None,
    unshared: Sequence[str] = (),
    beta: float | None = None,
    sync_every: int | None = None,
    warmup_steps: int | None = None,
    decay_steps: int | None = None,
    decay: Literal["cosine", "linear", "constant"] | None = None,
    window: int | None = None,
    convergence_decay: float | None = None,
    convergence_every: int | None = None,
    low: float | None = None,
    high: float | None = None,
    slope: Literal["absolute", "signed", "studentized"] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW for several models that share gradients, synchronise, and adapt their learning rates.

    An argument that is left None takes the form's value; one that is given overrides it. Form ``"default"`` is what
    measurements on this project support. With g_p the gradient of parameter p of model i, and t = 0, 1, … the number of
    updates that model i has made before:

    .. math::
        g_p &\leftarrow g_p \min(1,\ c / \lVert g_i \rVert_2) \\
        g_p &\leftarrow (1 - \alpha)\, g_p +
        \alpha\, \frac{\sum_{q \in k(p)} w_{m(q)}\, g_q}{\sum_{q \in k(p)} w_{m(q)}} \qquad
        \text{where the group } k(p) \text{ has two members or more} \\
        d_p &= \mathrm{Adam}(g_p) + \lambda\, p \\
        p &\leftarrow p - \eta_i(t)\, d_p, \qquad \eta_i(t) = \eta_i \cdot \min(1, t / N) \cdot
        \tfrac12 (1 + \cos(\pi \min(1, (t - N)^+ / T))) \\
        p &\leftarrow (1 - \beta)\, p + \beta\, \frac{\sum_{q \in k(p)} w_{m(q)}\, q}{\sum_{q \in k(p)} w_{m(q)}}
        \qquad \text{after every 10th update}

    with c = 1, α = 0.2, λ = 0.01, N = 100, T = 10 000, β = 0.1; k(p) are the parameters of the same role and shape in
    all layers of all models (``by_role``). Learning rates do not follow convergence: see below.

    Form ``"paper"`` is Algorithms 1 to 3 to the letter, ``"published"`` what the authors' code does:

    ======================  ==========================  ============================  =================================
    \                       default                     paper                         published
    ======================  ==========================  ============================  =================================
    weights                 as given                    as given                      normalised to sum to 1
    weight in the rate      none                        none (equation 1)             × (0.5 + 0.5·w)
    ``max_norm``            1                           0: none                       0: none; norm + 1e-6 where given
    ``reduce``              "mean"                      "sum"                         "sum"
    ``correspondence``      ``by_role``                 ``by_kind``                   ``by_kind``
    ``alone``               False                       True                          False
    ``weight_decay``        0.01                        0.01                          0
    ``warmup_steps``        100, t / N from t = 0       100, t / N from t = 0         1000, t / N from t = 1
    cosine                  to 0                        to 0                          floored at 10 %
    epsilon                 after the bias correction   after the bias correction     before it
    ``beta``                0.1                         0.1                           0; 0.1 if ``sync_every`` is given
    ``window``              0: rates do not follow      100                           0: rates do not follow
    ``slope``               "signed"                    "absolute"                    "absolute"
    ======================  ==========================  ============================  =================================

    Why ``window`` is 0 by default: the slope of a loss per update is of the order of 1e-3, so that Algorithm 3 changed
    rates on ``joint-synthetic`` by up to 3 %. ``slope="studentized"`` is free of the loss's scale and acts, by up to
    50 %; neither is shown to help (four seeds, ``benchmarks/results/convergence.md``).

    Args:
        learning_rate: a number, which is warmed up and decays; a schedule ``count -> rate``, which stands for the whole
            of it; one of both for each model, ``{model: rate}``; or None: rates come with each update,
            ``update(..., learning_rates={model: rate or schedule})``.
        weights: ``{model: weight}``, finite and at least 0; None is 1 each. ``update(..., weights=...)`` overrides
            them, and may be traced.
        form: "default", "paper" or "published".
        inner: what stands in the place of Adam, once for each model: an Optax transformation that gives a direction to
            descend along (``optax.scale_by_lion()``, not ``optax.lion(rate)``), a function without arguments that makes
            one, or ``{model: one of these}``. Weight decay and learning rates follow it.
        b1: decay of Adam's first moment; 0.9 if not given.
        b2: decay of Adam's second moment; 0.999 if not given.
        eps: added to the root of Adam's second moment; 1e-8 if not given.
        amsgrad: never let the denominator's second moment fall; False if not given.
        weight_decay: decoupled, times the learning rate.
        mask: what decays: for one model's parameters, a tree of booleans or a function that returns one; None is all.
        component_rates: ``{component: multiplier}`` for all models, or one such for each, ``{model: …}``: what each
            component's learning rate is multiplied by, scaled to a geometric mean of 1 over a model's components; a
            multiplier is a number at least 0, or one per layer. None: one rate for all components of a model.
        components: from a parameter's path inside its model to its component, with ``component_rates``.
        max_norm: clip each model's gradient to this norm before sharing; 0 turns it off.
        alpha: part of a gradient that is taken from the pool; 0 turns sharing off.
        share_every: share on every so many updates; 1 in every form.
        reduce: "sum" or "mean": see ``share_gradients``.
        alone: pool a parameter with itself where nothing corresponds to it, as Algorithm 1 is printed.
        correspondence: which parameters belong together: ``by_kind``, ``by_role``, ``by_layer`` or your own.
        unshared: kinds of parameters, as ``kind_of`` calls them, that keep their own gradients; they are synchronised
            as the others are.
        beta: how far parameters are drawn to their average; 0 turns synchronisation off.
        sync_every: synchronise after every so many updates; 10 in every form.
        warmup_steps: updates until the full rate.
        decay_steps: updates from there to the end of the decay; 10 000 in every form (the published code's; the paper
            does not say).
        decay: "cosine" (every form), "linear" or "constant".
        window: losses in the regression of ``scale_by_convergence``; 0 turns it off.
        convergence_decay: its decay; 0.9 in every form.
        convergence_every: estimate anew on every so many losses; 1 in every form.
        low: least factor of convergence on a rate; 0.5 in every form.
        high: greatest factor; 1.5 in every form.
        slope: what counts as progress: see ``scale_by_convergence``.

    Returns:
        A transformation over ``{model: parameters}``. ``update`` needs ``params`` and, with a ``window``,
        ``value={model: loss}``; it understands ``weights={model: w}`` and ``active={model: bool}``. The state of a
        model that is not active does not change, and the model does not move. ``transforms.learning_rates(state)``
        reads the rates of the last update. Under ``optax.inject_hyperparams`` every number may be traced but
        ``window``; functions are named in ``static_args``.

    Raises:
        ArenaError: a bad argument, or one that would do nothing (when built), or names that are not the models' (at
            init or update).

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> optimizer = multi_model_adamw(optax.constant_schedule(0.1), {"a": 1.0, "b": 0.8}, form="paper", window=4)
        >>> params = {"a": {"up": jnp.array([1.0, -2.0])}, "b": {"down": jnp.array([3.0, 0.5])}}
        >>> losses = lambda params: {"a": jnp.sum(params["a"]["up"] ** 2), "b": jnp.sum(params["b"]["down"] ** 2)}
        >>> state = optimizer.init(params)
        >>> for step in range(40):
        ...     gradients = jax.grad(lambda p: sum(losses(p).values()))(params)
        ...     updates, state = optimizer.update(gradients, state, params, value=losses(params))
        ...     params = optax.apply_updates(params, updates)
        >>> print({model: round(float(loss), 2) for model, loss in losses(params).items()})
        {'a': 0.04, 'b': 0.03}
        >>> lion = multi_model_adamw(1e-4, inner=optax.scale_by_lion)
        >>> updates, _ = lion.update(params, lion.init(params), params)

    Source: MultiModelOptimizer, section 3 and section 4.4; github.com/The-Swarm-Corporation/MultiModelOptimizer,
    main.py ("published").
    """
    if form not in FORMS:
        raise ArenaError(f"multi_model_adamw: form is {form!r}; {nearest(str(form), FORMS)}")
    published = form == "published"
    values = FORMS[form]

    def get(name: str, argument: Any) -> Any:
        return values[name] if argument is None else argument

    _check_places(learning_rate, weights)
    checked_weights = constant_weights(weights, "multi_model_adamw")
    window = get("window", window)
    if _is_zero(window):
        regression = {
            "slope": slope,
            "convergence_decay": convergence_decay,
            "convergence_every": convergence_every,
            "low": low,
            "high": high,
        }
        _refuse_idle(regression, "learning rates do not follow convergence; give a window, e.g. window=100")
        window = None
    pairs = CORRESPONDENCES.get(values["correspondence"]) if correspondence is None else correspondence
    to_average = default_beta(form, sync_every) if beta is None else beta

    links: list[optax.GradientTransformation] = []
    bound = get("max_norm", max_norm)
    if isinstance(bound, Mapping) or is_traced(bound) or bound != 0:
        links.append(clip_by_model_norm(bound, epsilon=1e-6 if published else 0.0))
    part = get("alpha", alpha)
    if _is_zero(part):
        _refuse_idle({"unshared": tuple(unshared) or None}, "no gradients are shared; give alpha, e.g. 0.2")
    if not _is_zero(part):
        links.append(
            share_gradients(
                checked_weights,
                alpha=part,
                every=get("share_every", share_every),
                correspondence=without_kinds(pairs or by_kind, tuple(unshared)) if unshared else pairs,
                reduce=get("reduce", reduce),
                normalize=values["normalize"],
                alone=get("alone", alone),
            )
        )
    adam = {"b1": b1, "b2": b2, "eps": eps, "amsgrad": amsgrad}
    links.append(_directions(inner, adam, published, get("weight_decay", weight_decay), mask))
    if component_rates is not None:
        if components is None:
            raise ArenaError("multi_model_adamw: component_rates needs components, a function from path to component")
        links.append(scale_by_component_rates(components, component_rates))
    else:
        _refuse_idle({"components": components}, "there are no component_rates")
    schedule = {"warmup_steps": warmup_steps, "decay_steps": decay_steps, "decay": decay}
    links.append(scale_by_learning_rates(_rates(learning_rate, schedule, form)))
    if published:
        links.append(scale_by_model_weight(checked_weights, base=0.5, normalize=True))
    if window is not None:
        links.append(
            scale_by_convergence(
                window=window,
                decay=get("convergence_decay", convergence_decay),
                every=get("convergence_every", convergence_every),
                low=get("low", low),
                high=get("high", high),
                slope=get("slope", slope),
            )
        )
    if not _is_zero(to_average):
        links.append(
            synchronize_parameters(
                checked_weights, beta=to_average, every=get("sync_every", sync_every), correspondence=pairs
            )
        )
    return optax.chain(*links)


def _rates(learning_rate: Any, arguments: Mapping[str, Any], form: str) -> Rate | dict[Name, Rate] | None:
    """Numbers as schedules; schedules, and rates that arrive with the update, as they are."""
    each = learning_rate if isinstance(learning_rate, Mapping) else {None: learning_rate}
    if all(rate is None or callable(rate) for rate in each.values()):
        _refuse_idle(arguments, "the learning rate is a schedule of its own, or comes with the update")
    rates = {}
    for name, rate in each.items():
        if rate is None or callable(rate):
            rates[name] = rate
            continue
        try:
            rates[name] = form_schedule(form, rate, **arguments)
        except ArenaError as error:
            raise ArenaError(f"multi_model_adamw: {'' if name is None else f'{name!r}: '}{error}") from None
    return rates if isinstance(learning_rate, Mapping) else rates[None]


def _directions(
    inner: Any, adam: Mapping[str, Any], published: bool, weight_decay: Any, mask: Any
) -> optax.GradientTransformationExtraArgs:
    """What gives the direction, and decoupled weight decay, for each model."""
    if inner is None:
        settings = {name: argument for name, argument in adam.items() if argument is not None}
        inner = scale_by_adam(**settings, eps_before_correction=published)
    else:
        _refuse_idle(adam, "it belongs to Adam, and inner stands in its place; set it there")
    if not is_number(weight_decay, lambda number: number >= 0):
        raise ArenaError(f"multi_model_adamw: weight_decay is {weight_decay!r}; give a number that is at least 0")

    def link(choice: Any) -> optax.GradientTransformation:
        direction = _direction(choice)
        if _is_zero(weight_decay):
            return direction
        return optax.chain(direction, optax.add_decayed_weights(weight_decay, mask))

    return per_model(
        {name: link(optimizer) for name, optimizer in inner.items()} if isinstance(inner, Mapping) else link(inner)
    )


def _direction(choice: Any) -> optax.GradientTransformation:
    """An inner optimizer, made where a function was given, and refused where it descends by itself."""
    optimizer = choice() if callable(choice) else choice
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ArenaError(
            f"multi_model_adamw: inner is {choice!r}; give an Optax transformation such as optax.scale_by_lion(), or a "
            "function without arguments that makes one"
        )
    if _descends(optimizer):
        raise ArenaError(
            "multi_model_adamw: inner has a learning rate of its own: its updates point down the gradient, and would "
            "be turned round; give the direction alone, e.g. optax.scale_by_lion() in the place of optax.lion(rate)"
        )
    return optimizer


def _descends(transformation: optax.GradientTransformation) -> bool:
    """Whether the first update of a parameter lies against its gradient; unknown is no."""
    try:
        with jax.ensure_compile_time_eval():
            ones = {"kernel": jnp.ones((2, 2))}
            update = optax.with_extra_args_support(transformation).update
            step, _ = update(ones, transformation.init(ones), {"kernel": jnp.zeros((2, 2))}, value=jnp.ones([]))
            return bool(jnp.sum(step["kernel"]) < 0)
    except Exception:  # a transformation for particular trees, or of traced numbers: it cannot be tried
        return False


def _is_zero(value: Any) -> bool:
    return not is_traced(value) and is_real(value) and value == 0


def _refuse_idle(arguments: Mapping[str, Any], reason: str) -> None:
    """Refuse an argument that would do nothing."""
    for name, argument in arguments.items():
        if argument is not None:
            raise ArenaError(f"multi_model_adamw: {name}={argument!r} does nothing: {reason}")


def _check_places(learning_rate: Any, weights: Any) -> None:
    """Name what was given in the wrong place: names, weights or parameters for the learning rate, or the reverse."""
    order = "the order is multi_model_adamw(learning_rate, weights)"
    if isinstance(learning_rate, str | bytes | list | tuple | set):
        raise ArenaError(
            f"multi_model_adamw: learning_rate is {learning_rate!r}; give a number, a schedule or {{model: rate}}; "
            "models are named by the parameters at init"
        )
    if weights is not None and not isinstance(weights, Mapping):
        kind = "a schedule" if callable(weights) else repr(weights)
        raise ArenaError(f"multi_model_adamw: weights is {kind}; give {{model: weight}} or None; {order}")
    if isinstance(learning_rate, Mapping):
        for name, rate in learning_rate.items():
            if isinstance(rate, Mapping) or (hasattr(rate, "ndim") and rate.ndim > 0):
                raise ArenaError(
                    f"multi_model_adamw: learning_rate holds parameters of {name!r}; parameters are given to "
                    f"init(params); {order}"
                )
            if rate is None:
                raise ArenaError(
                    f"multi_model_adamw: the learning rate of {name!r} is None; give one for every model, or None for "
                    "all where they come with the update"
                )
            if not (callable(rate) or is_number(rate, lambda number: number >= 0)):
                raise ArenaError(
                    f"multi_model_adamw: the learning rate of {name!r} is {rate!r}; give a number that is at least 0, "
                    "or a schedule"
                )
