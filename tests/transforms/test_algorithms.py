"""Algorithms 1 to 3 and the published code against loops written out literally, in float64."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import transforms as tx

WEIGHTS = {"bert": 1.0, "gpt2": 0.8, "roberta": 1.2}
LAYERS = {"bert": 2, "gpt2": 3, "roberta": 1}
STEPS = 12


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def one_model(layers, seed):
    """Parameters by flat name, one array per layer: what the loops work on."""
    rng = np.random.default_rng(seed)
    flat = {"embeddings.token": rng.normal(size=(7, 4)), "head.kernel": rng.normal(size=(4, 2))}
    for layer in range(layers):
        for part in ("query", "key"):
            flat[f"blocks.{layer}.attention.{part}.kernel"] = rng.normal(size=(4, 4))
            flat[f"blocks.{layer}.attention.{part}.bias"] = rng.normal(size=(4,))
        flat[f"blocks.{layer}.feed_forward.up.kernel"] = rng.normal(size=(4, 6))
        flat[f"blocks.{layer}.norm.scale"] = rng.normal(size=(4,))
    flat["odd.one"] = rng.normal(size=(3, 5)) if layers == 2 else rng.normal(size=(5, layers))
    return flat


def flat_models(seed):
    return {name: one_model(layers, seed + layers) for name, layers in LAYERS.items()}


def stack(flat):
    """The same numbers as a nested dictionary with a leading layer axis."""
    tree, layers = {}, {}
    for name, value in flat.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        if match:
            layers.setdefault("blocks." + match[2], []).append(value)
        else:
            layers[name] = value
    for name, value in layers.items():
        *above, last = name.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = jnp.asarray(np.stack(value) if isinstance(value, list) else value)
    return tree


def unstacked(flat):
    """The same numbers with a list of blocks."""
    tree = stack({name: value for name, value in flat.items() if not name.startswith("blocks.")})
    count = 1 + max(int(name.split(".")[1]) for name in flat if name.startswith("blocks."))
    tree["blocks"] = [
        stack({n.split(".", 2)[2]: v for n, v in flat.items() if n.startswith(f"blocks.{layer}.")})
        for layer in range(count)
    ]
    return tree


LAYOUTS = {"stacked": stack, "list of blocks": unstacked}


def kind(name, value):
    """A classification of these names that owes nothing to the library's."""
    last = name.split(".")[-1]
    if name.startswith("head"):
        what = "head"
    elif "norm" in name:
        what = "norm"
    elif last == "bias":
        what = "bias"
    elif "attention" in name:
        what = "attention"
    elif "feed_forward" in name:
        what = "ffn"
    else:
        what = name
    return what, value.shape


def algorithm_1(models, weights, alpha, *, skip_single):
    cache, members = {}, {}
    for name, gradients in models.items():
        for parameter, gradient in gradients.items():
            key = kind(parameter, gradient)
            cache[key] = cache.get(key, np.zeros_like(gradient)) + weights[name] * gradient
            members[key] = members.get(key, 0) + 1
    return {
        name: {
            parameter: gradient
            if skip_single and members[kind(parameter, gradient)] == 1
            else (1 - alpha) * gradient + alpha * cache[kind(parameter, gradient)]
            for parameter, gradient in gradients.items()
        }
        for name, gradients in models.items()
    }


def algorithm_2(models, weights, beta):
    average, total = {}, {}
    for name, parameters in models.items():
        for parameter, value in parameters.items():
            key = kind(parameter, value)
            average[key] = average.get(key, 0) + weights[name] * value
            total[key] = total.get(key, 0) + weights[name]
    return {
        name: {
            parameter: (1 - beta) * value + beta * average[kind(parameter, value)] / total[kind(parameter, value)]
            for parameter, value in parameters.items()
        }
        for name, parameters in models.items()
    }


def algorithm_3(rate, losses, window, *, signed=False):
    if len(losses) >= window:
        slope = np.polyfit(np.arange(window), np.array(losses[-window:]), 1)[0]
        progress = max(-slope, 0) if signed else abs(slope)
        rate = 0.9 * rate + 0.1 / (1 + progress)
    return rate


def assert_same(got, want, layout, tolerance=1e-12):
    for name in want:
        expected = layout(want[name])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got[name], expected)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("traced", [False, True], ids=["constant weights", "traced weights"])
