"""Statistics beside scipy's own tests, closed testing, and what follows from the binomial by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from arena_jax.compare.paired import difference, fewest_pairs, holm, ratio
from arena_jax.compare.power import seeds_for_difference, seeds_for_ratio


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_differences_are_the_paired_t_test(random):
    a, b = random.normal(size=(2, 9))
    result, reference = difference(a, b), stats.ttest_rel(a, b)
    ends = reference.confidence_interval(0.95)
    assert result.p == pytest.approx(reference.pvalue, rel=1e-12)
    assert (result.low, result.high) == pytest.approx((ends.low, ends.high), rel=1e-12)
    assert result.estimate == pytest.approx(np.mean(a - b), rel=1e-12)


def test_differences_by_bootstrap_are_exact_permutations(random):
    a = random.normal(size=8) + 0.7
    result = difference(a, np.zeros(8), "bootstrap")
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    means = (signs * a).mean(axis=1)
    share = np.mean(means >= a.mean() - 1e-12)
    assert result.p == pytest.approx(min(1.0, 2 * share), rel=1e-12)
    assert result.low < result.estimate < result.high
    assert result == difference(a, np.zeros(8), "bootstrap")  # drawn from a seed


def test_differences_that_are_all_alike_have_the_sign_tests_p():
    same = difference([0.5, 0.6, 0.7], [0.25, 0.35, 0.45])
    assert same.p == pytest.approx(2 * 0.5**3)
    assert difference([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert difference([1.0, math.nan], [1.0, 1.0]).p == 1.0
    assert math.isnan(difference([1.0, math.inf], [1.0, 1.0]).low)


def test_ratios_have_the_order_statistics_of_the_binomial(random):
    for count in (6, 9, 12, 17):
        values = np.sort(random.lognormal(size=count))
        # The largest k whose interval of order statistics [x(k), x(n + 1 − k)] still covers the median with 95 %.
        k = max(k for k in range(1, count // 2 + 1) if 1 - 2 * stats.binom.cdf(k - 1, count, 0.5) >= 0.95)
        result = ratio(values, np.ones(count))
        assert (result.low, result.high) == (values[k - 1], values[count - k])
        below = int((values < 1).sum())
        assert result.p == pytest.approx(stats.binomtest(below, count).pvalue, rel=1e-12)
        assert result.estimate == pytest.approx(np.median(values))


def test_runs_that_never_arrive_leave_the_interval_open():
    inf = math.inf
    result = ratio([5, 6, 7, inf, inf, inf, inf], [10] * 7)
    assert (result.low, result.high, result.estimate) == (0.5, inf, inf)
    assert ratio([5] * 7, [inf] * 7)[:3] == (0.0, 0.0, 0.0)
    neither = ratio([inf] * 7, [inf] * 7)
    assert math.isnan(neither.estimate)
    assert (neither.low, neither.high, neither.p) == (0.0, inf, 1.0)
    once = ratio([5, 5, 5, 5, 5, 5, inf], [10, 10, 10, 10, 10, 10, inf])
    assert (once.estimate, once.low, once.high, once.p) == (0.5, 0.0, inf, 0.125)
    assert math.isnan(ratio([5, math.nan], [10, 10]).estimate)


def test_too_few_pairs_have_no_interval():
    five = ratio([5, 6, 7, 8, 9], [10] * 5)
    assert math.isnan(five.low)
    assert fewest_pairs(1) == 6
    assert stats.quantile_test(np.full(fewest_pairs(3), 0.5), q=1, p=0.5).pvalue * 3 < 0.05
    assert stats.quantile_test(np.full(fewest_pairs(3) - 1, 0.5), q=1, p=0.5).pvalue * 3 >= 0.05


def test_holm_is_the_closed_test_of_bonferroni(random):
    for _ in range(20):
        p = random.uniform(size=4) ** 3
        closed = [
            max(
                min(1.0, len(others) * min(p[list(others)]))
                for size in range(1, 5)
                for others in itertools.combinations(range(4), size)
                if i in others
            )
            for i in range(4)
        ]
        assert holm(p) == pytest.approx(closed, rel=1e-12)


def test_power_is_the_textbooks():
    # d = 0.5 at power 0.8 and 0.05, two-sided: 34 pairs (Cohen 1988, and G*Power).
    baseline = [0.0, 2.0, 0.0, 2.0]
    deviation = math.sqrt(2) * np.std(baseline, ddof=1)
    assert seeds_for_difference(baseline, 0.5 * deviation, power=0.8) == 34
    assert seeds_for_difference(baseline, 0.5 * deviation, power=0.8, comparisons=3) > 34
    assert seeds_for_difference([1.0, 1.0], 0.1, power=0.8) is None


def test_power_of_ratios_is_that_of_the_sign_test(random):
    baseline = random.lognormal(sigma=0.3, size=12)
    count = seeds_for_ratio(baseline, 0.7, power=0.8)
    first, second = np.meshgrid(baseline, baseline, indexing="ij")
    off = ~np.eye(12, dtype=bool)
    wins = np.mean(0.7 * first[off] < second[off])
    draws = np.random.default_rng(0).uniform(size=(4000, count)) < wins
    shown = [stats.binomtest(int(row.sum()), count).pvalue < 0.05 for row in draws]
    assert np.mean(shown) >= 0.78  # 0.8, and what 4,000 draws leave open
    fewer = np.random.default_rng(1).uniform(size=(4000, count - 1)) < wins
    assert np.mean([stats.binomtest(int(row.sum()), count - 1).pvalue < 0.05 for row in fewer]) < 0.82
    assert seeds_for_ratio([math.inf] * 4, 0.5, power=0.8) is None
