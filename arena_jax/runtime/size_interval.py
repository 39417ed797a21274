"""Where the largest size that fits lies: lines through the sizes compiled so far, and an interval that closes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax

from arena_jax.runtime.memory import format_bytes
from arena_jax.runtime.program import Program, is_out_of_memory

# Kernels that work in tiles fill batches up to multiples of these; the wider one first, as it may save the other.
_TILES = (32, 8)
# After so many compilations a search no longer looks at full tiles beyond a size that does not fit: needs of bent or
# tiled kernels end within 8 on average (benchmarks/batch_search.py), and each costs seconds.
_MOST_COMPILATIONS = 14
# After so many, lines have missed several times, and the interval is divided instead.
_COMPILATIONS_BY_LINES = 5
# An answer within 2 % of the next candidate is not worth a compilation.
_CLOSE_ENOUGH = 1.02
# Near the edge a line errs by a few examples: of sizes this dense one more or less is below 5 %, the claim's own limit.
_DENSE = 1.05
# Two lines that both end at least this far beyond the budget agree that the next size does not fit.
_CLEARLY_OVER = 1.01
# A larger multiple of a tile is worth looking at from 4 % more examples on.
_WORTH_A_TILE = 1.04
# The search goes on no further than two tiles beyond a size that fits.
_TILES_BEYOND = 2
# Slopes between known sizes that differ by more than this are not those of one line: a kernel that works in tiles.
_EVEN = 0.6
# A slope from three sizes may be 5 % too large, of two sizes 25 %.
_THREE_SIZES, _TWO_SIZES = 0.95, 0.75
# Two sizes alone are evidence of the next candidate only where that is at least so much larger: one example more is
# within their noise.
_SPARSE = 1.3
# A line that starts further below 0 than this does not go on as it is.
_STARTS_BELOW = 1.15
# The search's own rounding must not cost a size.
_ROUNDING = 1e-12


class SizeInterval:
    """One search: the programs of the sizes compiled so far, and where to look next.

    A need is ``bytes.with_code`` of a size's program. Positions are indices into the candidate sizes.

    Args:
        compile_size: ``size -> program``.
        candidates: the sizes to choose from, rising.
        allowance: bytes that a program may need.
        programs: of sizes that are already compiled; None: the compiler refused.
        start: the size to compile first where none is known; the second candidate if not given.

    Attributes:
        programs: of every size compiled before or by this search; None: the compiler refused.
        compiled: ``{size: program}`` of this search's own.
        compilations: that this search paid for, refused ones included.
        order: the sizes in the order in which this search compiled them.
    """

    def __init__(
        self,
        compile_size: Callable[[int], Program],
        candidates: Sequence[int],
        allowance: float,
        programs: Mapping[int, Program | None],
        start: int | None,
    ):
        self.compile_size, self.candidates = compile_size, candidates
        self.allowance = allowance * (1 + _ROUNDING)
        # A batch of 1 is often compiled differently from all others, so 2 is the better first point of a line.
        self.start = min(1, len(candidates) - 1) if start is None else self.index_of(start)
        self.programs: dict[int, Program | None] = dict(programs)
        self.compiled: dict[int, Program] = {}
        self.compilations = 0
        self.order: list[int] = []

    # ---- what is known ----

    def need(self, index: int) -> float:
        """Bytes of a candidate, compiled if need be; infinite where the compiler itself ran out."""
        size = self.candidates[index]
        if size not in self.programs:
            self.compilations += 1
            self.order.append(size)
            try:
                self.programs[size] = self.compiled[size] = self.compile_size(size)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self.programs[size] = None
        program = self.programs[size]
        return math.inf if program is None else program.bytes.with_code

    def fits(self, index: int) -> bool:
        """Whether the budget allows a candidate; compiles it if need be."""
        return self.need(index) <= self.allowance

    def compiled_programs(self) -> list[tuple[int, Program]]:
        """``(size, program)`` of every size that the compiler did not refuse, from small to large."""
        return sorted((size, program) for size, program in self.programs.items() if program is not None)

    def needs(self) -> list[tuple[int, int]]:
        """``(size, bytes)`` of those."""
        return [(size, program.bytes.with_code) for size, program in self.compiled_programs()]

    def index_of(self, size: float) -> int:
        """The last candidate that is at most this size; −1 when there is none."""
        if isinstance(self.candidates, range):
            return min(max(math.floor(size), 0), len(self.candidates)) - 1
        return bisect.bisect_right(self.candidates, size) - 1

    def known_indices(self) -> list[int]:
        """The candidates about which something is known."""
        indices = [(size, self.index_of(size)) for size in self.programs]
        return [index for size, index in indices if index >= 0 and self.candidates[index] == size]

    def lines(self, low: int, high: int) -> list[tuple[int, float, float]]:
        """Straight lines (size, bytes, slope) from ``low``: to the answer's other side, and on from the size before."""
        size = self.candidates[low]
        program = self.programs[size]
        assert program is not None
        need = program.bytes.with_code
        above = self.programs.get(self.candidates[high]) if high < len(self.candidates) else None
        below = max((other for other, compiled in self.programs.items() if compiled and other < size), default=None)
        others = [(self.candidates[high], above)] if above else []
        if below is not None and (program_below := self.programs[below]) is not None:
            others.append((below, program_below))
        return [(size, need, (other.bytes.with_code - need) / (at - size)) for at, other in others]

    # ---- where to look ----

    def run(self) -> int | None:
        """The last candidate that fits, or none."""
        restart: int | None = max((index for index in self.known_indices() if self.fits(index)), default=-1)
        while restart is not None:
            low = restart
            high = min((index for index in self.known_indices() if index > low), default=len(self.candidates))
            while high - low > 1 and not (low >= 0 and self.settled(low, high)):
                guess = self.whole_tile(min(max(self.next(low, high), low + 1), high - 1), low, high)
                low, high = (guess, high) if self.fits(guess) else (low, guess)
            restart = self.beyond(low) if low >= 0 else None
        return low if low >= 0 else None

    def next(self, low: int, high: int) -> int:
        """Where a line puts the answer, or the middle where no line helps."""
        if low < 0:
            return self.below(high)
        size = self.candidates[low]
        program = self.programs[size]
        assert program is not None
        lines = self.lines(low, high) or [(size, program.bytes.with_code, _proportional(size, program))]
        size, need, slope = lines[0]
        if slope <= 0 or (self.compilations > _COMPILATIONS_BY_LINES and high < len(self.candidates)):
            # The lines did not hold. The answer is a percentage, so the middle is that of the ratio: a line over a flat
            # stair may have pointed a hundred times too far.
            far = self.candidates[min(high, len(self.candidates) - 1)]
            return self.index_of(math.sqrt(size * far))
        return self.index_of(size + (self.allowance - need) / slope)

    def below(self, high: int) -> int:
        """Where to look while nothing is known to fit: once where a line through the others leads, then the middle."""
        if high == len(self.candidates):
            return self.start
        pairs = self.compiled_programs()
        if self.compilations < 2 and pairs:
            size, program = pairs[0]
            need, slope = program.bytes.with_code, _proportional(size, program)
            if len(pairs) > 1:
                slope = (pairs[1][1].bytes.with_code - need) / (pairs[1][0] - size)
            if slope > 0:
                return self.index_of(size - (need - self.allowance) / slope)
        return (high - 1) // 2

    def whole_tile(self, guess: int, low: int, high: int) -> int:
        """The guess; where the need rises in stairs, the nearest candidate between the two that fills its tiles."""
        if not isinstance(self.candidates, range) or self.even():
            return guess
        for tile in _TILES:
            size = self.candidates[guess]
            for full in (round(size / tile) * tile - 1, size // tile * tile - 1):
                if low < full < high and high - low >= tile:
                    return full
        return guess

    def beyond(self, low: int) -> int | None:
        """A candidate that fits beyond ones that do not: full tiles may need less than what is copied to fill them."""
        if self.even() or self.compilations >= _MOST_COMPILATIONS:
            return None
        needs = dict(self.needs())
        for tile in _TILES:
            if any(full % tile == 0 and needs[full] == needs[size] for size in needs for full in needs if full > size):
                continue  # a part of a tile needs no more than the whole
            size = self.candidates[low]
            index = self.next_multiple(size * _WORTH_A_TILE, tile)
            if index is None or self.candidates[index] > size + _TILES_BEYOND * tile:
                continue
            if self.candidates[index] not in self.programs and self.fits(index):
                return index
        return None

    def next_multiple(self, size: float, tile: int) -> int | None:
        """The first candidate above a size that is a multiple of a tile."""
        above = range(self.index_of(size) + 1, len(self.candidates))
        return next((index for index in above if self.candidates[index] % tile == 0), None)

    # ---- when to stop ----

    def settled(self, low: int, high: int) -> bool:
        """Whether no size above ``low`` can be worth a compilation."""
        size, above = self.candidates[low], self.candidates[low + 1]
        if high < len(self.candidates) and self.candidates[high - 1] <= size * _CLOSE_ENOUGH:
            return True
        lines = self.lines(low, high)
        expected = [need + slope * (above - size) for _, need, slope in lines]
        if not expected or min(expected) <= self.allowance or not self.even():
            return False
        if lines[0][1] + self.least_slope(low, high) * (above - size) > self.allowance:
            return True
        # Near the edge a line may err by a few sizes; that matters only where one size is much. There two must agree:
        # of a curve that bends up the chord is too steep, of one that bends down the line that goes on. A chord alone
        # may span all candidates and shows nothing.
        return above <= size * _DENSE or (len(expected) > 1 and min(expected) > _CLEARLY_OVER * self.allowance)

    def even(self) -> bool:
        """Whether bytes an example differ little between the known sizes; where the need rises in stairs, they do not.

        What lies below the smallest size counts only where two sizes are all there is, and where it is little:
        temporaries may start far above 0. Three sizes on a line are stronger evidence.
        """
        slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.pairwise(self.needs())]
        if len(slopes) == 1:
            slopes.append(min(slopes[0], self.first_slope()))
        return not slopes or min(slopes) > _EVEN * max(slopes)

    def first_slope(self) -> float:
        """Bytes an example of the smallest known size, if its temporaries are proportional to the batch."""
        pairs = self.compiled_programs()
        (size, smallest), (other, largest) = pairs[0], pairs[-1]
        fixed, more = (program.bytes.with_code - program.bytes.temporaries for program in (smallest, largest))
        return _proportional(size, smallest) + (more - fixed) / max(other - size, 1)

    def least_slope(self, low: int, high: int) -> float:
        """Bytes that an example more surely takes: the least between known sizes, less what they differ by, and 5 %.

        Two sizes alone are weaker evidence, 25 %, and only of a next candidate that is much larger.
        """
        sizes = [size for size, _ in self.needs() if size <= self.candidates[low]][-3:]
        if high < len(self.candidates) and self.programs.get(self.candidates[high]):
            sizes.append(self.candidates[high])
        needs = dict(self.needs())
        slopes = [(needs[t] - needs[s]) / (t - s) for s, t in itertools.pairwise(sizes)]
        if len(sizes) < 3:
            sparse = high == len(self.candidates) and self.candidates[low + 1] >= _SPARSE * self.candidates[low]
            sparse = sparse and bool(slopes) and slopes[0] <= _STARTS_BELOW * self.first_slope()
            return _TWO_SIZES * slopes[0] if sparse else 0.0
        return _THREE_SIZES * min(slopes) - (max(slopes) - min(slopes))

    def why_not_next(self, index: int) -> str:
        """Why the next size was not taken."""
        above = self.candidates[index + 1]
        program = self.programs.get(above)
        if program is not None:
            return f"{above} would need {format_bytes(program.bytes.with_code)}"
        if above in self.programs:
            return f"{above} does not compile within the device's memory"
        larger = [self.index_of(size) for size, compiled in self.programs.items() if compiled and size > above]
        lines = self.lines(index, min(larger, default=len(self.candidates)))
        if not lines:
            return f"{above} was not tried, as larger sizes do not compile within the device's memory"
        size, need, slope = lines[0]
        return f"{above} would need about {format_bytes(need + slope * (above - size))}"


def _proportional(size: int, program: Program) -> float:
    """Bytes an example where temporaries are proportional to the batch: too many, unless their line starts below 0."""
    return max(program.bytes.temporaries, 1) / size
