"""The closed form of the shares' limit, against the rule applied again and again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.arena import allocate, limit_of_shares
from arena_jax.config.errors import ArenaError

rates = st.lists(st.floats(-1, 1) | st.sampled_from([0.0, 0.5, np.nan, np.inf]), min_size=1, max_size=6)


def apply(progress, shares, count, **parameters):
    with jax.enable_x64(True):
        rule = jax.jit(lambda s: allocate(jnp.asarray(progress, jnp.float64), s, **parameters))
        shares = jnp.asarray(shares, jnp.float64)
        for _ in range(count):
            shares = rule(shares)
        return np.asarray(shares)


@settings(max_examples=60, deadline=None)
@given(progress=rates, smoothing=st.floats(0, 0.9), floor=st.floats(0, 0.4), seed=st.integers(0, 99))
def test_it_is_where_the_rule_ends_from_anywhere(progress, smoothing, floor, seed):
    parameters = {"smoothing": smoothing, "floor": floor, "epsilon": 1e-3}
    limit = limit_of_shares(progress, **parameters)
    assert limit.total >= 1 - 1e-15
    assert limit.shares.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(apply(progress, limit.shares, 1, **parameters), limit.shares, atol=1e-14)
    start = np.random.default_rng(seed).dirichlet(np.ones(len(progress)))
    np.testing.assert_allclose(apply(progress, start, 400, **parameters), limit.shares, atol=1e-12)


@pytest.mark.parametrize("progress", [[0.3, 0.2, 0.1], [1.0, 1.0, 1e-9, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0]])
def test_it_is_reached_at_the_rate_that_the_jacobian_says(progress):
    limit = limit_of_shares(progress)
    with jax.enable_x64(True):
        jacobian = np.asarray(jax.jacobian(lambda s: allocate(jnp.asarray(progress, jnp.float64), s))(limit.shares))
    assert np.abs(np.linalg.eigvals(jacobian)).max() == pytest.approx(limit.contraction, abs=1e-12)


def test_equal_no_and_negative_progress_end_in_equal_shares():
    for progress in ([0.2] * 4, [0.0] * 4, [-1.0, -0.5, 0.0, -3.0], [np.nan] * 4):
        np.testing.assert_allclose(limit_of_shares(progress).shares, 0.25, atol=1e-15)


@pytest.mark.parametrize(
    ("progress", "parameters", "message"),
    [
        ([1.0], {"smoothing": 1.0}, "never move"),
        ([1.0], {"floor": 1.0}, "limit_of_shares: floor is 1.0"),
        ([], {}, "one number a model"),
        ([[1.0]], {}, "one number a model"),
    ],
)
def test_what_has_no_limit_is_refused(progress, parameters, message):
    with pytest.raises(ArenaError, match=message):
        limit_of_shares(progress, **parameters)
