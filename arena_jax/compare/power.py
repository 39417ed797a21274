"""How many seeds a comparison needs: from the baseline's own spread, before any arm has run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from arena_jax.compare.confidence import CONFIDENCE

MOST = 10_000


def seeds_for_difference(baseline: Sequence[float], effect: float, *, power: float, comparisons: int = 1) -> int | None:
    """The pairs with which a paired t-test shows a difference of scores.

    Pairs are taken to have nothing in common but the test: the spread of their difference is √2 of the baseline's. Runs
    with one seed are more alike than that, as a rule, so this is rather too many than too few.

    Args:
        baseline: scores of the baseline, one per seed.
        effect: the difference to be shown.
        power: probability of showing it.
        comparisons: arms that are compared; each is held against 0.05 / comparisons, Holm's strictest.

    Returns:
        How many; None where it is more than 10,000, or the baseline has no spread to go by.

    Example:
        >>> seeds_for_difference([0.70, 0.74, 0.72, 0.76], 0.05, power=0.8)
        7

    Source: the noncentral t distribution, as in statsmodels' TTestPower.
    """
    deviation = math.sqrt(2) * float(np.std(np.asarray(baseline, np.float64), ddof=1))
    if not math.isfinite(deviation) or deviation == 0:
        return None
    from scipy import stats

    def reached(pairs: int) -> bool:
        critical = stats.t.ppf(1 - (1 - CONFIDENCE) / comparisons / 2, pairs - 1)
        shift = abs(effect) / deviation * math.sqrt(pairs)
        return bool(stats.nct.sf(critical, pairs - 1, shift) + stats.nct.cdf(-critical, pairs - 1, shift) >= power)

    return _least(reached)


def seeds_for_ratio(baseline: Sequence[float], effect: float, *, power: float, comparisons: int = 1) -> int | None:
    """The pairs with which the sign test shows a ratio of steps or seconds.

    The arm is taken to need ``effect`` times what the baseline needs with another seed: how often that is less is
    counted over all pairs of the baseline's runs.

    Args:
        baseline: steps or seconds of the baseline, one per seed; infinite where the target was not reached.
        effect: the ratio to be shown, below 1.
        power: probability of showing it.
        comparisons: arms that are compared; each is held against 0.05 / comparisons, Holm's strictest.

    Returns:
        How many; None where it is more than 10,000: the arm wins half of the pairs or less.

    Example:
        >>> seeds_for_ratio([40, 45, 50, 55], 0.5, power=0.8)
        6

    Source: the binomial distribution of the sign test.
    """
    values = np.asarray(baseline, np.float64)
    first, second = (values[index] for index in np.nonzero(~np.eye(len(values), dtype=bool)))
    wins = (effect * first < second) + 0.5 * (effect * first == second)  # ∞ against ∞ is a coin
    chance = float(np.mean(wins)) if len(wins) else 0.5
    if chance <= 0.5:
        return None
    from scipy import stats

    def reached(pairs: int) -> bool:
        # The most losses with which the two-sided test is below its level.
        losses = int(stats.binom.ppf((1 - CONFIDENCE) / comparisons / 2, pairs, 0.5))
        while losses >= 0 and 2 * stats.binom.cdf(losses, pairs, 0.5) >= (1 - CONFIDENCE) / comparisons:
            losses -= 1
        return losses >= 0 and bool(stats.binom.cdf(losses, pairs, 1 - chance) >= power)

    return _least(reached)


def _least(reached: Callable[[int], bool]) -> int | None:
    return next((pairs for pairs in range(2, MOST + 1) if reached(pairs)), None)
