"""Which model gets which devices of a pool: the paper's equation 15, as an integer program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jax.sharding import Mesh
from scipy import optimize

from arena_jax.arena.pool import Kind
from arena_jax.config.errors import ArenaError, few
from arena_jax.runtime.devices import mesh_of

Solver = Literal["milp", "greedy", "random"]
_TRIES = 200


class Need(NamedTuple):
    """What a model's step takes on one kind of device.

    Attributes:
        model: its name.
        kind: title of the device.
        batch_size: examples per device.
        bytes: per device, everything.
        parameters: bytes of them, which devices exchange the gradients of.
        seconds: of a step on one device; measured, or the roofline's least.
    """

    model: str
    kind: str
    batch_size: int
    bytes: int
    parameters: int
    seconds: float


class Place(NamedTuple):
    """A sub-mesh for a model.

    Attributes:
        model: its name.
        kind: title of the devices.
        devices: how many.
        rate: examples per second.
        memory: bytes of all its devices: m_i, where the kind and number of devices are h_i.
    """

    model: str
    kind: str
    devices: int
    rate: float
    memory: int


class Placement(NamedTuple):
    """Everybody's place.

    Attributes:
        places: one for each model.
        value: Σ w·log(rate), what is maximised.
    """

    places: tuple[Place, ...]
    value: float


def options(needs: Sequence[Need], pool: Sequence[Kind]) -> list[Place]:
    """Every place that a model could have: the powers of two of the devices of each kind whose memory holds it.

    Each of n devices takes a whole batch, so that n of them take n times the examples. Between two steps they exchange
    gradients, 2(n − 1)/n times the parameters through each one's link (a ring).

    Args:
        needs: of each model on each kind; a kind that a model has no need for cannot take it.
        pool: the kinds.

    Returns:
        The places.

    Example:
        >>> pool = [Kind("a", 4, 100), Kind("b", 1, 10)]
        >>> needs = [Need("m", "a", 8, 50, 20, 2.0), Need("m", "b", 8, 50, 20, 1.0)]  # b's memory does not hold it
        >>> [(place.devices, place.rate) for place in options(needs, pool)]
        [(1, 4.0), (2, 8.0), (4, 16.0)]
    """
    places = []
    for need in needs:
        for kind in pool:
            if kind.title != need.kind or need.bytes > kind.memory:
                continue
            for devices in (2**power for power in range(kind.number.bit_length())):
                seconds = need.seconds + 2 * (devices - 1) / devices * need.parameters / kind.link
                rate = devices * need.batch_size / seconds
                places.append(Place(need.model, kind.title, devices, rate, devices * kind.memory))
    return places


def place(
    needs: Sequence[Need],
    pool: Sequence[Kind],
    weights: Mapping[str, float],
    *,
    solver: Solver = "milp",
    seed: int = 0,
) -> Placement:
    """Give every model devices of its own, by its weight.

    (m_i, h_i) = Allocate(M_i, λ_i, H):  max Σ_i w_i · log(rate_i)  with one place a model and no device twice

    w is the model's share, which follows its progress λ. The logarithm makes doubling a model's rate worth the same
    wherever it stands, as in the markets: nobody is left without a device, and twice the weight gets about twice the
    devices.

    Args:
        needs: of each model on each kind of device.
        pool: the kinds, each with another title.
        weights: ``{model: share}``, above 0.
        solver: ``"milp"``, the best there is (HiGHS); ``"greedy"``: one device each, then, again and again, whatever
            brings most per device more; ``"random"``, to compare with.
        seed: of ``"random"``.

    Returns:
        The placement.

    Raises:
        ArenaError: a model that no kind can hold, more models than devices can hold, or weights that are none.

    Example:
        >>> pool = [Kind("fast", 2, 100), Kind("slow", 4, 40)]
        >>> needs = [Need(m, k, 8, b, 0, s) for m, b in (("large", 90), ("small", 30))
        ...          for k, s in (("fast", 1.0), ("slow", 2.0))]
        >>> [(p.model, p.kind, p.devices) for p in place(needs, pool, {"large": 0.5, "small": 0.5}).places]
        [('large', 'fast', 2), ('small', 'slow', 4)]

    Source: ModelArena, equation 15; the objective is this project's.
    """
    titles = [kind.title for kind in pool]
    if len(set(titles)) < len(titles):
        raise ArenaError(f"the pool names a kind twice ({few(titles)}): add up its count")
    wrong = [name for name, weight in weights.items() if not 0 < weight < float("inf")]
    if wrong or not weights:
        raise ArenaError(f"weights must be above 0; that of {few(wrong)} is not" if wrong else "no model to place")
    if len(weights) > sum(kind.number for kind in pool):
        raise ArenaError(
            f"{len(weights)} models for {sum(kind.number for kind in pool)} devices: each needs one; give more devices"
        )
    possible = [option for option in options(needs, pool) if option.model in weights]
    homeless = [name for name in weights if not any(option.model == name for option in possible)]
    if homeless:
        raise ArenaError(
            f"no device of the pool holds {few(homeless)}: it has {few(titles)}; give others, or a smaller batch"
        )
    values = np.array([weights[option.model] * np.log(option.rate) for option in possible])
    match solver:
        case "milp":
            indices = _milp(possible, values, pool, list(weights))
        case "greedy":
            indices = _greedy(possible, values, pool, weights)
        case "random":
            indices = _random(possible, pool, list(weights), np.random.default_rng(seed))
    return Placement(tuple(possible[i] for i in indices), float(values[indices].sum()))


def sub_meshes(placement: Placement, devices: Sequence[Any]) -> dict[str, Mesh]:
    """Deal devices out as a placement says: disjoint meshes, a model each, for `arena_jax.training.make_step`.

    Args:
        placement: of the pool that these devices are.
        devices: such as ``jax.devices()``.

    Returns:
        ``{model: mesh}``; devices next to one another, in the order of the models.

    Raises:
        ArenaError: fewer devices of a kind than are placed.

    Example:
        >>> import jax
        >>> here = jax.devices()[0]
        >>> sub_meshes(Placement((Place("m", here.device_kind, 1, 1.0, 1),), 0.0), [here])["m"].size
        1
    """
    by_kind: dict[str, list[Any]] = {}
    for device in devices:
        by_kind.setdefault(device.device_kind, []).append(device)
    meshes = {}
    for spot in placement.places:
        free = by_kind.get(spot.kind, [])
        if len(free) < spot.devices:
            raise ArenaError(f"{spot.model} is to have {spot.devices} devices '{spot.kind}'; {len(free)} are left here")
        meshes[spot.model] = mesh_of(np.array(free[: spot.devices]))
        del free[: spot.devices]
    return meshes


def _milp(possible: Sequence[Place], values: np.ndarray, pool: Sequence[Kind], names: Sequence[str]) -> list[int]:
    one_each = np.array([[option.model == name for option in possible] for name in names], float)
    devices = np.array([[option.devices * (option.kind == kind.title) for option in possible] for kind in pool], float)
    answer = optimize.milp(
        -values,
        constraints=[
            optimize.LinearConstraint(one_each, 1, 1),
            optimize.LinearConstraint(devices, 0, [kind.number for kind in pool]),
        ],
        integrality=np.ones(len(possible)),
        bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": 1e-9},
    )
    if answer.x is None:
        raise _no_room(names)
    return [int(np.flatnonzero((answer.x > 0.5) & (row > 0))[0]) for row in one_each]


def _greedy(
    possible: Sequence[Place], values: np.ndarray, pool: Sequence[Kind], weights: Mapping[str, float]
) -> list[int]:
    free = {kind.title: kind.number for kind in pool}
    places: dict[str, int] = {}

    def room(i: int) -> int:
        """Devices free for an option, its model's present ones counted."""
        option, now = possible[i], places.get(possible[i].model)
        back = possible[now].devices if now is not None and possible[now].kind == option.kind else 0
        return free[option.kind] + back - option.devices

    def move(i: int) -> None:
        now = places.get(possible[i].model)
        if now is not None:
            free[possible[now].kind] += possible[now].devices
        free[possible[i].kind] -= possible[i].devices
        places[possible[i].model] = i

    # Who can go to the fewest kinds goes first; then the heaviest.
    kinds = {name: len({option.kind for option in possible if option.model == name}) for name in weights}
    for name in sorted(weights, key=lambda name: (kinds[name], -weights[name])):
        first = [i for i, o in enumerate(possible) if o.model == name and o.devices == 1 and room(i) >= 0]
        if not first:
            raise _no_room(list(weights))
        move(max(first, key=lambda i: values[i]))
    while True:
        best, most = None, 0.0
        for i, option in enumerate(possible):
            now = places[option.model]
            gain, more = values[i] - values[now], option.devices - possible[now].devices
            if gain > 1e-12 and room(i) >= 0 and gain / max(more, 0.5) > most:
                best, most = i, gain / max(more, 0.5)
        if best is None:
            return [places[name] for name in weights]
        move(best)


def _random(
    possible: Sequence[Place], pool: Sequence[Kind], names: Sequence[str], rng: np.random.Generator
) -> list[int]:
    for _ in range(_TRIES):
        free = {kind.title: kind.number for kind in pool}
        places: dict[str, int] = {}
        for name in rng.permutation(names):
            fitting = [i for i, o in enumerate(possible) if o.model == name and o.devices <= free[o.kind]]
            if not fitting:
                break
            i = int(rng.choice(fitting))
            places[str(name)] = i
            free[possible[i].kind] -= possible[i].devices
        else:
            return [places[name] for name in names]
    raise _no_room(names)


def _no_room(names: Sequence[str]) -> ArenaError:
    return ArenaError(f"the pool cannot hold all of {few(sorted(names))} at once; give more devices or fewer models")
