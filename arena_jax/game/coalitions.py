"""A coalition game: its value function, asked carefully, and the answers it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, ask, count, real_numbers

Value = Callable[[Any], Any]
EXACT_LIMIT = 16


@dataclass(frozen=True)
class Values:
    """What each player is worth, how surely, and what it cost to find out.

    Attributes:
        values: (n,) in the unit of the value function; (n, n) for interactions.
        standard_errors: same shape; 0 where the number is exact, NaN where one sample cannot tell. Where all samples
            agree, it is the one whose 95 % interval is the rule of three's: see ``unseen``.
        evaluations: coalitions (forward passes) evaluated.
        method: the name of the estimator.
        samples: independent samples behind each standard error; 0 for exact methods.
        gradients: backward passes.
        names: the players, where they are known.
        flops: floating-point operations spent, where the model is known.
        gap: sum of the values − (v(N) − v(∅)), for methods that promise 0: what a quadrature or a truncation missed.
    """

    values: Array
    standard_errors: Array
    evaluations: int
    method: str
    samples: int = 0
    gradients: int = 0
    names: tuple[str, ...] = field(default=())
    flops: float = 0.0
    gap: float | None = None

    def interval(self, width: float = 1.96) -> tuple[Array, Array]:
        """Return lower and upper bounds, ``width`` standard errors away from the values."""
        return self.values - width * self.standard_errors, self.values + width * self.standard_errors

    def ranking(self) -> Array:
        """Return the players' indices, the most valuable first; ties keep the order of the players."""
        return np.argsort(-self.values, kind="stable")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able content; a NaN standard error becomes None."""
        errors = self.standard_errors.astype(object)
        errors[np.isnan(self.standard_errors)] = None
        return {
            "method": self.method,
            "values": self.values.tolist(),
            "standard_errors": errors.tolist(),
            "evaluations": self.evaluations,
            "gradients": self.gradients,
            "samples": self.samples,
            "flops": self.flops,
            "gap": self.gap,
        }

    def __str__(self) -> str:
        head = f"{self.method}: {self.evaluations} evaluations, {self.gradients} gradients"
        if self.gap is not None:
            head += f"; the sum misses v(N) − v(∅) by {self.gap:+.2g}"
        if self.values.ndim != 1:
            return head + "\n" + np.array2string(self.values, precision=4, suppress_small=True)
        names = self.names or tuple(f"player {i}" for i in range(len(self.values)))
        width = max(map(len, names))
        rows = [
            f"  {name:<{width}}  {value:+.6g} ± {error:.2g}"
            for name, value, error in zip(names, self.values, self.standard_errors, strict=True)
        ]
        return "\n".join([head, *rows])


class Oracle:
    """A value function that is checked and counted at every call."""

    def __init__(self, value: Value, n: int) -> None:
        if not callable(value):
            raise ArenaError("value must be a function: (m, n) booleans -> (m,) numbers")
        self.value = value
        self.n = count(n, "n", "the number of players")
        self.evaluations = 0
        self.low, self.high = np.inf, -np.inf  # of all values seen

    def __call__(self, members: Any) -> Array:
        """Evaluate coalitions; (m, n) booleans → (m,) float64."""
        members = np.ascontiguousarray(members, dtype=bool)
        m = len(members)
        answer = ask(self.value, f"the value function, asked for {m} coalitions of {self.n} players,", members)
        try:
            worth = real_numbers(answer)
        except (TypeError, ValueError) as error:
            raise ArenaError(
                f"the value function did not return real numbers ({error}); return an array (m,)"
            ) from None
        if worth.shape != (m,):
            raise ArenaError(
                f"the value function returned shape {worth.shape} for {m} coalitions of {self.n} players; "
                f"return one number per coalition, shape ({m},)"
            )
        bad = ~np.isfinite(worth)
        if bad.any():
            first = np.flatnonzero(members[bad.argmax()]).tolist()
            raise ArenaError(
                f"the value function returned {worth[bad][0]} for {int(bad.sum())} of {m} coalitions, "
                f"first for the players {first}; every coalition needs a finite value"
            )
        self.evaluations += m
        self.low, self.high = min(self.low, worth.min()), max(self.high, worth.max())
        return worth


def coalitions(n: int) -> Array:
    """List all coalitions of n players; bit i of the row's number says whether player i takes part.

    Args:
        n: number of players, at most 16.

    Returns:
        (2ⁿ, n) booleans; row 0 is nobody, the last row everybody.

    Raises:
        ArenaError: n is no number of players, or above 16, where 2ⁿ evaluations are no longer sensible.

    Example:
        >>> coalitions(2).astype(int).tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    if count(n, "n", "the number of players") > EXACT_LIMIT:
        raise ArenaError(
            f"an exact method needs 2^{n} coalitions for {n} players; the limit is {EXACT_LIMIT}: "
            "group the players, or use the sampled method (exact=False)"
        )
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1


def table(oracle: Oracle) -> Array:
    """Evaluate every coalition; (2ⁿ,) in the order of ``coalitions``."""
    return oracle(coalitions(oracle.n))


def unseen(samples: int, spread: float) -> float:
    """Bound what samples that all agree have not seen, as a standard error: R·(1 − 0.05^(1/m)) / 1.96, about 1.5 R/m.

    An outcome that m samples do not show has a probability of at most 1 − 0.05^(1/m), with 95 % confidence, and
    changes the mean by at most that part of the range R.

    Args:
        samples: m, independent.
        spread: R, the range of the values seen, in the unit of the value function.

    Example:
        >>> round(1.96 * unseen(40, 1.0), 4)
        0.0722

    Source: the rule of three: Hanley and Lippman-Hand 1983 (JAMA 249), in Clopper and Pearson's exact form.
    """
    return float(spread * (1 - 0.05 ** (1 / samples)) / 1.96)


def with_names(result: Values, names: Sequence[str]) -> Values:
    """Return the same result with the players' names, which are used when it is printed.

    Raises:
        ArenaError: there are more or fewer names than players.
    """
    if len(names) != len(result.values):
        raise ArenaError(f"{len(names)} names for {len(result.values)} players; give one name each")
    return Values(**{**result.__dict__, "names": tuple(names)})