def test_algorithm_1(layout, traced):
    gradients = flat_models(0)
    tree = {name: layout(flat) for name, flat in gradients.items()}
    share = tx.share_gradients(None if traced else WEIGHTS, alpha=0.2)
    extra = {"weights": WEIGHTS} if traced else {}
    got, _ = jax.jit(lambda t, extra: share.update(t, share.init(t), **extra))(tree, extra)
    assert_same(got, algorithm_1(gradients, WEIGHTS, 0.2, skip_single=True), layout)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_algorithm_1_as_printed_pools_a_parameter_with_itself(layout):
    gradients = flat_models(0)
    tree = {name: layout(flat) for name, flat in gradients.items()}
    share = tx.share_gradients(WEIGHTS, alone=True)
    got, _ = share.update(tree, share.init(tree))
    assert_same(got, algorithm_1(gradients, WEIGHTS, 0.2, skip_single=False), layout)


def test_algorithm_1_as_a_mean_divides_by_the_weights_of_the_group():
    gradients = flat_models(0)
    share = tx.share_gradients(WEIGHTS, alpha=1.0, reduce="mean")
    tree = {name: stack(flat) for name, flat in gradients.items()}
    got, _ = share.update(tree, share.init(tree))
    assert_same(got, algorithm_2(gradients, WEIGHTS, 1.0), stack)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_algorithm_2_acts_on_the_parameters_after_the_update(layout):
    params, steps = flat_models(0), flat_models(1)
    synchronize = tx.synchronize_parameters(WEIGHTS, beta=0.1, every=2)
    as_tree = lambda models: {name: layout(flat) for name, flat in models.items()}  # noqa: E731
    state, tree = synchronize.init(as_tree(params)), as_tree(params)
    update = jax.jit(synchronize.update)
    for count in (1, 2, 3, 4):
        updates, state = update(as_tree(steps), state, tree)
        tree = optax.apply_updates(tree, updates)
        params = {m: {p: params[m][p] + steps[m][p] for p in params[m]} for m in params}
        if count % 2 == 0:
            params = algorithm_2(params, WEIGHTS, 0.1)
        assert_same(tree, params, layout)


@pytest.mark.parametrize("signed", [False, True])
def test_algorithm_3(signed):
    rng = np.random.default_rng(0)
    losses = {"a": rng.normal(size=30).cumsum(), "b": -np.arange(30.0), "c": np.arange(30.0)}
    scale = tx.scale_by_convergence(window=5, slope="signed" if signed else "absolute")
    ones = {name: jnp.ones(2) for name in losses}
    update, state = jax.jit(scale.update), scale.init(ones)
    rates = dict.fromkeys(losses, 1.0)
    for step in range(30):
        scaled, state = update(ones, state, value={name: losses[name][step] for name in losses})
        for name in losses:
            rates[name] = algorithm_3(rates[name], list(losses[name][: step + 1]), 5, signed=signed)
            np.testing.assert_allclose(scaled[name], np.clip(1 / rates[name], 0.5, 1.5), rtol=1e-12)
    assert float(scaled["b"][0]) > 1.4  # a loss that falls by one per update speeds a model up,
    assert (float(scaled["c"][0]) == 1.0) == signed  # and one that rises does so in the paper's form only


def test_a_loss_that_is_not_finite_is_never_recorded():
    scale = tx.scale_by_convergence(window=3)
    ones = {"a": jnp.ones(1)}
    with_gaps, without = scale.init(ones), scale.init(ones)
    for loss in (3.0, np.nan, 2.0, np.inf, 1.0, -np.inf, 0.0):
        _, with_gaps = scale.update(ones, with_gaps, value={"a": loss})
        if math.isfinite(loss):
            _, without = scale.update(ones, without, value={"a": loss})
    jax.tree.map(np.testing.assert_array_equal, with_gaps, without)
    assert int(without.models["a"].count) == 4


def gradients_at(models, step):
    """Gradients that depend on the parameters, so that every error propagates."""
    return {m: {p: np.sin(value + 0.1 * step) + 0.3 * value for p, value in flat.items()} for m, flat in models.items()}


def losses_at(models):
    return {m: sum(float(np.mean(v**2)) for v in flat.values()) for m, flat in models.items()}


