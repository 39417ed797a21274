"""Faults in sharing, synchronisation, convergence scaling and Adam."""

from __future__ import annotations

from parity.mutants.fault import Mutant, fault

SHARE, SYNC = "transforms.share_gradients:share_gradients", "transforms.synchronize_parameters:synchronize_parameters"
POOLS, KINDS = "transforms.pools", "transforms.correspondence"
CONVERGENCE = "transforms.scale_by_convergence:scale_by_convergence"
ADAM, WHOLE = "transforms.scale_by_adam:scale_by_adam", "transforms.multi_model_adamw"
SCHEDULE = "transforms.warmup_and_decay:warmup_and_decay"
FORM = "transforms.form_schedule:form_schedule"
SHARING, PUBLISHED_SHARING = "gradient sharing/all/paper/float64", "gradient sharing/all/published-code/float64"
SYNCHRONISATION, RATE = "synchronisation/all/paper/float64", "convergence rate/all/paper/float64"
PAPER, PUBLISHED = "optimizer steps/all/paper/float64", "optimizer steps/all/published-code/float64"
PLAIN, CLIPPED = (f"optimizer steps/all/{v}/float64" for v in ("paper, nothing shared", "published-code, clipped"))
AMSGRAD = "optimizer steps/all/paper, AMSGrad/float64"
MIX, DRAW = "(1 - alpha) * gradient + alpha * pool.value", "step + beta * (pool.value - (old + step))"

