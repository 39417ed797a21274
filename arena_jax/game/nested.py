"""Players in groups, or on a graph: Owen's value, of any depth of nesting, and Myerson's."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, ask, count, random
from arena_jax.game.coalitions import EXACT_LIMIT, Oracle, Value, Values
from arena_jax.game.players import PlayerTable
from arena_jax.game.worth import average, shapley, walk

Groups = Sequence[Any] | Array  # players' numbers, and sequences of such


def owen(
    value: Value,
    n: int,
    groups: Groups,
    *,
    evaluations: int | None = None,
    seed: int = 0,
    exact: bool | None = None,
) -> Values:
    """Share v(N) − v(∅) between groups, then within each: Shapley's mean over the orders that keep groups together.

    The values of a group's members add up to the Shapley value of the group in the game between the groups. Groups may
    hold groups: with model → block → part this is Winter's value of a game with levels.

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.
        groups: every player once: numbers from 0, in sequences of any depth, such as ``[[0, 1], [2, [3, 4]]]``.
        evaluations: how many coalitions may be evaluated; a pair of orders, one the reverse of the other, costs 2(n−1),
            and 2 more are needed once. Default: 20 pairs.
        seed: of the orders.
        exact: evaluate all that orders can bring (a player's siblings at each level: at most 16 of them in all).
            Default: where that takes no more than ``evaluations``.

    Returns:
        Values; standard errors over pairs.

    Raises:
        ArenaError: groups that do not hold every player once, too few evaluations, too many players for ``exact``, or a
            value function that misbehaves.

    Example:
        >>> glove = lambda s: np.minimum(s[:, 0], s[:, 1] | s[:, 2])  # one left glove, two right ones
        >>> owen(glove, 3, [[0], [1, 2]]).values.tolist()  # the right ones bargain as one
        [0.5, 0.25, 0.25]

    Source: Owen 1977; Winter 1989 for levels.
    """
    oracle = Oracle(value, n)
    if sorted(_members(groups)) != list(range(n)):
        raise ArenaError(f"groups hold {sorted(_members(groups))}; give each player from 0 to {n - 1} once")
    if evaluations is None:
        evaluations = 2 + 40 * (n - 1)
    count(evaluations, "evaluations", "how many coalitions may be evaluated")
    levels = [list(_siblings(groups, i)) for i in range(n)]
    most = max(sum(map(len, siblings)) for siblings in levels)
    cost = sum(2 ** (1 + sum(map(len, siblings))) for siblings in levels)
    if exact or (exact is None and most <= EXACT_LIMIT and cost <= evaluations) or n == 1:
        if most > EXACT_LIMIT:
            raise ArenaError(
                f"an exact value needs 2^{most} coalitions of a player's siblings; the limit is {EXACT_LIMIT}"
            )
        return _exact(oracle, levels)
    pairs = (evaluations - 2) // max(1, 2 * (n - 1))
    if pairs < 1:
        raise ArenaError(f"{evaluations} evaluations are too few for {n} players; one pair of orders needs {2 * n}")
    v_none, v_all = oracle(np.stack([np.zeros(n, bool), np.ones(n, bool)]))
    rng = random(seed)
    orders = np.array([list(_members(_shuffled(groups, rng))) for _ in range(pairs)])
    marginals = walk(oracle, np.concatenate([orders, orders[:, ::-1]]), v_none, v_all)
    result = average((marginals[:pairs] + marginals[pairs:]) / 2, oracle, "Owen (antithetic orders)")
    return dataclasses.replace(result, gap=float(result.values.sum() - (v_all - v_none)))


def myerson(
    value: Value,
    n: int,
    edges: Any,
    *,
    evaluations: int | None = None,
    seed: int = 0,
    exact: bool | None = None,
) -> Values:
    """Shapley's value where only those work together who are joined: a coalition is worth the sum of its pieces.

    Each connected piece C of a coalition adds v(C) − v(∅).

    Args:
        value: (m, n) booleans → (m,) numbers.
        n: number of players.
        edges: (edges, 2) pairs of players who can work together.
        evaluations: coalitions of the game on the graph, as in :func:`shapley`; the result counts those of ``value``.
        seed: of the orders.
        exact: as in :func:`shapley`.

    Returns:
        Values, which add up to the worth of everybody's pieces, less v(∅) for each.

    Raises:
        ArenaError: an edge to nobody, or what :func:`shapley` raises.

    Example:
        >>> both = lambda s: s.all(axis=1).astype(float)  # it takes three
        >>> myerson(both, 3, [[0, 1], [1, 2]]).values.round(4).tolist()
        [0.3333, 0.3333, 0.3333]
        >>> pair = lambda s: s[:, 0] & s[:, 2]  # the two at the ends need the one between
        >>> myerson(pair, 3, [[0, 1], [1, 2]]).values.round(4).tolist()
        [0.3333, 0.3333, 0.3333]

    Source: Myerson 1977.
    """
    pairs = np.asarray(edges)
    if not pairs.size:
        pairs = np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ArenaError(f"edges are {pairs.dtype} {list(pairs.shape)}; give whole numbers, [edges, 2]")
    oracle = Oracle(value, n)
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= n):
        raise ArenaError(
            f"an edge joins players {pairs[((pairs < 0) | (pairs >= n)).any(1)][0].tolist()}; there are {n}"
        )
    memory: dict[bytes, float] = {}

    def on_graph(members: Array) -> Array:
        pieces = [_pieces(row, pairs) for row in np.asarray(members, bool)]
        new = {piece.tobytes(): piece for row in pieces for piece in row if piece.tobytes() not in memory}
        if new:
            memory.update(zip(new, oracle(np.array([*new.values()])) - none, strict=True))
        return np.array([sum(memory[piece.tobytes()] for piece in row) for row in pieces])

    none = float(oracle(np.zeros((1, n), bool))[0])
    result = shapley(on_graph, n, evaluations=evaluations, seed=seed, exact=exact)
    return dataclasses.replace(
        result, method=result.method.replace("Shapley", "Myerson"), evaluations=oracle.evaluations
    )


def between(value: Value, groups: Groups, n: int) -> Value:
    """The game between groups: a coalition of groups is that of all their players.

    Args:
        value: (m, n) booleans → (m,) numbers.
        groups: as in :func:`owen`; the outermost ones play.
        n: number of players.

    Returns:
        A value function of (m, groups) booleans.

    Example:
        >>> game_of_groups = between(lambda s: s.sum(axis=1), [[0, 1], [2]], 3)
        >>> game_of_groups(np.array([[True, False], [False, True]])).tolist()
        [2, 1]
    """
    member_of = np.zeros((len(groups), n), bool)
    for row, group in zip(member_of, groups, strict=True):
        row[list(_members(group if isinstance(group, Sequence) else [group]))] = True

    def group_value(members: Array) -> Any:
        return ask(value, "the value function", (np.asarray(members, bool).astype(int) @ member_of) > 0)

    return group_value


def groups_of_blocks(table: PlayerTable) -> list[list[list[int]]]:
    """A model's players by block, and in each the heads and the neurons.

    Args:
        table: of heads and groups of neurons.

    Example:
        >>> from arena_jax import models
        >>> from arena_jax.game import fine_players
        >>> groups_of_blocks(fine_players(models.preset("gpt2-tiny"), 2))[0]
        [[0, 1, 2, 3], [4, 5]]
    """
    blocks = range(table.config.num_layers)
    kinds = tuple(dict.fromkeys(table.kinds))
    return [
        [[i for i, p in enumerate(table.players) if (p.layer, p.kind) == (layer, kind)] for kind in kinds]
        for layer in blocks
    ]


def neighbouring_parts(table: PlayerTable) -> Array:
    """Who can hand on to whom: (edges, 2) pairs of players of one block, or of two that follow each other.

    Args:
        table: of heads and groups of neurons.
    """
    layers = np.array([player.layer for player in table.players])
    i, j = np.triu_indices(len(table), 1)
    return np.stack([i, j], axis=1)[np.abs(layers[i] - layers[j]) <= 1]


def _members(groups: Groups) -> Iterator[int]:
    for group in groups:
        if isinstance(group, Sequence | np.ndarray) and not isinstance(group, str):
            yield from _members(group)
        elif isinstance(group, int | np.integer) and not isinstance(group, bool):
            yield int(group)
        else:
            raise ArenaError(f"groups hold {group!r}; give players' numbers, in sequences")


def _siblings(groups: Groups, player: int) -> Iterator[list[list[int]]]:
    """At each level above a player, the members of each group beside its own."""
    whole = [list(_members([group])) for group in groups]
    here = next(i for i, members in enumerate(whole) if player in members)
    yield whole[:here] + whole[here + 1 :]
    if isinstance(groups[here], Sequence | np.ndarray):
        yield from _siblings(groups[here], player)


def _shuffled(groups: Groups, rng: Any) -> list[Any]:
    inner = [_shuffled(g, rng) if isinstance(g, Sequence | np.ndarray) else g for g in groups]
    return [inner[i] for i in rng.permutation(len(inner))]


def _exact(oracle: Oracle, levels: list[list[list[list[int]]]]) -> Values:
    """Everybody's contribution to each set that can come before, by its probability; sets are evaluated once."""
    n = oracle.n
    places: dict[bytes, int] = {}
    rows: list[Array] = []

    def place(row: Array) -> int:
        if row.tobytes() not in places:
            places[row.tobytes()] = len(rows)
            rows.append(row.copy())
        return places[row.tobytes()]

    terms: list[list[tuple[float, int, int]]] = []
    for player, siblings in enumerate(levels):
        choices = [list(itertools.product((False, True), repeat=len(level))) for level in siblings]
        terms.append([])
        for chosen_sets in itertools.product(*choices):
            weight, before = 1.0, np.zeros(n, bool)
            for level, present in zip(siblings, chosen_sets, strict=True):
                weight /= (len(level) + 1) * math.comb(len(level), sum(present))
                for members, inside in zip(level, present, strict=True):
                    before[members] |= inside
            without = place(before)
            before[player] = True
            terms[-1].append((weight, place(before), without))
    v = oracle(np.array(rows))
    values = np.array([math.fsum(w * (v[after] - v[before]) for w, after, before in row) for row in terms])
    return Values(values, np.zeros(n), oracle.evaluations, "Owen (exact)")


def _pieces(row: Array, edges: Array) -> list[Array]:
    """The connected pieces of a coalition, as coalitions."""
    n = len(row)
    inside = edges[row[edges].all(axis=1)]
    graph = coo_array((np.ones(len(inside)), (inside[:, 0], inside[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    return [(labels == label) & row for label in np.unique(labels[row])]
