"""Equations 2 to 6 against loops written from the paper and from the authors' program, and their invariants."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_jax.arena import accumulation_steps, allocate, steps_per_round
from arena_jax.config.errors import ArenaError

MODELS = 4
FLOOR = 0.05
any_floats = hnp.arrays(np.float64, MODELS, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
positive = hnp.arrays(np.float64, MODELS, elements=st.floats(0.01, 1))
allocation = jax.jit(allocate, static_argnames="variant")


def literal_paper(progress, shares, smoothing, floor, epsilon):
    raised = [max(p, epsilon) for p in progress]
    weights = [r / sum(raised) for r in raised]
    smooth = [smoothing * s + (1 - smoothing) * w for s, w in zip(shares, weights, strict=True)]
    floored = [floor if s < floor else s for s in smooth]
    return [f / sum(floored) for f in floored]


def literal_published_code(progress, shares, smoothing, floor):
    if all(p <= 0 for p in progress):
        return [1 / len(progress)] * len(progress)
    smallest = min(p for p in progress if p > 0)
    return literal_paper(progress, shares, smoothing, floor, epsilon=smallest * 0.1)


@pytest.mark.parametrize("seed", range(6))
def test_allocation_is_equations_2_to_6(seed):
    rng = np.random.default_rng(seed)
    progress, shares = rng.normal(0, 0.01, MODELS), rng.dirichlet(np.ones(MODELS))
    if seed == 5:
        progress = -np.abs(progress)
    smoothing, floor, epsilon = rng.uniform(0, 1), rng.uniform(0, 0.2), 1e-6
    with jax.enable_x64(True):
        paper = allocate(progress, shares, smoothing=smoothing, floor=floor, epsilon=epsilon)
        code = allocate(progress, shares, smoothing=smoothing, floor=floor, variant="published-code")
    np.testing.assert_allclose(paper, literal_paper(progress, shares, smoothing, floor, epsilon), rtol=1e-12)
    np.testing.assert_allclose(code, literal_published_code(progress, shares, smoothing, floor), rtol=1e-12)


@settings(max_examples=200, deadline=None)
@given(any_floats, positive, st.permutations(range(MODELS)), st.sampled_from(["paper", "published-code"]))
def test_invariants(progress, shares, order, variant):
    shares = shares / shares.sum()
    order = np.array(order)
    result = np.asarray(allocation(progress, shares, variant=variant))
    assert np.isfinite(result).all()
    assert result.sum() == pytest.approx(1, abs=1e-6)
    assert result.min() >= FLOOR / (1 + MODELS * FLOOR) - 1e-6
    permuted = np.asarray(allocation(progress[order], shares[order], variant=variant))
    np.testing.assert_allclose(permuted, result[order], atol=2e-6)


@pytest.mark.parametrize("variant", ["paper", "published-code"])
@pytest.mark.parametrize("progress", [0.02, 0.0, -0.3])
def test_equal_progress_is_a_fixed_point_and_attracts(progress, variant):
    equal = np.full(MODELS, 1 / MODELS)
    np.testing.assert_allclose(allocate(np.full(MODELS, progress), equal, variant=variant), equal, rtol=1e-6)
    shares = np.array([0.7, 0.1, 0.1, 0.1])
    for _ in range(60):
        shares = np.asarray(allocation(np.full(MODELS, progress), shares, variant=variant))
    np.testing.assert_allclose(shares, equal, rtol=1e-5)


def test_the_bound_is_reached():
    """One model takes everything, three sit on the floor: 0.05 / (0.05 · 3 + 1) is the least there is with α = 0."""
    result = np.asarray(allocate([1.0, 0, 0, 0], np.full(4, 0.25), smoothing=0.0, epsilon=1e-30))
    np.testing.assert_allclose(result[1:], FLOOR / (3 * FLOOR + 1), rtol=1e-6)


def test_parameters_outside_their_range_are_refused():
    for wrong in ({"smoothing": 1.5}, {"floor": 1.0}, {"epsilon": 0.0}):
        with pytest.raises(ArenaError, match=next(iter(wrong))):
            allocate([1.0], [1.0], **wrong)
    with pytest.raises(ArenaError, match="did you mean 'paper'"):
        allocate([1.0], [1.0], variant="papr")


@pytest.mark.parametrize(
    ("share", "scale", "steps"),
    [(0.3, 10, 3), (0.29, 100, 29), (0.31, 10, 3), (0.2999, 10, 2), (0.01, 10, 1), (1.0, 10, 10), (0.7, 10, 7)],
)
@pytest.mark.parametrize("x64", [False, True])
def test_steps_per_round(share, scale, steps, x64):
    with jax.enable_x64(x64):
        assert int(steps_per_round(share, scale)) == steps


def test_steps_of_every_hundredth_are_what_decimals_say():
    """The literal floor in float64 loses a step at 29, 57 and 58 hundredths."""
    hundredths = np.arange(1, 101)
    for x64 in (False, True):
        with jax.enable_x64(x64):
            np.testing.assert_array_equal(steps_per_round(hundredths / 100, 100), hundredths)


def test_accumulation_reaches_the_target():
    assert [accumulation_steps(b, 32) for b in (1, 12, 16, 32, 64)] == [32, 3, 2, 1, 1]
    with pytest.raises(ArenaError, match="batch is 0"):
        accumulation_steps(0, 4)


def test_what_is_no_share_is_refused():
    for progress, shares, options, message in (
        ([0.1, 0.2], [np.nan, 0.5], {}, "each must be finite and not below 0"),
        ([0.1, 0.2], [-0.5, 1.5], {}, "each must be finite and not below 0"),
        ([0.1, 0.2, 0.3], [0.5, 0.5], {}, r"shape \(3,\) and shares \(2,\)"),
        (0.1, 1.0, {}, "for the same models"),
        ([0.1, 0.2], [0.5, 0.5], {"floor": np.array(1.5)}, "floor is 1.5"),
        ([0.1, 0.2], [0.5, 0.5], {"floor": np.array([0.1, 0.2])}, "one number"),
        ([0.1, 0.2], [0.5, 0.5], {"smoothing": np.float32(-1)}, "smoothing is -1.0"),
    ):
        with pytest.raises(ArenaError, match=message):
            allocate(progress, shares, **options)
    assert np.isfinite(allocate([np.nan, 0.1], [0.5, 0.5])).all(), "progress that is no number is none"
