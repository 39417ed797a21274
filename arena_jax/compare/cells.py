"""The cells of a study: which runs there are, in which order, and whose share each is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from arena_jax.compare.plan import Plan
from arena_jax.config.errors import ArenaError

T = TypeVar("T")


class Cell(NamedTuple):
    """One run.

    Attributes:
        arm: by name.
        seed: of the run.
        trial: which of the arm's trials it belongs to; None: a final run.

    Example:
        >>> Cell("fast", 3).name, Cell("fast", 9, 0).name
        ('fast.3', 'fast.trial0.9')
    """

    arm: str
    seed: int
    trial: int | None = None

    @property
    def name(self) -> str:
        """Its file in the ledger."""
        return f"{self.arm}.{self.seed}" if self.trial is None else f"{self.arm}.trial{self.trial}.{self.seed}"


def tuning_cells(plan: Plan, arms: tuple[str, ...] | None = None) -> list[Cell]:
    """The runs of trials, arms side by side: what else a machine does hits all of them alike."""
    if plan.tuning is None:
        return []
    names = [arm.name for arm in plan.arms if arms is None or arm.name in arms]
    trials = {name: range(len(plan.trials(name))) for name in names}
    most = max(len(trial) for trial in trials.values())
    return [
        Cell(name, seed, trial)
        for seed in plan.tuning.seeds
        for trial in range(most)
        for name in names
        if trial in trials[name]
    ]


def final_cells(plan: Plan, arms: tuple[str, ...] | None = None) -> list[Cell]:
    """The runs that arms are judged by, the arms of a seed side by side."""
    names = [arm.name for arm in plan.arms if arms is None or arm.name in arms]
    return [Cell(name, seed) for seed in plan.seeds for name in names]


def null_seeds(plan: Plan) -> tuple[int, ...]:
    """As many seeds as the plan has, none of which it uses: the second set of ``--null``."""
    used = {*plan.seeds, *(plan.tuning.seeds if plan.tuning else ())}
    seeds: list[int] = []
    seed = 0
    while len(seeds) < len(plan.seeds):
        if seed not in used:
            seeds.append(seed)
        seed += 1
    return tuple(seeds)


def null_cells(plan: Plan) -> list[Cell]:
    """The baseline's runs on both sets of seeds."""
    return [Cell(plan.baseline, seed) for pair in zip(plan.seeds, null_seeds(plan), strict=True) for seed in pair]


class Share(NamedTuple):
    """The share of one machine: every ``shares``-th cell, from the ``number``-th on.

    Example:
        >>> list(Share.read("2/3").of(range(5)))
        [1, 4]
    """

    number: int = 1
    shares: int = 1

    @classmethod
    def read(cls, text: str) -> Share:
        """Read ``K/N``.

        Raises:
            ArenaError: it is none, or K is not from 1 to N.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isascii() and count.isascii() and number.isdigit() and count.isdigit()):
            raise ArenaError(f"--cells is '{text}': write K/N, e.g. 2/8 for the second of eight shares")
        if len(text) > 20 or not 1 <= int(number) <= int(count):
            raise ArenaError(f"--cells is '{text}': K is from 1 to N")
        return cls(int(number), int(count))

    def of(self, cells: Sequence[T]) -> Sequence[T]:
        """The cells of this share."""
        return cells[self.number - 1 :: self.shares]
