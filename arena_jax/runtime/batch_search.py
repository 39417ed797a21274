"""The largest batch that fits a budget, in about three compilations: the paper's equation 7."""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.memory import Estimate, estimate, format_bytes, parse_bytes
from arena_jax.runtime.out_of_memory import ran_out

# Kernels that work in tiles fill batches up to multiples of these; the wider one first, as it may save the other.
_TILES = (32, 8)


class Choice(NamedTuple):
    """A batch size that was compiled and fits, and how it was found.

    Attributes:
        batch: the size.
        estimate: what it needs, with its executable.
        compiled: every size this search compiled, with its executable; sizes the compiler refused are not in it.
        compiles: how many compilations this search paid for, refused ones included.
        reason: one line for the log.
    """

    batch: int
    estimate: Estimate
    compiled: dict[int, Estimate]
    compiles: int
    reason: str


def largest_batch(
    step: Callable[..., Any],
    arguments_at: Callable[[int], Sequence[Any]],
    budget: int | float | str,
    *,
    resident: int = 0,
    name: str = "model",
    sizes: Sequence[int] | None = None,
    limit: int = 4096,
    margin: float = 0.0,
    known: Mapping[int, Estimate | None] | None = None,
    start: int | None = None,
) -> Choice:
    """Find the largest batch whose step fits into a memory budget, without running it.

    b = max {b : (1 + margin)·(μ(b) + code) + resident ≤ budget}

    A training step needs an amount that is affine in its batch. So a small batch is compiled first; a second size,
    which fits if the line through the first starts at or above zero, gives the slope; a third confirms the answer.
    Where three sizes lie on a line, it is trusted for the next size too, unless the edge is within the noise.
    Where the line bends, the interval between the largest size known to fit and the smallest known not to is divided
    until it is closed, or until no size in it is 2 % larger. What is returned has always been compiled and never needs
    more than the budget.

    Where bytes an example differ widely between the sizes compiled, the need rises in treads, as of a kernel that works
    in tiles of 8 or 32 examples: no line is trusted, and multiples of 32 and 8 are looked at first, also beyond a size
    that does not fit, as they may need less. That takes some 8 compilations, and up to 1 in 100 such searches still end
    below 0.95 of the largest size, as those compiled happened to lie on a line (`benchmarks/batch_search.py`).

    Args:
        step: the step, jitted with its own donation, or a plain function.
        arguments_at: gives the step's (abstract) arguments for a batch size.
        budget: bytes, ``"40GB"``, or a fraction of the device's limit; see `memory.parse_bytes`.
        resident: bytes on the device that are no arguments of this step: other models, optimizer states, the
            code of other executables.
        name: the model, for messages.
        sizes: the sizes to choose from, if not any up to ``limit``.
        limit: the largest size to consider when ``sizes`` is not given.
        margin: added to the estimate, as a part of it; on a GPU `memory.calibrate` is to measure it
            (none has run it yet); on a CPU see docs/guides/memory.md.
        known: estimates of sizes that are already compiled; they cost nothing. None: the compiler refused.
        start: the size to compile first where none is known, such as what a model of the same kind was given: near
            the answer, two compilations are enough. The second of the sizes if not given.

    Returns:
        The choice. Its executables are the ones to train with.

    Raises:
        ArenaError: even the smallest size does not fit, the margin is negative, sizes are no positive integers,
            ``arguments_at`` gives no tuple, or no shapes that differ where the need does not rise with the batch.

    Example:
        >>> import jax.numpy as jnp
        >>> step = jax.jit(lambda w, x: jnp.sum(jnp.sort(jnp.tanh(x @ w), axis=-1)))
        >>> def arguments_at(b):
        ...     return jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((b, 64), jnp.float32)
        >>> choice = largest_batch(step, arguments_at, "1MB")
        >>> choice.estimate.total <= 1_000_000, choice.compiles <= 3
        (True, True)

    Source: ModelArena, equation 7; the search is this project's.
    """
    whole = parse_bytes(budget)
    if not 0 <= margin < math.inf:
        raise ArenaError(f"{name}: the margin is {margin}; it must be 0 or more, as a part of the estimate")
    ladder: Sequence[int] = _rising(name, sizes) if sizes is not None else range(1, limit + 1)
    if not ladder or ladder[0] < 1:
        raise ArenaError(f"{name}: batch sizes {list(ladder)[:5]} hold nothing to choose from; give positive sizes")
    search = _Search(step, _checked(name, arguments_at), ladder, (whole - resident) / (1 + margin), known or {}, start)
    place = search.run()
    if place is None:
        smallest = search.seen.get(ladder[0])
        told = format_bytes(smallest.whole * (1 + margin)) if smallest else "more than the compiler could place"
        raise ArenaError(
            f"{name}: its smallest batch ({ladder[0]}) needs {told}, but the budget of {format_bytes(whole)} leaves "
            f"{format_bytes(whole - resident)} beside the {format_bytes(resident)} already resident; "
            "raise the budget, shorten the sequences or train fewer models"
        )
    if place == len(ladder) - 1:
        _check_rising(name, arguments_at, search.seen)
    batch = ladder[place]
    chosen = search.seen[batch]
    assert chosen is not None
    why = "the largest size allowed" if place == len(ladder) - 1 else search.why(place)
    return Choice(
        batch=batch,
        estimate=chosen,
        compiled=search.made,
        compiles=search.compiles,
        reason=(
            f"{name}: batch {batch} needs {format_bytes(chosen.whole)} of {format_bytes(whole - resident)}; {why}; "
            f"{search.compiles} compilations (sizes {', '.join(map(str, search.order)) or 'known before'})"
        ),
    )


