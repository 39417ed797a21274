"""Equation 9 with weights that change: against loops in NumPy, the regret bound, and the simulator."""

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_jax.arena import History, decide, learning_progress, planted, policy
from arena_jax.arena.policies.multi_objective import OBJECTIVES, level, objectives, stability
from arena_jax.arena.policies.objective_weights import exponentiated_gradient
from arena_jax.arena.simulate import simulate

ROWS, MODELS = 6, 3


def record(seed, fraction=0.5):
    rng = np.random.default_rng(seed)
    scores = -4 + rng.normal(0.2, 0.3, (ROWS, MODELS)).cumsum(0)
    seconds = np.concatenate([np.zeros((1, MODELS)), rng.uniform(0.5, 2, (ROWS - 1, MODELS))]).cumsum(0)
    steps = np.floor(seconds * rng.uniform(2, 9, MODELS))
    shares = np.full((ROWS, MODELS), 1 / MODELS)
    return History(scores, shares, seconds, steps, np.linspace(0, fraction, ROWS))


def test_stability_is_the_spread_of_the_improvements():
    scores = np.random.default_rng(0).normal(size=(9, 4)).cumsum(0)
    deviation = np.diff(scores[-6:], axis=0).std(0)
    np.testing.assert_allclose(stability(scores), np.exp(-deviation / deviation.mean()), rtol=1e-5)
    np.testing.assert_allclose(stability(3 + 1e3 * scores), stability(scores), rtol=1e-4)
    scores[-1, 1] = np.nan
    assert stability(scores)[1] == 0
    np.testing.assert_array_equal(stability(np.full((3, 2), np.nan)), 1)
    even = np.arange(6.0)[:, None] * np.array([1.0, 1.0])
    even[3, 1] += 0.4
    only = policy("multi-objective", progress=0.0, level=0.0, stability=1.0, cost=0.0, smoothing=0.0)
    ones = np.ones_like(even)
    assert np.argmax(decide(only, History(even, ones / 2, ones, ones, np.zeros(6)))) == 0


def test_stages_are_the_fixed_weights_at_both_ends():
    first, last = (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1)
    staged = policy("multi-objective-staged", first=first, last=last)
    for fraction, betas in ((0.0, first), (1.0, last), (0.5, (0.25,) * 4)):
        fixed = policy("multi-objective", **dict(zip(OBJECTIVES, betas, strict=True)))
        np.testing.assert_allclose(decide(staged, record(1, fraction)), decide(fixed, record(1, fraction)), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_learned_weights_are_those_of_a_loop(seed):
    history, rate = record(seed), 0.7
    total = np.zeros(len(OBJECTIVES))
    for now in range(ROWS - 1):
        prefix = History(*(x[: now + 1] for x in history[:5]))
        parts = [
            np.maximum(learning_progress(prefix.scores, 5), 1e-6),
            np.asarray(level(prefix.scores[-1])),
            np.asarray(stability(prefix.scores, 5)),
            1 / np.asarray(_seconds_per_step(prefix)),
        ]
        gain = (history.scores[now + 1] - history.scores[now]) / (1 + np.abs(history.scores[now + 1]))
        gain = gain / (history.seconds[now + 1] - history.seconds[now])
        gain = gain / np.abs(gain).max()
        total += [float(part / part.sum() @ gain) for part in parts]
    betas = np.exp(rate * total) / np.exp(rate * total).sum()
    expected = betas @ np.asarray(objectives(history, 5, 1e-6))
    shares = decide(policy("multi-objective-learned", rate=rate, smoothing=0.0, floor=0.0), history)
    np.testing.assert_allclose(shares, expected, atol=1e-5)


def _seconds_per_step(prefix):
    seconds, steps = prefix.seconds[-1], prefix.steps[-1]
    return np.where(steps > 0, seconds / np.where(steps > 0, steps, 1), 1.0)


@settings(max_examples=25)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=st.floats(-1, 1)),
    st.floats(0.05, 2),
)
@example(np.tile([1.0, -1.0], (12, 1)), 1.0)  # random gains are rarely one-sided enough to tell weights that fall
def test_the_regret_keeps_its_bound(gains, rate):
    """Freund and Schapire 1997, for gains in [−1, 1]: at most ln K / η + η·T / 2."""
    moments, experts = gains.shape
    earned = sum(float(np.asarray(exponentiated_gradient(gains[:t], rate)) @ gains[t]) for t in range(moments))
    assert gains.sum(0).max() - earned <= np.log(experts) / rate + rate * moments / 2 + 1e-4


@pytest.mark.slow
def test_in_the_simulator_the_learned_weights_are_near_the_best_objective_alone():
    """Mean loss over 32 random runs, beside each objective alone; no further from the best than the worst is."""
    curves, noise = planted.curves("speeds", jax.random.key(0), 32)

    def loss(chosen):
        outcome = simulate(chosen, curves, jax.random.key(1), budget=planted.BUDGET, noise=noise)
        return -float(outcome.final.mean())

    alone = [loss(policy("multi-objective", **{**dict.fromkeys(OBJECTIVES, 0.0), name: 1.0})) for name in OBJECTIVES]
    learned = loss(policy("multi-objective-learned"))
    assert min(alone) - 0.01 <= learned <= np.mean(alone)
