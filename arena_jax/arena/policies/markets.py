"""Markets for memory: models bid with what they expect to learn from it, in two auctions and an exchange of turns."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from arena_jax.arena.allocation import blend
from arena_jax.arena.forecast import fit, gain
from arena_jax.arena.history import History
from arena_jax.arena.policies.predictive import equal_part_of_the_rest
from arena_jax.equilibria.arguments import as_floats
from arena_jax.equilibria.markets import fisher_market, proportional_share, second_price
from arena_jax.transforms.learning_progress import learning_progress


@dataclass(frozen=True)
class ProportionalShareAuction:
    """Every model bids, and gets its part of all bids.

    A share x is worth λ·log x to a model with progress λ: doubling it is worth the same wherever it stands. The shares
    are the auction's Nash equilibrium (`equilibria.proportional_share`). Models that know that their bid moves the
    price bid less than the memory is worth to them, the fastest most: it gets less than under `ModelArena`. The purse
    bounds the bids, so that one model cannot buy everything however fast it learns. Then smoothing and floor as in
    equations 4 and 5.

    Attributes:
        purse: the most that a model may bid, in units of the mean progress; infinite: whatever it likes.
        window: improvements averaged in the progress, equation 1.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the progress of a model that makes none.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> record = History(np.array([[-4.0, -2.0], [-2.0, -1.0]]), ones / 2, ones, ones, np.array([0, 0.1]))
        >>> ProportionalShareAuction(smoothing=0)(record)
        Array([0.53..., 0.46...], dtype=float32)

    Source: ModelArena, section 6.2.1.
    """

    purse: float = float("inf")
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        values, shares = _values(history, self.window, self.epsilon), as_floats(history.shares[-1])
        if values.shape[-1] == 1:
            return shares
        outcome = proportional_share(values, jnp.full_like(values, self.purse))
        return blend(outcome.shares, shares, smoothing=self.smoothing, floor=self.floor)


@dataclass(frozen=True)
class SecondPriceAuction:
    """Memory is cut into lots, and each goes to the model that values it most.

    A model's j-th lot is worth λ/j to it, as in `ProportionalShareAuction`. Nobody gains by bidding anything but that
    (`equilibria.second_price`, which also says what each would pay). Then smoothing and floor as in equations 4 and 5.

    Attributes:
        lots: per model.
        window: improvements averaged in the progress, equation 1.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the progress of a model that makes none.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena.history import History
        >>> ones = np.ones((2, 2))
        >>> record = History(np.array([[-4.0, -2.0], [-2.0, -1.0]]), ones / 2, ones, ones, np.array([0, 0.1]))
        >>> SecondPriceAuction(smoothing=0)(record)  # 9 of 16 lots
        Array([0.5625, 0.4375], dtype=float32)

    Source: ModelArena, section 6.2.1.
    """

    lots: int = 8
    window: int = 5
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-6

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        values, shares = _values(history, self.window, self.epsilon), as_floats(history.shares[-1])
        units = self.lots * values.shape[-1]
        outcome = second_price(values[:, None] / jnp.arange(1, units + 1, dtype=values.dtype)[None], units)
        return blend(outcome.units, shares, smoothing=self.smoothing, floor=self.floor)


@dataclass(frozen=True)
class FisherMarket:
    """Models with equal budgets buy the memory of the periods that are left, each when it learns most from it.

    What is left of the run is cut into periods; a model expects of each the gain that its forecast curve (equation 10)
    promises there. The shares are those of the first period in the competitive equilibrium of
    `equilibria.fisher_market`: a model that learns now buys now, one whose curve is long buys later, and by these
    forecasts nobody expects less than from equal shares. Then smoothing and floor as in equations 4 and 5.

    Attributes:
        periods: that the rest of the run is cut into.
        half_life: evaluations after which an observation weighs half in the forecast.
        smoothing: α, the part kept of the current share.
        floor: δ, the smallest share before normalisation.
        epsilon: ε, the least gain of a period, relative to a model's largest.

    Example:
        >>> import numpy as np
        >>> from arena_jax.arena import History, decide
        >>> x = np.arange(8.0)[:, None] * np.ones(2)
        >>> scores = -np.exp(-x / np.array([3.0, 30.0]))    # the first has not much left to learn, and learns it now
        >>> record = History(scores, np.full((8, 2), 0.5), x, x, np.linspace(0, 0.5, 8))
        >>> bool(decide(FisherMarket(smoothing=0), record)[0] > 0.9)
        True

    Source: ModelArena, section 6.2.1.
    """

    periods: int = 4
    half_life: float = 8.0
    smoothing: float = 0.7
    floor: float = 0.05
    epsilon: float = 1e-3

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]."""
        seconds, shares = as_floats(history.seconds), as_floats(history.shares[-1])
        curves = fit(seconds, history.scores, half_life=self.half_life)
        part = equal_part_of_the_rest(seconds[-1], history.fraction[-1])
        ends = part * jnp.arange(self.periods + 1, dtype=part.dtype) / self.periods
        promise, _ = gain(curves, jnp.broadcast_to(ends[:, None], (len(ends), *shares.shape)))
        gains = jnp.maximum(jnp.diff(promise, axis=0), 0).T  # [models, periods]
        largest = jnp.max(gains, axis=1, keepdims=True)
        gains = jnp.where(largest > 0, gains / jnp.where(largest > 0, largest, 1), 1)
        bought = fisher_market(jnp.maximum(gains, self.epsilon)).allocation[:, 0]
        return blend(bought, shares, smoothing=self.smoothing, floor=self.floor)


def _values(history: History, window: int, epsilon: float) -> jax.Array:
    """What memory is worth to each model: its progress, in units of the mean; what is not finite is worth ε."""
    progress = jnp.maximum(learning_progress(history.scores, window), epsilon)
    progress = jnp.minimum(progress, jnp.finfo(progress.dtype).max ** 0.25)
    return progress / jnp.mean(progress)
