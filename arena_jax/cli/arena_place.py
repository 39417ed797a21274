"""`arena-jax arena place`: which model gets which devices of a described pool."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arena_jax.cli import plan_file
from arena_jax.config.errors import ArenaError, nearest

_RANDOM_DRAWS = 100


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Add the action.

    Args:
        actions: of `arena-jax arena`, where it is added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        "place",
        help="which model gets which GPUs of a pool that need not be here",
        description="Place models on a pool of devices of several kinds (equation 15 of ModelArena) by an integer "
        "program, and say what a greedy and a random placement lose. Bytes and step times are those of plans: one for "
        "each kind, of `arena-jax plan … --device KIND --output FILE.json`; steps are the roofline's, so rates are "
        "upper bounds.",
    )
    parser.add_argument("plans", nargs="+", metavar="PLAN.json", help="of the models, one for each kind of GPU")
    parser.add_argument(
        "--pool",
        required=True,
        metavar="FILE",
        help='TOML, a table a kind: [a100-40gb] and count = 16, memory = "38GB", link = bytes per second; or here: '
        "the devices of this machine",
    )
    parser.add_argument(
        "--shares", metavar="NAME=PART,…", help="what the models' rates are weighted by, e.g. bert=0.3,gpt2=0.7 [equal]"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random placements [0]")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    import numpy as np

    from arena_jax.arena.placement import Solver, place
    from arena_jax.arena.pool import pool_here, read_pool
    from arena_jax.runs import document
    from arena_jax.runtime.memory import format_bytes

    needs = [need for plan in arguments.plans for need in _needs(plan)]
    pool = pool_here() if arguments.pool == "here" else read_pool(Path(arguments.pool))
    weights = _weights(arguments.shares, sorted({need.model for need in needs}))
    best = place(needs, pool, weights)
    rows = [
        (
            spot.model,
            f"{weights[spot.model]:.1%}",
            f"{spot.devices} × {spot.kind}",
            format_bytes(spot.memory),
            f"{spot.rate:,.0f}",
        )
        for spot in best.places
    ]
    header = ("model", "share", "devices", "memory", "examples/s at most")
    total = sum(weights.values())

    def behind(value: float) -> str:
        """The weighted geometric mean of the rates, beside the best's."""
        return f"{math.exp((value - best.value) / total):.3f}"

    def value_of(solver: Solver, seed: int = 0) -> float | None:
        """What another solver reaches; None where it walks into a corner."""
        try:
            return place(needs, pool, weights, solver=solver, seed=seed).value
        except ArenaError:
            return None

    greedy = value_of("greedy")
    tries = [value_of("random", arguments.seed + i) for i in range(_RANDOM_DRAWS)]
    draws = [value for value in tries if value is not None]
    used = {kind.title: sum(s.devices for s in best.places if s.kind == kind.title) for kind in pool}
    remarks = [
        "greedy finds no placement"
        if greedy is None
        else f"greedy reaches {behind(greedy)} of these rates in their weighted geometric mean",
        f"{len(draws)} of {_RANDOM_DRAWS} random placements are possible"
        + (f": {behind(float(np.mean(draws)))} in the mean, the best of them {behind(max(draws))}" if draws else ""),
        *(f"{kind.title}: {used[kind.title]} of {kind.number} in use" for kind in pool),
    ]
    print(document.text([document.Table(header, rows, numbers=3), document.Items(remarks)]))
    return 0


def _needs(path: str) -> Sequence[Any]:
    """What a plan says of each of its models alone."""
    from arena_jax.arena.placement import Need

    plan = plan_file.content_of(path)
    try:
        return [
            Need(
                model=name,
                kind=str(plan["device"]["title"]),
                batch_size=int(size),
                bytes=int(need["total"]),
                parameters=int(need["parameters"]),
                seconds=float(need["least_seconds"]),
            )
            for need in plan["needs"]
            if len(need["batch_sizes"]) == 1
            for name, size in need["batch_sizes"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArenaError(f"'{path}' holds no needs of models ({error}): plan again") from None


def _weights(text: str | None, names: Sequence[str]) -> dict[str, float]:
    if text is None:
        return dict.fromkeys(names, 1 / max(len(names), 1))
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in names:
            raise ArenaError(f"--shares names '{name}', which no plan has; {nearest(name, names)}")
        if name in weights:
            raise ArenaError(f"--shares names '{name}' twice; give each model one part")
        try:
            weights[name] = float(value)
        except ValueError:
            raise ArenaError(f"--shares: '{part}' must be NAME=PART, such as bert=0.3") from None
    missing = [name for name in names if name not in weights]
    if missing:
        raise ArenaError(f"--shares lacks '{missing[0]}'; give each model one, or leave --shares out")
    return weights