def _rising(name: str, sizes: Sequence[int]) -> list[int]:
    """Sizes as integers of Python, from small to large."""
    try:
        return sorted({operator.index(size) for size in sizes})
    except TypeError:
        raise ArenaError(
            f"{name}: batch sizes {list(sizes)[:5]} are not all integers; give whole, positive sizes"
        ) from None


def _checked(name: str, arguments_at: Callable[[int], Sequence[Any]]) -> Callable[[int], Sequence[Any]]:
    """The function; what it gives is a sequence of arguments."""

    def at(size: int) -> Sequence[Any]:
        arguments = arguments_at(size)
        if not isinstance(arguments, Sequence) or isinstance(arguments, str):
            kind = type(arguments).__name__
            raise ArenaError(
                f"{name}: arguments_at({size}) gave a {kind}; it must give a tuple of the step's arguments"
            )
        return arguments

    return at


def _check_rising(name: str, arguments_at: Callable[[int], Sequence[Any]], seen: Mapping[int, Estimate | None]) -> None:
    """Refuse to call the largest size the answer where no size differs from another, in arguments or in bytes."""
    needs = {size: found.whole for size, found in seen.items() if found}
    if len(needs) < 2 or len(set(needs.values())) > 1:
        return
    few, many = min(needs), max(needs)
    shapes = [[getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(arguments_at(size))] for size in (few, many)]
    if shapes[0] == shapes[1]:
        raise ArenaError(
            f"{name}: batches of {few} and {many} need {format_bytes(needs[few])} both, as arguments_at gives the same "
            "shapes for them; give arrays or jax.ShapeDtypeStruct whose shapes grow with the batch"
        )


