"""What a scaling study does, written down before it runs."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.equilibria.arguments import count, real_number
from arena_jax.game.study.corpus import LENGTH
from arena_jax.game.study.trainer import ROWS, SEGMENTS, Size

_COUNTED = {"hidden": "features", "layers": "blocks", "heads": "heads"}

# What twice the rate does to a type, as MASGA's pilot found and docs/scaling_study.md predicts; position: nothing.
PREDICTED = {"token embedding": 1, "norms": 1, "query/key": 1, "value/output": -1, "feed-forward": 1}

ARMS = {
    "adamw": "B0: AdamW, its rate tuned per size",
    "blockwise": "B1: block-wise rates (norms 1, value/output 4, feed-forward 6, query/key 8, embeddings 10)",
    "population": "B2: the schedule that population-based training found for what the protocol's search cost",
    "shuffled": "C1: the protocol's multipliers dealt out at random, anew for each seed",
    "global": "C2: AdamW whose rate is tuned on a grid twice as fine, and nothing else",
    "myopic": "M0: multipliers of the short-horizon equilibrium of the update game",
    "protocol": "M1: multipliers learned from full short trainings",
    "architecture": "M2: parts pruned and grown by the ablation game while training, at equal operations",
    "both": "M3: M1 and M2",
}


@dataclass(frozen=True)
class Plan:
    """A study: its models, amounts of text, seeds and rules. Every rule is the same for all arms.

    Attributes:
        data: text to train on, as ``data.load`` takes it.
        elsewhere: text for scores out of domain.
        sizes: of the models, small to large; the first two are for learning protocols.
        tokens: bytes of a full training per size.
        seeds: of the final runs per size: how many.
        arms: of ``ARMS``; "adamw" and "protocol" are among them.
        rates: the first grid of learning rates, for the smallest size; larger sizes begin around what was best before.
        extensions: how far a grid may be extended while its best rate is at an end.
        actions: what a type's multiplier may be in the protocol game.
        search_seeds: paired seeds of each profile.
        search_rounds: of best responses at most.
        law_seeds: of each cell of the grid of sizes and tokens for the laws of "adamw" and "both"; 0: no laws.
    """

    data: str = "wikitext2"
    elsewhere: str = "python-docs"
    sizes: tuple[Size, ...] = (Size(32, 2, 4), Size(48, 3, 4), Size(80, 4, 5))
    tokens: tuple[int, ...] = (400_000, 800_000, 1_600_000)
    seeds: tuple[int, ...] = (6, 5, 4)
    arms: tuple[str, ...] = tuple(ARMS)
    rates: tuple[float, ...] = (4e-3, 8e-3, 1.6e-2, 3.2e-2)
    extensions: int = 2
    actions: tuple[float, ...] = (0.5, 1.0, 2.0)
    search_seeds: int = 2
    search_rounds: int = 2
    law_seeds: int = 1

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.tokens) == len(self.seeds) >= 2:
            raise ArenaError(
                f"a study needs at least 2 sizes, each with its tokens and seeds; it has {len(self.sizes)} sizes, "
                f"{len(self.tokens)} token counts and {len(self.seeds)} numbers of seeds"
            )
        for size in self.sizes:
            for field, number in size._asdict().items():
                count(number, f"{field} of the size {list(size)}", f"how many {_COUNTED[field]} a model has")
            if size.hidden % size.heads:
                raise ArenaError(
                    f"the size {list(size)} makes no model: {size.heads} heads do not divide the hidden size "
                    f"{size.hidden}; change one"
                )
        for name, numbers in (("tokens", self.tokens), ("seeds", self.seeds)):
            for number in numbers:
                count(number, f"an entry of {name}", "one number per size")
        for arm in self.arms:
            if arm not in ARMS:
                raise ArenaError(f"there is no arm '{arm}'; {nearest(arm, ARMS)}")
        absent = {"adamw", "protocol"} - set(self.arms)
        if absent:
            raise ArenaError(f"the arm '{min(absent)}' is what others are compared with; add it")
        if min(self.tokens) < ROWS * LENGTH * SEGMENTS:
            raise ArenaError(
                f"{min(self.tokens)} bytes are less than one step for each of {SEGMENTS} segments of a training; "
                f"give {ROWS * LENGTH * SEGMENTS} or more"
            )
        if len(self.rates) < 3:
            raise ArenaError(f"rates are {self.rates}; a study needs at least 3 learning rates")
        for name, factors in (("rates", self.rates), ("actions", self.actions)):
            for factor in factors:
                real_number(factor, f"an entry of {name}", "numbers above 0", lambda x: 0 < x < math.inf)
        if 1 not in self.actions:
            raise ArenaError(f"actions are {self.actions}; give multipliers with 1 among them")
        for name, low in (("search_seeds", 1), ("search_rounds", 0), ("extensions", 0), ("law_seeds", 0)):
            count(getattr(self, name), name, "how many there are", low)
        for name in ("data", "elsewhere"):
            if not isinstance(getattr(self, name), str):
                raise ArenaError(f"{name} is {getattr(self, name)!r}; give a data set's name, file, folder or hub id")

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        return json.loads(json.dumps(dataclasses.asdict(self) | {"sizes": [list(size) for size in self.sizes]}))

    @staticmethod
    def from_json(content: Any, where: str) -> Plan:
        """Read a plan.

        Raises:
            ArenaError: no object, unknown fields, or values that make no study.

        Example:
            >>> Plan.from_json({"sizes": [[16, 1, 2], [32, 1, 2]], "tokens": [90000] * 2, "seeds": [1, 1]}, "x").sizes
            (Size(hidden=16, layers=1, heads=2), Size(hidden=32, layers=1, heads=2))
        """
        fields = {field.name for field in dataclasses.fields(Plan)}
        if not isinstance(content, dict):
            raise ArenaError(f"'{where}' is no plan: it is not an object {{field: value}}")
        for name in content:
            if name not in fields:
                raise ArenaError(f"'{where}' has a field '{name}' that no plan has; {nearest(name, fields)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        try:
            if "sizes" in values:
                values["sizes"] = tuple(Size(*size) for size in values["sizes"])
            return Plan(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, ArenaError):
                raise
            raise ArenaError(f"'{where}' is no plan ({error})") from None
