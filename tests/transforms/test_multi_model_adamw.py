"""The one assembly: what each form fills in, what stands in Adam's place, and calls that are mistaken."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models
from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError
from arena_jax.config.forms import FORMS

PARAMS = {"a": {"up": jnp.array([1.0, -2.0])}, "b": {"up": jnp.array([3.0, 0.5])}}
WEIGHTS = {"a": 1.0, "b": 3.0}


def trained(optimizer, steps=4, **extra):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(jax.tree.map(jnp.sin, params), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("form", FORMS)
def test_an_argument_that_is_none_takes_the_forms_value_and_one_that_is_given_overrides_it(form):
    """Written out, the form's own values change no bit; and every one of them can be overridden."""
    names = {"by_kind": tx.by_kind, "by_role": tx.by_role}
    values = {name: names.get(value, value) for name, value in FORMS[form].items() if name != "normalize"}
    if not values["window"]:
        values = {
            n: v
            for n, v in values.items()
            if n not in ("slope", "convergence_decay", "convergence_every", "low", "high")
        }
    assert set(values) <= set(inspect.signature(tx.multi_model_adamw).parameters)
    losses = {"value": {"a": 1.0, "b": 2.0}}
    plain, _ = trained(tx.multi_model_adamw(0.1, WEIGHTS, form=form), **losses)
    if form == "published":  # sync_every asks for synchronisation where it is given
        values.pop("sync_every")
    assert_equal(trained(tx.multi_model_adamw(0.1, WEIGHTS, form=form, **values), **losses)[0], plain)


def test_the_default_form_is_its_equations():
    """The docstring's equations, as a loop over numpy arrays in float64."""
    steps, alpha, beta, decay, rate = 25, 0.2, 0.1, 0.01, 0.1
    params = {m: np.asarray(p["up"], np.float64) for m, p in PARAMS.items()}
    first, second = ({m: np.zeros(2) for m in params} for _ in range(2))
    total = sum(WEIGHTS.values())
    for t in range(steps):
        gradients = {m: 3 * np.sin(p + t) for m, p in params.items()}
        for m, g in gradients.items():
            gradients[m] = g * min(1.0, 1.0 / np.linalg.norm(g))
        pool = sum(WEIGHTS[m] * g for m, g in gradients.items()) / total
        eta = rate * (t / 3 if t < 3 else 0.5 * (1 + math.cos(math.pi * min(1, (t - 3) / 20))))
        for m in params:
            g = (1 - alpha) * gradients[m] + alpha * pool
            first[m] = 0.9 * first[m] + 0.1 * g
            second[m] = 0.999 * second[m] + 0.001 * g**2
            direction = first[m] / (1 - 0.9 ** (t + 1)) / (np.sqrt(second[m] / (1 - 0.999 ** (t + 1))) + 1e-8)
            params[m] = params[m] - eta * (direction + decay * params[m])
        if (t + 1) % 10 == 0:
            average = sum(WEIGHTS[m] * p for m, p in params.items()) / total
            params = {m: (1 - beta) * p + beta * average for m, p in params.items()}
    with jax.enable_x64(True):
        optimizer = tx.multi_model_adamw(rate, WEIGHTS, warmup_steps=3, decay_steps=20)
        tree = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        state = optimizer.init(tree)
        for t in range(steps):
            gradients = jax.tree.map(lambda p, t=t: 3 * jnp.sin(p + t), tree)
            updates, state = optimizer.update(gradients, state, tree)
            tree = optax.apply_updates(tree, updates)
        for m in params:
            np.testing.assert_allclose(tree[m]["up"], params[m], rtol=1e-12, atol=1e-13)  # measured 3e-15