def trajectory(optimizer, **extra):
    params = flat_models(0)
    tree = {name: stack(flat) for name, flat in params.items()}
    state = optimizer.init(tree)

    @jax.jit
    def step(tree, state, number):
        gradients = jax.tree.map(lambda p: jnp.sin(p + 0.1 * number) + 0.3 * p, tree)
        losses = {
            m: sum(sum(jnp.mean(layer**2) for layer in leaf) if path[0].key == "blocks" else jnp.mean(leaf**2)
                   for path, leaf in jax.tree_util.tree_leaves_with_path(model))
            for m, model in tree.items()
        }  # fmt: skip
        updates, state = optimizer.update(gradients, state, tree, value=losses, **extra)
        return optax.apply_updates(tree, updates), state

    for number in range(STEPS):
        tree, state = step(tree, state, number)
    return tree


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_papers_optimizer_step_by_step(amsgrad):
    warmup, decay = 3, 20
    optimizer = tx.multi_model_adamw(
        0.05, WEIGHTS, form="paper", warmup_steps=warmup, decay_steps=decay, sync_every=4, window=4, amsgrad=amsgrad
    )
    params = flat_models(0)
    first = {m: dict.fromkeys(params[m], 0.0) for m in params}
    second = {m: dict.fromkeys(params[m], 0.0) for m in params}
    largest = {m: dict.fromkeys(params[m], 0.0) for m in params}
    history, rates = {m: [] for m in params}, dict.fromkeys(params, 1.0)
    for step in range(STEPS):
        for m, loss in losses_at(params).items():
            history[m].append(loss)
            rates[m] = algorithm_3(rates[m], history[m], 4)
        gradients = algorithm_1(gradients_at(params, step), WEIGHTS, 0.2, skip_single=False)
        factor = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / decay))
        t = step + 1
        for m in params:
            rate = 0.05 * factor * min(max(1 / rates[m], 0.5), 1.5)
            for p, gradient in gradients[m].items():
                first[m][p] = 0.9 * first[m][p] + 0.1 * gradient
                second[m][p] = 0.999 * second[m][p] + 0.001 * gradient**2
                largest[m][p] = np.maximum(largest[m][p], second[m][p])
                v = (largest if amsgrad else second)[m][p]
                direction = first[m][p] / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                params[m][p] = params[m][p] - rate * (direction + 0.01 * params[m][p])
        if t % 4 == 0:
            params = algorithm_2(params, WEIGHTS, 0.1)
    assert_same(trajectory(optimizer), params, stack, tolerance=1e-11)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_published_code_step_by_step(amsgrad):
    warmup, decay = 3, 8
    optimizer = tx.multi_model_adamw(
        0.05, WEIGHTS, form="published", weight_decay=0.01, warmup_steps=warmup, decay_steps=decay, share_every=2,
        sync_every=5, amsgrad=amsgrad, max_norm=1.5, eps=1e-3,
    )  # fmt: skip
    weights = {m: w / sum(WEIGHTS.values()) for m, w in WEIGHTS.items()}
    params = flat_models(0)
    first = {m: dict.fromkeys(params[m], 0.0) for m in params}
    second = {m: dict.fromkeys(params[m], 0.0) for m in params}
    largest = {m: dict.fromkeys(params[m], 0.0) for m in params}
    for step in range(STEPS):
        t = step + 1
        gradients = gradients_at(params, step)
        for m in gradients:
            norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients[m].values()))
            gradients[m] = {p: g * min(1.0, 1.5 / (norm + 1e-6)) for p, g in gradients[m].items()}
        if t % 2 == 0:
            gradients = algorithm_1(gradients, weights, 0.2, skip_single=True)
        factor = t / warmup
        if t >= warmup:
            factor = max(0.1, 0.5 * (1 + math.cos(math.pi * max(1, t - warmup) / decay)))
        for m in params:
            rate = 0.05 * factor * (0.5 + 0.5 * weights[m])
            for p, gradient in gradients[m].items():
                first[m][p] = 0.9 * first[m][p] + 0.1 * gradient
                second[m][p] = 0.999 * second[m][p] + 0.001 * gradient**2
                largest[m][p] = np.maximum(largest[m][p], second[m][p])
                denominator = np.sqrt((largest if amsgrad else second)[m][p]) + 1e-3
                value = params[m][p] - 0.01 * rate * params[m][p]
                size = rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                params[m][p] = value - size * first[m][p] / denominator
        if t % 5 == 0:
            params = algorithm_2(params, weights, 0.1)
    assert_same(trajectory(optimizer), params, stack, tolerance=1e-11)
