"""The simulator against competitions worked out by hand, and the default policy's promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.arena import DEFAULT_POLICY, planted, policy
from arena_jax.arena.simulate import Curves, best_fixed, bootstrap, simulate
from arena_jax.config.errors import ArenaError

SECONDS = jnp.linspace(0, 100, 401)
STRAIGHT = Curves(SECONDS, jnp.stack([0.01 * SECONDS, 0.03 * SECONDS])[None] - 5)


def literal_modelarena(rates, evaluations, every, window=5, smoothing=0.7, floor=0.05, budget=100.0):
    """Algorithm 1 on straight curves, as loops, with device-seconds by the shares."""
    shares, seconds = [1 / len(rates)] * len(rates), [0.0] * len(rates)
    scores = [[-5.0] for _ in rates]
    for t in range(1, evaluations + 1):
        for i, rate in enumerate(rates):
            seconds[i] += budget / evaluations * shares[i]
            scores[i].append(-5 + rate * seconds[i])
        if t % every == 0:
            progress = []
            for s in scores:
                w = min(window, len(s) - 1)
                progress.append(max((s[-1] - s[-1 - w]) / w / (1 + abs(s[-1])), 1e-6))
            mixed = [smoothing * m + (1 - smoothing) * p / sum(progress) for m, p in zip(shares, progress, strict=True)]
            raised = [max(m, floor) for m in mixed]
            shares = [r / sum(raised) for r in raised]
    return [s[-1] for s in scores], seconds


def test_the_simulator_is_algorithm_1_on_straight_curves():
    final, seconds = literal_modelarena([0.01, 0.03], evaluations=8, every=2)
    outcome = simulate(
        policy("modelarena"), STRAIGHT, jax.random.key(0), budget=100.0, evaluations=8, reallocate_every=2
    )
    np.testing.assert_allclose(outcome.seconds[0], seconds, rtol=1e-4)
    np.testing.assert_allclose(outcome.final[0], final, rtol=1e-4)
    assert outcome.picked[0] == outcome.final[0].max()


@pytest.mark.parametrize("spending", ["seconds", "rounds"])
def test_every_policy_spends_the_same(spending):
    curves, noise = planted.curves("diverges", jax.random.key(1), runs=3)
    for name in ("modelarena", "successive-halving"):
        outcome = simulate(policy(name), curves, jax.random.key(0), budget=100.0, noise=noise, spending=spending)
        np.testing.assert_allclose(outcome.seconds.sum(1), 100, rtol=1e-5)
        assert np.isfinite(outcome.final).all()


def test_rounds_go_with_steps_times_batch():
    class Fixed:
        def __call__(self, history):
            return jnp.array([0.35, 0.65])

    outcome = simulate(
        Fixed(), STRAIGHT, jax.random.key(0), budget=100.0, evaluations=2, reallocate_every=1, spending="rounds"
    )
    second = 50 * np.array([3 * 0.35, 6 * 0.65]) / (3 * 0.35 + 6 * 0.65)
    np.testing.assert_allclose(outcome.seconds[0], 25 + second, rtol=1e-5)


def test_best_fixed_choice_of_straight_curves_is_everything_on_the_steepest():
    mean, best = best_fixed(STRAIGHT, budget=100.0)
    np.testing.assert_allclose(mean, [(-5 - 5 + 3) / 2], rtol=1e-5)
    np.testing.assert_allclose(best, [-2], rtol=1e-5)


@pytest.mark.slow
def test_the_default_is_never_much_worse_than_static():
    """The full table is benchmarks/policies.py; here the cases that broke every other policy."""
    for case in ("late bloomer", "plateau", "overfits"):
        curves, noise = planted.curves(case, jax.random.key(5), runs=24)
        final = {
            name: simulate(policy(name), curves, jax.random.key(6), budget=planted.BUDGET, noise=noise)
            for name in ("static", DEFAULT_POLICY)
        }
        ratio = final[DEFAULT_POLICY].final.mean() / final["static"].final.mean()
        assert ratio < 1.05, case
        assert final[DEFAULT_POLICY].picked.mean() / final["static"].picked.mean() < 1.05, case


def test_planted_cases_are_reproducible_and_named():
    first, _ = planted.curves("anything", jax.random.key(3), runs=2)
    again, _ = planted.curves("anything", jax.random.key(3), runs=2)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.scores.shape == (2, 4, 401)
    with pytest.raises(ArenaError, match="did you mean 'plateau'"):
        planted.curves("plato", jax.random.key(0))
    with pytest.raises(ArenaError, match="runs, models, points"):
        simulate(policy("static"), Curves(SECONDS, STRAIGHT.scores[0]), jax.random.key(0), budget=1.0)


def test_bootstrap_interval_of_known_data():
    """The interval of a mean of 400 standard normals is ±1.96/20."""
    mean, low, high = bootstrap(np.random.default_rng(0).normal(size=400))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert low < mean < high


def test_a_policy_that_returns_another_shape_is_refused():
    """A single number would otherwise be spread over all models."""

    def single(history):
        return jnp.ones(1)

    with pytest.raises(ArenaError, match=r"policy single: returned an array of shape \(1,\); it must return 2 shares"):
        simulate(single, STRAIGHT, jax.random.key(0), budget=100.0)