MUTANTS = (
    fault("α and 1 − α exchanged", SHARE, MIX, "alpha * gradient + (1 - alpha) * pool.value", SHARING),
    fault("shared gradient added, not mixed", SHARE, MIX, "gradient + alpha * pool.value", SHARING),
    fault("weights left out of the pool", f"{POOLS}:pooled", "jnp.asarray(weights[part.model], dtype)", "1.0", SHARING),
    fault("weights normalised in the paper's form", SHARE, "normalize=normalize", "normalize=True", SHARING),
    fault(
        "weights not normalised in the published form",
        SHARE,
        "normalize=normalize",
        "normalize=False",
        PUBLISHED_SHARING,
    ),
    fault("pool averaged, not summed", SHARE, 'mean=reduce == "mean"', "mean=True", SHARING),
    fault("a group of one left alone in the paper's form", SHARE, "same, alone)", "same)", SHARING),
    fault(
        "a group of one shares in the published form",
        SHARE,
        "same, alone)",
        "same, True)",
        PUBLISHED_SHARING,
    ),
    fault(
        "roles kept apart",
        f"{KINDS}:by_kind",
        "return kind_of(path), size",
        "return by_role(path, shape)",
        SHARING,
    ),
    fault(
        "layers kept apart",
        f"{KINDS}:by_kind",
        "return kind_of(path), size",
        "return kind_of(path), path[1:2]",
        SHARING,
    ),
    fault(
        "biases of norms pooled with biases",
        f"{KINDS}:kind_of",
        'word.endswith("norm") or',
        'leaf == "scale" and word.endswith("norm") or',
        SHARING,
    ),
    fault("head pooled with attention", f"{KINDS}:kind_of", 'return "head"', 'return "attention"', SHARING),
    Mutant(
        "synchronised before the update",
        SYNC,
        (
            ("list(zip(jax.tree.leaves(params), steps, strict=True))", "[(p,) for p in jax.tree.leaves(params)]"),
            ("old, step = (part.astype(pool.value.dtype) for part in moved[index])", "(old,) = moved[index]"),
            (DRAW, "steps[index] + beta * (pool.value - old)"),
        ),
        (SYNCHRONISATION,),
    ),
    fault("β and 1 − β exchanged", SYNC, DRAW, "step + (1 - beta) * (pool.value - (old + step))", SYNCHRONISATION),
    fault(
        "synchronised one update early",
        SYNC,
        "count % every == 0, draw",
        "(count + 1) % every == 0, draw",
        SYNCHRONISATION,
    ),
    fault(
        "weights left out of the average",
        SYNC,
        "groups, current, mask",
        "groups, dict.fromkeys(current, 1.0), mask",
        SYNCHRONISATION,
    ),
    fault(
        "average divided by a count",
        f"{POOLS}:_total_weight",
        "range(pool.size)]) * weight",
        "range(pool.size)]) * 1.0",
        SYNCHRONISATION,
    ),
    fault(
        "slope signed",
        CONVERGENCE,
        'jnp.abs(s) if slope == "absolute" else jnp.maximum(-s, 0)',
        "jnp.maximum(-s, 0)",
        RATE,
    ),
    fault(
        "slope's sign turned round",
        CONVERGENCE,
        'jnp.abs(s) if slope == "absolute" else jnp.maximum(-s, 0)',
        "jnp.maximum(s, 0)",
        RATE,
    ),
    fault("window off by one", CONVERGENCE, "count >= window", "count > window", RATE),
    fault("rate moves before the window is full", CONVERGENCE, "count >= window", "count >= 1", RATE),
    fault(
        "averaging turned round",
        CONVERGENCE,
        "decay * old.rate + (1 - decay) / (1 + progress)",
        "(1 - decay) * old.rate + decay / (1 + progress)",
        RATE,
    ),
    fault("rate not inverted", CONVERGENCE, "jnp.clip(1 / rate, low, high)", "jnp.clip(rate, low, high)", RATE),
    fault("slope taken per two updates", CONVERGENCE, "regression = steps", "regression = 0.5 * steps", RATE),
    fault("first moment not corrected", ADAM, "optax.tree.bias_correction(first, b1, count)", "first", PLAIN),
    fault("second moment not corrected", ADAM, "optax.tree.bias_correction(under, b2, count)", "under", PLAIN),
    fault(
        "correction one update ahead",
        ADAM,
        "count = optax.safe_increment(state.count)",
        "count = optax.safe_increment(state.count) + 1",
        PLAIN,
    ),
    fault("ε before the correction in the paper's form", ADAM, "if eps_before_correction:", "if True:", PLAIN),
    fault("ε after the correction in the published form", ADAM, "if eps_before_correction:", "if False:", PUBLISHED),
    fault(
        "β₁ and β₂ exchanged",
        ADAM,
        "update_moment(updates, state.first, b1, 1)",
        "update_moment(updates, state.first, b2, 1)",
        PLAIN,
    ),
    fault("AMSGrad forgets", ADAM, "jax.tree.map(jnp.maximum, state.largest, second)", "second", AMSGRAD),
    Mutant(
        "decay coupled",
        f"{WHOLE}:_directions",
        (
            ("optax.chain(direction, optax.add_decayed", "optax.chain(optax.add_decayed"),
            ("(weight_decay, mask))", "(weight_decay, mask), direction)"),
        ),
        (PLAIN,),
    ),
    fault(
        "decay left out",
        f"{WHOLE}:_directions",
        "optax.add_decayed_weights(weight_decay",
        "optax.add_decayed_weights(0.0",
        PLAIN,
    ),
    fault(
        "warm-up one late",
        SCHEDULE,
        "jnp.asarray(count + first, float)",
        "jnp.asarray(count + first - 1, float)",
        PLAIN,
    ),
    fault(
        "cosine from the first step", SCHEDULE, "jnp.maximum(first, t - warmup_steps)", "jnp.maximum(first, t)", PLAIN
    ),
    fault("published warm-up from 0", FORM, '"first": 1', '"first": 0', PUBLISHED),
    fault(
        "published cosine without its floor",
        SCHEDULE,
        "jnp.maximum(floor, decay_factor(fraction, decay))",
        "decay_factor(fraction, decay)",
        PUBLISHED,
    ),
    fault("published cosine ends", FORM, '"periodic": True', '"periodic": False', PUBLISHED),
    fault("weight left out of the published rate", f"{WHOLE}:multi_model_adamw", "base=0.5", "base=1.0", PUBLISHED),
    fault(
        "one norm over all models",
        f"{WHOLE}:multi_model_adamw",
        "clip_by_model_norm(bound, epsilon=1e-6 if published else 0.0)",
        "optax.clip_by_global_norm(bound)",
        CLIPPED,
    ),
    fault(
        "clipped after sharing",
        f"{WHOLE}:multi_model_adamw",
        "return optax.chain(*links)",
        "return optax.chain(links[1], links[0], *links[2:])",
        CLIPPED,
    ),
    fault(
        "the kinds that keep their gradients are the only ones shared",
        f"{KINDS}:without_kinds",
        "kind_of(path) in kinds else",
        "kind_of(path) not in kinds else",
        "tests/transforms/test_correspondence.py::"
        "test_a_kind_that_is_not_shared_keeps_its_gradient_and_the_others_are_shared_as_before",
    ),
)