def test_rates_may_be_one_schedule_one_per_model_or_arrive():
    """All ways to say the same rates give the same numbers."""
    schedule = tx.warmup_and_decay(0.1, warmup_steps=2, decay_steps=10)
    options = {"warmup_steps": 2, "decay_steps": 10}
    want, state = trained(tx.multi_model_adamw(0.1, **options))
    assert_equal(trained(tx.multi_model_adamw(schedule))[0], want)
    assert_equal(trained(tx.multi_model_adamw({"a": 0.1, "b": 0.1}, **options))[0], want)
    assert_equal(trained(tx.multi_model_adamw({"a": schedule, "b": 0.1}, **options))[0], want)
    optimizer = tx.multi_model_adamw(None)
    params, arriving = PARAMS, optimizer.init(PARAMS)
    for t in range(4):
        rates = dict.fromkeys("ab", schedule(t))
        updates, arriving = optimizer.update(jax.tree.map(jnp.sin, params), arriving, params, learning_rates=rates)
        params = optax.apply_updates(params, updates)
    assert_equal(params, want)
    assert_equal(tx.learning_rates(arriving), tx.learning_rates(state))


def test_each_model_has_its_own_rate_whether_it_was_built_in_or_arrives_as_a_schedule():
    """Schedules that are pytrees are arguments of one program: other numbers compile nothing."""
    options = {"warmup_steps": 2, "decay_steps": 10}
    optimizer = tx.multi_model_adamw(None)
    move = jax.jit(lambda gradients, *rest, rates: optimizer.update(gradients, *rest, learning_rates=rates))
    course = functools.partial(lambda peak, warmup, count: tx.form_schedule("default", peak, warmup_steps=warmup,
                                                                            decay_steps=10)(count))  # fmt: skip
    for peaks in ({"a": 0.1, "b": 0.2}, {"a": 0.3, "b": 0.05}):
        want, _ = trained(tx.multi_model_adamw(peaks, **options))
        rates = {name: jax.tree_util.Partial(course, np.float32(peak), np.int32(2)) for name, peak in peaks.items()}
        params, state = PARAMS, optimizer.init(PARAMS)
        for _ in range(4):
            updates, state = move(jax.tree.map(jnp.sin, params), state, params, rates=rates)
            params = optax.apply_updates(params, updates)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-7), params, want)  # measured 7e-8
    assert move._cache_size() == 1


@pytest.mark.parametrize("form", FORMS)
def test_the_rates_that_are_reported_are_those_that_moved(form):
    """Against the update itself: with no decay and a direction of ones, the step is minus the rate."""
    ones = optax.GradientTransformation(
        lambda params: optax.EmptyState(), lambda u, s, p=None: (jax.tree.map(jnp.ones_like, u), s)
    )
    optimizer = tx.multi_model_adamw(
        {"a": 0.1, "b": 0.2}, WEIGHTS, form=form, inner=ones, weight_decay=0, alpha=0, beta=0, window=3, warmup_steps=2,
        decay_steps=9, slope="signed", high=3.0,
    )  # fmt: skip
    state = optimizer.init(PARAMS)
    for t in range(8):
        active = {"a": True, "b": t != 5}
        losses = {"a": 9.0 - t, "b": 1.0 + t}
        updates, state = optimizer.update(PARAMS, state, PARAMS, value=losses, active=active)
        for model in "ab":
            rate = tx.learning_rates(state)[model]
            if active[model]:
                np.testing.assert_allclose(-updates[model]["up"], [rate, rate], rtol=1e-6)
            assert t == 0 or rate > 0, "a model that sits out keeps its last rate"


