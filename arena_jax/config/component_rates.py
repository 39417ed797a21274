"""Learning rates by part of a model: the parts' names, the recipes, and how a text, a file or an object is read.

Plain data, without jax: the configuration and the command line need it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError, nearest

# The types of `game.type_players`: every parameter belongs to exactly one.
TYPES = ("token embedding", "position embedding", "norms", "query/key", "value/output", "feed-forward", "task head")
IN_BLOCKS = ("query/key", "value/output", "feed-forward")  # every block has its own, and nothing outside a block is one
EMBEDDINGS = ("token embedding", "position embedding")

# Wang et al. 2025: multiples of a base rate per kind; a position table counts as an embedding.
BLOCKWISE = {
    "token embedding": 10.0,
    "position embedding": 10.0,
    "norms": 1.0,
    "query/key": 8.0,
    "value/output": 4.0,
    "feed-forward": 6.0,
}

Rates = tuple[tuple[str, tuple[float, ...]], ...]


def geometric_mean(rates: Iterable[float]) -> float:
    """Of the numbers above 0; 1 if there is none.

    Example:
        >>> geometric_mean([8.0, 2.0, 0.0])
        4.0
    """
    logs = [math.log(rate) for rate in rates if rate > 0]
    return math.exp(math.fsum(logs) / len(logs)) if logs else 1.0


# Scaled, so that the head of a task, of which the recipe says nothing, keeps the run's rate.
RECIPES = {"blockwise": {kind: rate / geometric_mean(BLOCKWISE.values()) for kind, rate in BLOCKWISE.items()}}


def read_component_rates(text: str, where: str) -> Rates:
    """Read rates from the command line or from a file.

    Args:
        text: ``PART=X,…``, X a number or one per layer, ``8/4``; the name of a recipe; a JSON file, ``{part: X}`` or
            what ``arena-jax game learn`` writes; or "none".
        where: the option or field, for an error.

    Returns:
        (part, numbers) in the parts' order; one number is for all layers.

    Raises:
        ArenaError: neither; or a part or number that is none.

    Example:
        >>> read_component_rates("embeddings=10,query-key=8/4", "--component-rates")
        (('token embedding', (10.0,)), ('position embedding', (10.0,)), ('query/key', (8.0, 4.0)))
    """
    if text in ("", "none"):
        return ()
    if text in RECIPES:
        return settle_component_rates({kind: (rate,) for kind, rate in RECIPES[text].items()}.items(), where)
    if "=" in text and not Path(text).is_file():
        pairs = []
        for part in text.split(","):
            name, equals, numbers = part.partition("=")
            if not equals:
                raise ArenaError(f"{where} holds '{part.strip()}': write PART=X, several with commas between")
            try:
                pairs.append((name.strip(), tuple(float(number) for number in numbers.split("/"))))
            except ValueError:
                raise ArenaError(
                    f"{where} gives {name.strip()} '{numbers}': write a number, or one per layer, e.g. 8/4"
                ) from None
        return settle_component_rates(pairs, where)
    return settle_component_rates(_numbers(read_file(text, where)["component_rates"], text), f"{where} {text}:")


def read_file(path: str, where: str) -> dict[str, Any]:
    """What a file of rates holds, with ``component_rates`` an object.

    Raises:
        ArenaError: it is no recipe's name either, cannot be read, or holds no rates.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArenaError(
            f"{where} '{path}' is neither PART=X,… nor a file ({error.strerror or error}) nor a recipe;"
            f" {nearest(path, RECIPES)}"
        ) from None
    except ValueError as error:
        raise ArenaError(f"{where} '{path}' is not JSON ({error}): write {{part: number}}") from None
    if isinstance(content, dict) and "component_rates" not in content:
        content = {"component_rates": content}
    if not isinstance(content, dict) or not isinstance(content["component_rates"], dict):
        raise ArenaError(f"{where} '{path}' holds no rates: write one object, {{part: number}}")
    return content


def _numbers(rates: Mapping[str, Any], path: str) -> list[tuple[str, tuple[float, ...]]]:
    pairs = []
    for name, value in rates.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            raise ArenaError(f"{path} gives {name} {value!r}: write a number, or a list of one per layer")
        pairs.append((name, tuple(map(float, numbers))))
    return pairs


def settle_component_rates(pairs: Iterable[tuple[str, tuple[float, ...]]], where: str) -> Rates:
    """Check rates, and bring names and order into one form.

    Args:
        pairs: (part, numbers); "query-key" is "query/key", and "embeddings" both tables.
        where: what precedes in an error.

    Returns:
        The same under the types' names, in their order.

    Raises:
        ArenaError: a part that is none or stands twice, a number that is negative or not finite, several numbers for a
            part that is in no block, or no number above 0.
    """
    by_spelling = {name.replace(" ", "-").replace("/", "-"): (name,) for name in TYPES} | {"embeddings": EMBEDDINGS}
    rates: dict[str, tuple[float, ...]] = {}
    for part, numbers in pairs:
        spelling = part.replace(" ", "-").replace("/", "-")
        if spelling not in by_spelling:
            raise ArenaError(f"{where} names a part '{part}'; {nearest(spelling, by_spelling, most=8)}")
        for name in by_spelling[spelling]:
            if name in rates:
                raise ArenaError(f"{where} gives {name} twice; keep one")
            if not numbers or not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise ArenaError(f"{where} gives {part} {_text(numbers)}: write numbers that are at least 0")
            if len(numbers) > 1 and name not in IN_BLOCKS:
                raise ArenaError(
                    f"{where} gives {part} {len(numbers)} numbers: only {', '.join(IN_BLOCKS)} have one per layer; give"
                    " one number"
                )
            rates[name] = numbers
    if rates and not any(number > 0 for numbers in rates.values() for number in numbers):
        raise ArenaError(f"{where} holds no number above 0: use freeze for parts that stay as they are")
    return tuple((name, rates[name]) for name in TYPES if name in rates)


def _text(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:g}" for number in numbers) or "nothing"
