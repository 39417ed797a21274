"""How often does the batch search lose a size where bytes are noisy, and what does a search cost? No model is compiled.

    python benchmarks/batch_search.py             # 4,000 searches a row: about a minute on one core
    python benchmarks/batch_search.py --searches 400

A need is made up: what is always there (0 to 100 MB), then so much for each example (10 kB to 10 MB; each example's
own part differs from that by up to the noise), in a straight line or bent up or down (power 1.1 or 0.9). The line
starts up to five examples above 0, or as far below: small batches then need a tenth of an example. Where it rises in
tiles, as of a kernel that works in tiles of 8 or 32 examples, a batch takes as much as the next multiple. Where it
drops, too, a batch that is no multiple takes up to a tile more, as of a copy that fills it up, so that a larger batch
may need less. The budget is such that the answer may be anywhere. Sizes are either any up to 4,096, or one of three
lists of candidates. A search begins at the second candidate or anywhere in the list, as a competition begins where the
last model's search ended.

Lost: the size found is below 0.95 of the largest that fits. A search never returns a size that does not fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from measure import machine, table

from arena_jax.runtime.batch_search import largest_batch
from arena_jax.runtime.program import Program, ProgramBytes

CANDIDATES = (
    (1, 2, 4, 8, 12, 16, 24, 32, 48),
    (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128),
    (1, 2, 4, 8, 16, 32, 64),
)
LARGEST = 4096


class Need(NamedTuple):
    """How bytes rise with the batch: by how much examples differ, in which tiles, and where the line starts."""

    noise: float = 0.0
    tile: int = 1
    drop: bool = False
    below: bool = False


def made_up(random: np.random.Generator, need: Need) -> tuple[float, np.ndarray]:
    """Bytes that are always there, and of every size from 1, those included."""
    noise, tile, drop, below = need
    fixed, slope = random.uniform(0, 100e6), 10 ** random.uniform(4, 7)
    power = random.choice([1.0, 1.0, 1.0, 0.9, 1.1])
    spread = random.uniform(1 - noise, 1 + noise, LARGEST + 1)
    examples = slope * spread * power * np.arange(1, LARGEST + 2) ** (power - 1)
    above = random.uniform(0, 5) * slope
    total = np.round(fixed + above + np.cumsum(examples))
    if below:
        total = np.round(fixed + np.maximum(np.cumsum(examples) - above, 0.1 * examples))
    if tile == 1:
        return fixed, total
    sizes = np.arange(1, LARGEST + 2)
    tiles = np.minimum(-(-sizes // tile) * tile, LARGEST + 1)
    copy = random.uniform(0, tile) * slope if drop else 0.0
    return fixed, np.round(total[tiles - 1] + np.where(sizes % tile, copy, 0))


def search(random: np.random.Generator, kind: str, need: Need) -> tuple[int, int, int]:
    """One search: the size found, the largest that fits, and the compilations."""
    fixed, total = made_up(random, need)
    sizes: Sequence[int] = range(1, LARGEST + 1) if kind == "any size" else CANDIDATES[random.integers(len(CANDIDATES))]
    answer = int(10 ** random.uniform(0, 3)) if kind == "any size" else sizes[random.integers(len(sizes))]
    budget = int(random.uniform(total[answer - 1], max(total[answer - 1], total[min(answer - 1 + need.tile, LARGEST)])))
    budget = max(budget, int(total[0]))  # where needs drop, a batch of 1 may need more than a tile
    start = int(random.choice(sizes)) if kind == "candidates, begun anywhere" else None

    def compile_program(_: object, size: int) -> Program:
        return Program(None, ProgramBytes(arguments=int(fixed), temporaries=int(total[size - 1]) - int(fixed)))

    choice = largest_batch(
        print,
        lambda size: (size,),
        budget,
        sizes=None if kind == "any size" else sizes,
        start=start,
        compile_program=compile_program,
    )
    return choice.batch_size, max(size for size in sizes if total[size - 1] <= budget), choice.compilations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=4000, help="searches a row")
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    needs = {f"noise {noise:.0%}": Need(noise) for noise in (0.0, 0.1, 0.3)}
    needs["starts below 0"] = Need(below=True)
    needs |= {f"tiles of {n}{', drops' * drop}": Need(0.0, n, drop) for n in (8, 32) for drop in (False, True)}
    rows = []
    for kind in ("any size", "candidates", "candidates, begun anywhere"):
        for what, need in needs.items():
            random = np.random.default_rng(0)
            searches = np.array([search(random, kind, need) for _ in range(arguments.searches)])
            assert (searches[:, 0] <= searches[:, 1]).all(), "a size was returned that does not fit"
            lost = int((searches[:, 0] < 0.95 * searches[:, 1]).sum())
            compilations = searches[:, 2]
            mean, median = f"{compilations.mean():.2f}", f"{np.median(compilations):g}"
            three = f"{100 * (compilations <= 3).mean():.1f} %"
            rows.append([kind, what, f"{lost} of {len(searches)}", mean, median, three])
    print(table(["sizes", "need", "lost", "compilations, mean", "median", "at most 3"], rows))


if __name__ == "__main__":
    main()