def test_an_inner_optimizer_stands_in_adams_place():
    """Against Optax's whole optimizer, whose rate and decay come after the same direction."""
    for inner, whole in (
        (optax.scale_by_lion(0.9, 0.99), optax.lion(0.1, 0.9, 0.99, weight_decay=0.01)),
        (optax.scale_by_lion, optax.lion(0.1, weight_decay=0.01)),
        (optax.scale_by_belief(), optax.adabelief(0.1)),
        (optax.trace(0.9), optax.sgd(0.1, momentum=0.9)),
        (
            tx.scale_by_muon,
            optax.contrib.muon(0.1, consistent_rms=0.2, muon_weight_dimension_numbers=tx.muon_dimensions),
        ),
    ):
        decay = 0.01 if "Lion" in str(whole.init({"p": jnp.ones(1)})) else 0.0
        optimizer = tx.multi_model_adamw(
            optax.constant_schedule(0.1), inner=inner, max_norm=0, alpha=0, beta=0, weight_decay=decay
        )
        assert_equal(trained(optimizer)[0], trained(tx.per_model(whole))[0])
    both = tx.multi_model_adamw(
        optax.constant_schedule(0.1), inner={"a": optax.scale_by_lion(), "b": optax.identity}, max_norm=0, alpha=0,
        beta=0, weight_decay=0,
    )  # fmt: skip
    params, _ = trained(both, steps=1)
    np.testing.assert_allclose(
        params["a"]["up"], PARAMS["a"]["up"] - 0.1 * np.sign(np.sin(PARAMS["a"]["up"])), rtol=1e-6
    )
    np.testing.assert_allclose(params["b"]["up"], PARAMS["b"]["up"] - 0.1 * np.sin(PARAMS["b"]["up"]), rtol=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_muon_takes_the_kernels_of_the_blocks_and_adam_the_rest(family):
    """Counted over a whole model; the state holds one momentum for Muon's leaves, two moments for Adam's."""
    model = models.create(f"{family}-tiny", task="sequence-classification")
    _, params = models.split(model)
    dimensions = tx.muon_dimensions(params)
    is_numbers = lambda leaf: leaf is None or isinstance(leaf, optax.contrib.MuonDimensionNumbers)  # noqa: E731
    takes = dict(jax.tree_util.tree_leaves_with_path(dimensions, is_leaf=is_numbers))
    layers = model.config.num_layers
    muon = {jax.tree_util.keystr(path): leaf for path, leaf in takes.items() if leaf is not None}
    assert len(muon) == 6, "query, key, value, output, up and down"
    assert all("blocks" in path and "kernel" in path for path in muon)
    assert set(muon.values()) == {optax.contrib.MuonDimensionNumbers(1, 2)}, "the layer axis leads"
    leaves = dict(jax.tree_util.tree_leaves_with_path(params))
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    counted = sum(leaf.size for path, leaf in leaves.items() if takes[path] is not None)
    assert counted == layers * (4 * hidden**2 + 2 * hidden * inner)
    state = tx.scale_by_muon().init(params).inner_states
    momenta = jax.tree.leaves(state["muon"])
    assert sum(leaf.size for leaf in momenta if leaf.ndim == 3) == counted
    whole = sum(leaf.size for leaf in leaves.values())
    assert sum(leaf.size for leaf in jax.tree.leaves(state["adam"])) == 2 * (whole - counted) + 1


def test_muon_orthogonalises_each_layer_by_itself():
    """The direction of a stack is, layer by layer, that of the layers taken apart: 0.2·√max(in, out) times U Vᵀ."""
    gradient = jax.random.normal(jax.random.key(0), (3, 4, 8))
    stack, apart = {"blocks": {"mlp": {"kernel": gradient}}}, [{"mlp": {"kernel": g}} for g in gradient]
    inner = tx.scale_by_muon(momentum=0.0)
    got, _ = inner.update(stack, inner.init(stack), stack)
    for layer, alone in zip(got["blocks"]["mlp"]["kernel"], apart, strict=True):
        want, _ = inner.update(alone, inner.init(alone), alone)
        np.testing.assert_allclose(layer, want["mlp"]["kernel"], rtol=1e-5, atol=1e-6)
        u, _, v = np.linalg.svd(np.asarray(alone["mlp"]["kernel"]), full_matrices=False)
        np.testing.assert_allclose(layer, 0.2 * math.sqrt(8) * u @ v, atol=0.25)  # Newton–Schulz, five iterations


MISTAKES = {
    "weights first": (lambda: tx.multi_model_adamw(WEIGHTS, 0.1), "the order is multi_model_adamw"),
    "a schedule second": (lambda: tx.multi_model_adamw(0.1, optax.constant_schedule(1)), "weights is a schedule"),
    "names second": (lambda: tx.multi_model_adamw(0.1, ["a", "b"]), r"weights is \['a', 'b'\]"),
    "names first": (lambda: tx.multi_model_adamw(["a", "b"], 0.1), r"learning_rate is \['a', 'b'\]"),
    "parameters first": (lambda: tx.multi_model_adamw(PARAMS, 0.1), "the order is multi_model_adamw"),
    "parameters alone": (lambda: tx.multi_model_adamw(PARAMS), r"parameters are given to init"),
    "three by place": (lambda: tx.multi_model_adamw(0.1, None, "paper"), "by place, and 3 arguments.*form="),
    "nothing": (lambda: tx.multi_model_adamw(), "needs learning_rate"),
    "twice": (lambda: tx.multi_model_adamw(0.1, learning_rate=0.2), "learning_rate is given twice"),
    "an unknown name": (lambda: tx.multi_model_adamw(0.1, betas=(0.9, 0.99)), "no argument 'betas'; did you mean"),
    "an unknown form": (lambda: tx.multi_model_adamw(0.1, form="papr"), "did you mean 'paper'"),
    "a rate that is none": (lambda: tx.multi_model_adamw({"a": 0.1, "b": None}), "rate of 'b' is None"),
    "a negative rate": (lambda: tx.multi_model_adamw({"a": 0.1, "b": -1.0}), "rate of 'b' is -1.0"),
    "a rate of nobody": (lambda: tx.multi_model_adamw({"a": 0.1, "x": 0.1}).init(PARAMS), "no model 'x'"),
    "warm-up of a schedule": (
        lambda: tx.multi_model_adamw(optax.constant_schedule(1), warmup_steps=3), "warmup_steps=3 does nothing"
    ),
    "decay of rates that arrive": (lambda: tx.multi_model_adamw(None, decay="linear"), "decay='linear' does nothing"),
    "an unknown decay": (lambda: tx.multi_model_adamw(0.1, decay="cosin"), "did you mean 'cosine'"),
    "a slope without a window": (lambda: tx.multi_model_adamw(0.1, slope="signed"), "slope='signed' does nothing"),
    "two losses for an error": (lambda: tx.multi_model_adamw(0.1, window=2, slope="studentized"), "at least 3 losses"),
    "Adam's own beside another": (
        lambda: tx.multi_model_adamw(0.1, inner=optax.scale_by_lion(), b1=0.9), "b1=0.9 does nothing"
    ),
    "a whole optimizer inside": (lambda: tx.multi_model_adamw(0.1, inner=optax.lion(0.1)), "learning rate of its own"),
    "no transformation": (lambda: tx.multi_model_adamw(0.1, inner="lion"), "inner is 'lion'"),
    "rates without components": (lambda: tx.multi_model_adamw(0.1, component_rates={"up": 2.0}), "needs components"),
    "components alone": (lambda: tx.multi_model_adamw(0.1, components=str), "there are no component_rates"),
    "a weight decay": (lambda: tx.multi_model_adamw(0.1, weight_decay=-1), "weight_decay is -1"),
    "rates twice": (
        lambda: tx.multi_model_adamw(0.1).update(
            PARAMS, tx.multi_model_adamw(0.1).init(PARAMS), PARAMS, learning_rates={"a": 1.0, "b": 1.0}
        ),
        "give them once",
    ),
    "rates that do not arrive": (
        lambda: tx.multi_model_adamw(None).update(PARAMS, tx.multi_model_adamw(None).init(PARAMS), PARAMS),
        "was built without learning rates",
    ),
    "a frozen kind that is none": (lambda: tx.freeze(["a:heads"]).init(PARAMS), "no parameter is named"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake):
    act, message = MISTAKES[mistake]
    with pytest.raises(ArenaError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
