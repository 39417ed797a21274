"""Likeness: linear CKA by its other definition, invariances, agreement as scikit-learn has it."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from arena_jax.config.errors import ArenaError
from arena_jax.training.similarity import agreement, linear_cka, relative_distance


def by_kernels(x, y):
    """HSIC of the two Gram matrices, each centered on both sides (Kornblith et al. 2019, equation 4)."""
    n = len(x)
    center = np.eye(n) - 1 / n

    def hsic(k, m):
        return np.trace(center @ k @ center @ m)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("seed", range(5))
def test_cka_is_that_of_the_centered_kernels(seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(30, 5)) + 3.0
    y = 0.3 * x @ draw.normal(size=(5, 7)) + draw.normal(size=(30, 7)) - 2.0
    np.testing.assert_allclose(linear_cka(x, y), by_kernels(x, y), rtol=1e-12)
    turn, _ = np.linalg.qr(draw.normal(size=(5, 5)))
    np.testing.assert_allclose(linear_cka(5 * x @ turn + 1, y), linear_cka(x, y), rtol=1e-12)
    assert 0 < linear_cka(x, y) < 0.99
    assert np.isnan(linear_cka(x, np.ones((30, 2))))


def test_cka_of_other_rows_is_refused():
    with pytest.raises(ArenaError, match="the same in both"):
        linear_cka(np.ones((3, 2)), np.ones((4, 2)))


def test_agreement_is_scikit_learns_kappa():
    draw = np.random.default_rng(0)
    answers = {name: draw.integers(0, 3, 40) for name in "abc"}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    alike, kappa = agreement(answers)
    np.testing.assert_allclose(kappa, np.mean([cohen_kappa_score(answers[a], answers[b]) for a, b in pairs]))
    np.testing.assert_allclose(alike, np.mean([np.mean(answers[a] == answers[b]) for a, b in pairs]))


def test_unrelated_matrices_are_root_two_apart():
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 20_000))
    assert relative_distance([one], [one]) == 0
    assert abs(relative_distance([one], [other]) - 2**0.5) < 0.02
