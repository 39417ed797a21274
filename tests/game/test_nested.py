"""Owen's and Myerson's values against the definitions, written out over all orders, and closed forms."""

import itertools

import numpy as np
import pytest

from arena_jax import game, models
from arena_jax.config.errors import ArenaError

N = 5
TABLE = np.random.default_rng(0).normal(size=2**N)
NESTED = [[0, 1], [2, [3, 4]]]


def random_game(members):
    return TABLE[np.asarray(members).astype(int) @ (1 << np.arange(N))]


def together(order, groups):
    """Whether every group's members stand side by side."""
    for group in groups:
        if isinstance(group, int):
            continue
        flat = list(np.ravel([x for member in group for x in (member if isinstance(member, list) else [member])]))
        places = sorted(order.index(i) for i in flat)
        if places[-1] - places[0] != len(flat) - 1 or not together(order, group):
            return False
    return True


def over_orders(value, n, orders):
    """The mean of what each adds to those before: the definition."""
    totals = np.zeros(n)
    for order in orders:
        members = np.zeros((n + 1, n), bool)
        for step, player in enumerate(order):
            members[step + 1 :, player] = True
        totals[list(order)] += np.diff(value(members))
    return totals / len(orders)


@pytest.mark.parametrize("groups", [[[0, 1], [2, 3, 4]], [0, [1, 4], [2, 3]], NESTED])
def test_owen_is_the_mean_over_orders_that_keep_groups_together(groups):
    orders = [order for order in itertools.permutations(range(N)) if together(order, groups)]
    values = game.owen(random_game, N, groups, exact=True)
    np.testing.assert_allclose(values.values, over_orders(random_game, N, orders), atol=1e-13)
    assert values.values.sum() == pytest.approx(TABLE[-1] - TABLE[0])
    assert values.evaluations <= 2**N
    # Members add up to the group's value in the game between the groups.
    of_groups = game.shapley(game.between(random_game, groups, N), len(groups), exact=True).values
    sums = [values.values[np.ravel(g) if g != NESTED[1] else [2, 3, 4]].sum() for g in groups]
    np.testing.assert_allclose(sums, of_groups, atol=1e-13)


def test_owen_with_one_group_or_groups_of_one_is_shapley():
    shapley = game.shapley(random_game, N, exact=True).values
    for groups in ([list(range(N))], [[i] for i in range(N)], list(range(N))):
        np.testing.assert_allclose(game.owen(random_game, N, groups, exact=True).values, shapley, atol=1e-13)


def test_sampled_orders_keep_groups_together():
    exact = game.owen(random_game, N, NESTED, exact=True).values
    sampled = game.owen(random_game, N, NESTED, evaluations=8000, exact=False, seed=1)
    assert (np.abs(sampled.values - exact) < 4 * sampled.standard_errors).all()
    assert sampled.gap == pytest.approx(0, abs=1e-12)
    shapley = game.shapley(random_game, N, exact=True).values
    assert np.abs(shapley - exact).max() > 10 * sampled.standard_errors.max()  # it is another value


def test_myerson_is_shapley_of_the_game_on_the_graph():
    edges = [(0, 1), (1, 2), (3, 4)]

    def on_graph(members):
        worth = []
        for row in members:
            left, total = set(np.flatnonzero(row)), 0.0
            while left:
                piece, border = set(), {min(left)}
                while border:
                    piece |= border
                    border = {b for a in border for e in edges if a in e for b in e} & left - piece
                left -= piece
                total += random_game(np.isin(np.arange(N), list(piece)))[()] - TABLE[0]
            worth.append(total)
        return np.array(worth)

    orders = list(itertools.permutations(range(N)))
    values = game.myerson(random_game, N, edges, exact=True)
    np.testing.assert_allclose(values.values, over_orders(on_graph, N, orders), atol=1e-13)
    # Component efficiency, and a complete graph.
    for piece in ([0, 1, 2], [3, 4]):
        worth = random_game(np.isin(np.arange(N), piece)) - TABLE[0]
        assert values.values[piece].sum() == pytest.approx(worth)
    everybody = list(itertools.combinations(range(N), 2))
    shapley = game.shapley(random_game, N, exact=True).values
    np.testing.assert_allclose(game.myerson(random_game, N, everybody, exact=True).values, shapley, atol=1e-13)


def test_groups_and_neighbours_of_a_model():
    table = game.fine_players(models.preset("gpt2-tiny", num_layers=3), groups=2)
    assert game.groups_of_blocks(table)[1] == [[6, 7, 8, 9], [10, 11]]
    pairs = {tuple(pair) for pair in game.neighbouring_parts(table).tolist()}
    assert (0, 5) in pairs
    assert (0, 11) in pairs
    assert (0, 12) not in pairs


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: game.owen(random_game, N, [[0, 1], [2, 3]]), "give each player from 0 to 4 once"),
        (lambda: game.owen(random_game, N, [[0, 1, 2], [2, 3, 4]]), "give each player from 0 to 4 once"),
        (lambda: game.owen(random_game, N, [[0, 1], "2"]), "groups hold '2'"),
        (lambda: game.owen(random_game, N, NESTED, evaluations=4, exact=False), "are too few for 5 players"),
        (lambda: game.owen(lambda s: s.sum(1), 18, [list(range(18))], exact=True), "the limit is 16"),
        (lambda: game.myerson(random_game, N, [[0, 5]]), "an edge joins players [0, 5]; there are 5"),
    ],
)
def test_mistakes(call, words):
    with pytest.raises(ArenaError) as error:
        call()
    assert words in str(error.value)


@pytest.mark.parametrize("edges", [[[0, 1, 3], [1, 2, 4]], [[0.0, 1.5]], [0, 1], [[0, 9]]])
def test_edges_that_can_be_read_in_two_ways_are_refused(edges):
    with pytest.raises(ArenaError, match=r"give whole numbers, \[edges, 2\]|an edge joins players"):
        game.myerson(lambda s: s.sum(1), 5, edges)