class _Search:
    """One search: what is known about each size, and where to look next. Positions are indices into the ladder."""

    def __init__(
        self,
        step: Callable[..., Any],
        arguments_at: Callable[[int], Sequence[Any]],
        ladder: Sequence[int],
        allowance: float,
        known: Mapping[int, Estimate | None],
        start: int | None,
    ):
        self.step, self.arguments_at, self.ladder = step, arguments_at, ladder
        self.allowance = allowance * (1 + 1e-12)  # its own rounding must not cost a size
        # A batch of 1 is often compiled differently from all others, so 2 is the better first point of a line.
        self.start = min(1, len(ladder) - 1) if start is None else self.place_of(start)
        self.seen: dict[int, Estimate | None] = dict(known)
        self.made: dict[int, Estimate] = {}
        self.compiles = 0
        self.order: list[int] = []

    def need(self, place: int) -> float:
        """Bytes at a place of the ladder; infinite where the compiler itself ran out."""
        size = self.ladder[place]
        if size not in self.seen:
            self.compiles += 1
            self.order.append(size)
            try:
                self.seen[size] = self.made[size] = estimate(self.step, *self.arguments_at(size))
            except jax.errors.JaxRuntimeError as error:
                if not ran_out(error):
                    raise
                self.seen[size] = None
        found = self.seen[size]
        return math.inf if found is None else found.whole

    def fits(self, place: int) -> bool:
        """Whether the budget allows a place of the ladder; compiles it if need be."""
        return self.need(place) <= self.allowance

    def place_of(self, size: float) -> int:
        """The last place whose size is at most this; −1 when there is none."""
        if isinstance(self.ladder, range):
            return min(max(math.floor(size), 0), len(self.ladder)) - 1
        return bisect.bisect_right(self.ladder, size) - 1

    def lines(self, low: int, high: int) -> list[tuple[int, float, float]]:
        """Straight lines (size, bytes, slope) from ``low``: to the answer's other side, and on from the size before."""
        size = self.ladder[low]
        here = self.seen[size]
        assert here is not None
        above = self.seen.get(self.ladder[high]) if high < len(self.ladder) else None
        below = max((other for other, found in self.seen.items() if found and other < size), default=None)
        others = [(self.ladder[high], above)] if above else []
        if below is not None and (there := self.seen[below]) is not None:
            others.append((below, there))
        return [(size, here.whole, (there.whole - here.whole) / (other - size)) for other, there in others]

    def run(self) -> int | None:
        """The last place that fits, or none."""
        beyond: int | None = max((place for place in self.places() if self.fits(place)), default=-1)
        while beyond is not None:
            low = beyond
            high = min((place for place in self.places() if place > low), default=len(self.ladder))
            while high - low > 1 and not (low >= 0 and self.settled(low, high)):
                guess = self.whole_tile(min(max(self.next(low, high), low + 1), high - 1), low, high)
                low, high = (guess, high) if self.fits(guess) else (low, guess)
            beyond = self.beyond(low) if low >= 0 else None
        return low if low >= 0 else None

    def whole_tile(self, guess: int, low: int, high: int) -> int:
        """The guess; where the need rises in treads, the nearest place between the two that fills its tiles."""
        if not isinstance(self.ladder, range) or self.even():
            return guess
        for tile in _TILES:
            size = self.ladder[guess]
            for full in (round(size / tile) * tile - 1, size // tile * tile - 1):
                if low < full < high and high - low >= tile:
                    return full
        return guess

    def places(self) -> list[int]:
        """The places of the ladder about which something is known."""
        found = [(size, self.place_of(size)) for size in self.seen]
        return [place for size, place in found if place >= 0 and self.ladder[place] == size]

    def beyond(self, low: int) -> int | None:
        """A place that fits beyond sizes that do not: full tiles may need less than what is copied to fill them."""
        if self.even() or self.compiles >= 14:  # enough is enough
            return None
        known = {size: found.whole for size, found in self.seen.items() if found}
        for tile in _TILES:
            if any(full % tile == 0 and known[full] == known[size] for size in known for full in known if full > size):
                continue  # a part of a tile needs no more than the whole
            size = self.ladder[low]
            place = self.full(size * 1.04, tile)
            if place is None or self.ladder[place] > size + 2 * tile:
                continue
            if self.ladder[place] not in self.seen and self.fits(place):
                return place
        return None

    def full(self, size: float, tile: int) -> int | None:
        """The first place above a size that holds a multiple of a tile."""
        above = range(self.place_of(size) + 1, len(self.ladder))
        return next((place for place in above if self.ladder[place] % tile == 0), None)

    def next(self, low: int, high: int) -> int:
        """Where a line says the answer is, or the middle where no line helps."""
        if low < 0:
            return self.below(high)
        size = self.ladder[low]
        found = self.seen[size]
        assert found is not None
        lines = self.lines(low, high) or [(size, found.whole, _proportional(size, found))]
        size, here, slope = lines[0]
        if slope <= 0 or (self.compiles > 5 and high < len(self.ladder)):
            # The lines did not hold. The answer is wanted to a percentage, so the middle is that of the ratio: a line
            # over a flat tread may have pointed a hundred times too far.
            far = self.ladder[min(high, len(self.ladder) - 1)]
            return self.place_of(math.sqrt(size * far))
        return self.place_of(size + (self.allowance - here) / slope)

    def below(self, high: int) -> int:
        """Where to look while nothing is known to fit: once where a line through the others says, then the middle."""
        if high == len(self.ladder):
            return self.start
        known = [(size, found) for size, found in sorted(self.seen.items()) if found is not None]
        if self.compiles < 2 and known:
            size, found = known[0]
            slope = _proportional(size, found)
            if len(known) > 1:
                slope = (known[1][1].whole - found.whole) / (known[1][0] - size)
            if slope > 0:
                return self.place_of(size - (found.whole - self.allowance) / slope)
        return (high - 1) // 2

    def settled(self, low: int, high: int) -> bool:
        """Whether no size above ``low`` can be worth a compilation."""
        size, above = self.ladder[low], self.ladder[low + 1]
        if high < len(self.ladder) and self.ladder[high - 1] <= size * 1.02:
            return True
        expected = [here + slope * (above - size) for _, here, slope in self.lines(low, high)]
        if not expected or min(expected) <= self.allowance or not self.even():
            return False
        here = self.lines(low, high)[0][1]
        if here + self.least_slope(low, high) * (above - size) > self.allowance:
            return True
        # Near the edge a line may err by a few sizes; that matters only where one size is much. There two must agree:
        # of a curve that bends up the chord says too much, of one that bends down the line that goes on. A chord alone
        # may span the whole ladder and says nothing.
        return above <= size * 1.05 or (len(expected) > 1 and min(expected) > 1.01 * self.allowance)

    def even(self) -> bool:
        """Whether bytes an example differ little between the known sizes; where the need rises in treads, they do not.

        What lies below the smallest size counts only where two sizes are all there is, and where it is little:
        temporaries may start far above 0. Three sizes on a line say more.
        """
        known = sorted((size, found.whole) for size, found in self.seen.items() if found)
        slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.pairwise(known)]
        if len(slopes) == 1:
            slopes.append(min(slopes[0], self.first_slope()))
        return not slopes or min(slopes) > 0.6 * max(slopes)

    def first_slope(self) -> float:
        """Bytes an example of the smallest known size, if its temporaries are proportional to the batch."""
        known = sorted((size, found.whole - found.temporaries, found) for size, found in self.seen.items() if found)
        (size, given, found), (other, more, _) = known[0], known[-1]
        return _proportional(size, found) + (more - given) / max(other - size, 1)

    def least_slope(self, low: int, high: int) -> float:
        """Bytes that an example more surely takes: the least between known sizes, less what they differ by, and 5 %.

        Two sizes alone say less, 25 %, and only of the next rung of a ladder: one example more is within their noise.
        """
        sizes = sorted(size for size, found in self.seen.items() if found and size <= self.ladder[low])[-3:]
        if high < len(self.ladder) and self.seen.get(self.ladder[high]):
            sizes.append(self.ladder[high])
        totals = [found.whole for size in sizes if (found := self.seen[size])]
        slopes = [(b - a) / (t - s) for s, t, a, b in zip(sizes, sizes[1:], totals, totals[1:], strict=False)]
        if len(sizes) < 3:
            rung = high == len(self.ladder) and self.ladder[low + 1] >= 1.3 * self.ladder[low]
            # A line that starts far below 0 does not go on as it is.
            rung = rung and bool(slopes) and slopes[0] <= 1.15 * self.first_slope()
            return 0.75 * slopes[0] if rung else 0.0
        return 0.95 * min(slopes) - (max(slopes) - min(slopes))

    def why(self, place: int) -> str:
        """Why the next size was not taken."""
        above = self.ladder[place + 1]
        found = self.seen.get(above)
        if found is not None:
            return f"{above} would need {format_bytes(found.whole)}"
        if above in self.seen:
            return f"{above} does not compile within the device's memory"
        larger = [self.place_of(size) for size, found in self.seen.items() if found and size > above]
        lines = self.lines(place, min(larger, default=len(self.ladder)))
        if not lines:
            return f"{above} was not tried, as larger sizes do not compile within the device's memory"
        size, here, slope = lines[0]
        return f"{above} would need about {format_bytes(here + slope * (above - size))}"


def _proportional(size: int, found: Estimate) -> float:
    """Bytes an example where temporaries are proportional to the batch: too many, unless their line starts below 0."""
    return max(found.temporaries, 1) / size
