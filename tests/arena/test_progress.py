"""Equations 1 and 8 against loops written from the paper, and what they do with scores that are not numbers."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_jax.arena import efficiency_by_phase, learning_progress, resource_utilization_efficiency
from arena_jax.config.errors import ArenaError

ROWS, MODELS = 9, 3
any_floats = hnp.arrays(np.float64, (ROWS, MODELS), elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
progress_of = jax.jit(learning_progress, static_argnums=1)


def literal_progress(scores, window):
    """Equation 1 as printed, one model at a time; fewer scores than the window use what is there."""
    result = []
    for i in range(scores.shape[1]):
        t = scores.shape[0] - 1
        w = min(window, t)
        total = 0.0
        for j in range(1, w + 1):
            total += (scores[t - j + 1, i] - scores[t - j, i]) / (1 + abs(scores[t, i]))
        result.append(total / w if w else 0.0)
    return np.array(result)


@pytest.mark.parametrize("rows", [1, 2, 4, 6, 12])
@pytest.mark.parametrize("window", [1, 5])
def test_progress_is_equation_1(rows, window):
    scores = np.random.default_rng(rows).normal(-3, 2, (rows, 4))
    with jax.enable_x64(True):
        result = np.asarray(learning_progress(scores, window))
    np.testing.assert_allclose(result, literal_progress(scores, window), rtol=1e-12, atol=1e-15)


def test_a_known_value():
    """Worked by hand: (−1 − (−4)) / 2 improvements / (1 + 1)."""
    np.testing.assert_allclose(learning_progress([[-4.0], [-3.0], [-1.0]], window=2), [0.75])


def test_scores_that_are_not_finite_are_not_there():
    nan, inf = math.nan, math.inf
    clean = np.array([[-4.0, -4.0], [-3.0, -3.0], [-2.0, -2.0]])
    empty = np.full((4, 2), nan)
    np.testing.assert_array_equal(learning_progress(np.concatenate([empty, clean])), learning_progress(clean))
    assert learning_progress([[-4.0], [-3.0], [nan]])[0] == 0  # it diverged
    assert learning_progress([[-4.0], [-3.0], [-inf]])[0] == 0
    # The gap costs two differences; the third is the only one that counts: (−1 − (−2)) / (1 + 1).
    np.testing.assert_allclose(learning_progress([[-4.0], [nan], [-2.0], [-1.0]]), [0.5])


def test_one_score_is_no_progress_and_none_is_an_error():
    np.testing.assert_array_equal(learning_progress([[-4.0, 2.0]]), [0, 0])
    with pytest.raises(ArenaError, match="no scores"):
        learning_progress(np.zeros((0, 3)))
    with pytest.raises(ArenaError, match="window is 0"):
        learning_progress([[1.0]], window=0)


@settings(max_examples=150, deadline=None)
@given(any_floats, st.permutations(range(MODELS)))
def test_progress_is_finite_and_follows_its_model(scores, order):
    result = np.asarray(progress_of(scores, 5))
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(np.asarray(progress_of(scores[:, order], 5)), result[np.array(order)])


def test_progress_under_vmap_is_progress_of_each():
    scores = np.random.default_rng(0).normal(size=(5, ROWS, MODELS))
    together = jax.vmap(learning_progress)(scores)
    np.testing.assert_allclose(together, np.stack([learning_progress(s) for s in scores]), rtol=1e-6)


def test_efficiency_is_equation_8():
    gain, memory = np.array([0.3, -0.1, 0.0]), np.array([0.5, 0.25, 0.25])
    with jax.enable_x64(True):
        result = float(resource_utilization_efficiency(gain, memory))
        signed = float(resource_utilization_efficiency(gain, memory, signed=True))
    assert result == pytest.approx(sum(abs(g) / m for g, m in zip(gain, memory, strict=True)) / 3, rel=1e-12)
    assert signed == pytest.approx((0.6 - 0.4) / 3, rel=1e-12)


def test_efficiency_of_phases():
    scores = np.array([[0.0], [1.0], [3.0], [3.5], [4.0]])
    memory = np.array([[9.0], [0.5], [0.5], [1.0], [0.5]])
    np.testing.assert_allclose(efficiency_by_phase(scores, memory, (0, 0.5, 1)), [3 / 0.5, 1 / 0.75], rtol=1e-6)
    np.testing.assert_allclose(efficiency_by_phase(scores, memory, (0, 1)), [4 / 0.625], rtol=1e-6)
    with pytest.raises(ArenaError, match="holds no evaluation"):
        efficiency_by_phase(scores, memory, (0, 0.05, 1))
