"""One arm beside another, seed by seed: differences of scores, ratios of what a target took, and Holm's correction.

The numbers are scipy's. What stands here is which of its tests is asked, and what is done where a run has no number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from arena_jax.compare.confidence import CONFIDENCE, confidence_interval

INTERVALS = ("t", "bootstrap")
RESAMPLES = 9_999
_DRAWS = 0  # seed of the bootstrap: the same records give the same interval


class Paired(NamedTuple):
    """What pairs of runs say.

    Attributes:
        estimate: mean difference, or median ratio; NaN where the pairs do not determine it.
        low: lower end of its 95 % interval; NaN where there is none.
        high: upper end; infinite where runs that never arrived leave it open.
        p: two-sided, of no difference (0) or of equal cost (1).
        pairs: how many.
    """

    estimate: float
    low: float
    high: float
    p: float
    pairs: int


def difference(arm: Sequence[float], baseline: Sequence[float], interval: str = "t") -> Paired:
    """Compare scores: the mean of arm − baseline over seeds.

    "t" gives Student's interval and the paired t-test; "bootstrap" the bias-corrected and accelerated interval, and the
    permutation test that swaps the two of a pair. Where all differences are alike neither has a spread to go by: the
    interval is the point, and p that of the sign test.

    Args:
        arm: a score per seed.
        baseline: those of the same seeds, in the same order.
        interval: "t" or "bootstrap".

    Returns:
        The difference; all NaN, with p = 1, where a score is not finite or there are fewer than two pairs.

    Example:
        >>> round(difference([0.9, 0.8, 0.9], [0.7, 0.7, 0.8]).p, 4)
        0.0572

    Source: scipy.stats.ttest_rel, scipy.stats.bootstrap, scipy.stats.permutation_test.
    """
    values = np.asarray(arm, np.float64) - np.asarray(baseline, np.float64)
    count = len(values)
    if count < 2 or not np.isfinite(values).all():
        return Paired(math.nan, math.nan, math.nan, 1.0, count)
    from scipy import stats

    mean, low, high, _ = confidence_interval(values.tolist())
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Paired(mean, low, high, 1.0 if mean == 0 else min(1.0, 2 * 0.5**count), count)
    if interval == "t":
        return Paired(mean, low, high, float(stats.ttest_1samp(values, 0.0).pvalue), count)
    ends = stats.bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=np.random.default_rng(_DRAWS)
    ).confidence_interval
    test = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(_DRAWS)
    )
    return Paired(mean, float(ends.low), float(ends.high), min(1.0, float(test.pvalue)), count)


def ratio(arm: Sequence[float], baseline: Sequence[float]) -> Paired:
    """Compare what a target took: the median of arm / baseline over seeds, and its rank-based interval.

    A run that never arrives took infinitely long: its ratio is infinite, or 0 where the baseline's never arrived. A
    pair in which neither arrives can have any ratio: it counts as 0 for the lower end and as infinite for the upper.

    Args:
        arm: steps or seconds per seed, above 0; infinite for a run that never arrived, NaN for one that is missing.
        baseline: those of the same seeds, in the same order.

    Returns:
        The ratio, its interval [x(k), x(n + 1 − k)] of order statistics, and p of the sign test. Fewer than six pairs
        have no such interval at 95 %.

    Example:
        >>> faster = ratio([5, 6, 7, 8, 9, 10], [10] * 6)
        >>> faster.estimate, faster.low, faster.high, faster.p
        (0.75, 0.5, 1.0, 0.21875)
        >>> ratio([5, 6, 7, 8, 9, float("inf")], [10] * 6).high
        inf

    Source: scipy.stats.quantile_test.
    """
    above, below = np.asarray(arm, np.float64), np.asarray(baseline, np.float64)
    count = len(above)
    if count == 0 or np.isnan(above).any() or np.isnan(below).any():
        return Paired(math.nan, math.nan, math.nan, 1.0, count)
    from scipy import stats

    neither = np.isinf(above) & np.isinf(below)
    ratios = np.where(neither, 1.0, above) / np.where(neither, 1.0, below)
    least, most = np.where(neither, 0.0, ratios), np.where(neither, math.inf, ratios)
    medians = {_median(least), _median(most)}
    ends = [stats.quantile_test(values, q=1.0, p=0.5).confidence_interval(CONFIDENCE) for values in (least, most)]
    return Paired(
        medians.pop() if len(medians) == 1 else math.nan,
        float(ends[0].low),
        float(ends[1].high),
        float(stats.quantile_test(ratios, q=1.0, p=0.5).pvalue),  # equal pairs count against either side
        count,
    )


def _median(values: np.ndarray) -> float:
    ordered, middle = np.sort(values), len(values) // 2
    if len(values) % 2:
        return float(ordered[middle])
    low, high = float(ordered[middle - 1]), float(ordered[middle])
    return low if low == high else (low + high) / 2  # ∞ − ∞ is not asked


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several comparisons by Holm's step-down method.

    p̃(i) = max over j ≤ i of min(1, (m − j + 1) · p(j)), for p(1) ≤ … ≤ p(m)

    Args:
        p_values: one per comparison.

    Returns:
        The corrected ones, in the same order: each may be held against 0.05 by itself.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = (len(p_values) - np.arange(len(p_values))) * np.asarray(p_values, np.float64)[order]
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected.tolist()


def fewest_pairs(comparisons: int) -> int:
    """The pairs below which the rank-based interval, or the sign test after Holm's correction, can show nothing.

    Example:
        >>> fewest_pairs(1), fewest_pairs(4)
        (6, 8)
    """
    pairs = 1
    while 2 * 0.5**pairs * comparisons >= 1 - CONFIDENCE:
        pairs += 1
    return pairs
