"""What players are worth: textbook games, the axioms, the definitions spelled out, and shapiq."""

import itertools
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arena_jax import game, models
from arena_jax.config.errors import ArenaError


def table_game(table):
    """The game whose worths are listed by the bits of the coalition."""
    table = np.asarray(table, float)
    n = len(table).bit_length() - 1
    return (lambda s: table[s @ (1 << np.arange(n))]), n


def gloves(left, right):
    return lambda s: np.minimum(s[:, :left].sum(1), s[:, left:].sum(1)), left + right


def airport(costs):
    return lambda s: (s * np.asarray(costs)).max(axis=1, initial=0), len(costs)


def voting(quota, weights):
    return lambda s: s @ np.asarray(weights) >= quota, len(weights)


def fractions(text):
    return [float(Fraction(part)) for part in text.split()]


# Textbook values: glove market, airport problem (Littlechild and Owen 1973), voting (Shapley and Shubik 1954).
KNOWN = {
    "glove 1L2R": (gloves(1, 2), "2/3 1/6 1/6"),
    "glove 2L3R": (gloves(2, 3), "13/20 13/20 7/30 7/30 7/30"),
    "glove 3L4R": (gloves(3, 4), "67/105 67/105 67/105 19/70 19/70 19/70 19/70"),
    "airport 1..6": (airport([1, 2, 3, 4, 5, 6]), "1/6 11/30 37/60 19/20 29/20 49/20"),
    "[51; 50, 49, 1]": (voting(51, [50, 49, 1]), "2/3 1/6 1/6"),
    "[6; 4, 3, 2, 1]": (voting(6, [4, 3, 2, 1]), "5/12 1/4 1/4 1/12"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_shapley_of_textbook_games(name):
    (value, n), expected = KNOWN[name]
    exact = game.shapley(value, n, exact=True)
    np.testing.assert_allclose(exact.values, fractions(expected), atol=1e-14)
    assert exact.evaluations == 2**n
    assert (exact.standard_errors == 0).all()
    sampled = game.shapley(value, n, evaluations=4000, exact=False, seed=3)
    assert sampled.evaluations <= 4000
    assert (np.abs(sampled.values - exact.values) <= 4.5 * sampled.standard_errors + 1e-12).all()
    assert sampled.values.sum() == pytest.approx(float(value(np.ones((1, n), bool))[0]), abs=1e-12)


def tables(n):
    return arrays(np.float64, 2**n, elements=st.floats(-10, 10, width=32))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_axioms(data):
    n = data.draw(st.integers(2, 6))
    v, w = data.draw(tables(n)), data.draw(tables(n))
    a, b = data.draw(st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
    i, j = data.draw(st.permutations(range(n)))[:2]
    phi = {
        k: game.shapley(*table_game(t), exact=True).values for k, t in {"v": v, "w": w, "mix": a * v + b * w}.items()
    }
    tolerance = 1e-11 * (1 + np.abs(v).max() + np.abs(w).max())
    assert phi["v"].sum() == pytest.approx(v[-1] - v[0], abs=10 * tolerance)  # efficiency
    np.testing.assert_allclose(phi["mix"], a * phi["v"] + b * phi["w"], atol=10 * tolerance)  # linearity
    # symmetry: exchange i and j in the worths, and their values exchange
    members = game.coalitions(n)
    swapped = members.copy()
    swapped[:, [i, j]] = members[:, [j, i]]
    index = swapped @ (1 << np.arange(n))
    swapped_phi = game.shapley(*table_game(v[index]), exact=True).values
    np.testing.assert_allclose(swapped_phi[[i, j]], phi["v"][[j, i]], atol=10 * tolerance)
    # dummy: i adds a constant to whatever coalition it joins
    without = np.arange(2**n) & ~(1 << i)
    dummy = v[without] + a * members[:, i]
    for method in (game.shapley, game.banzhaf):
        assert method(*table_game(dummy), exact=True).values[i] == pytest.approx(a, abs=10 * tolerance)
    for method in (game.shapley, game.banzhaf):
        sampled = method(*table_game(dummy), evaluations=8 * n, exact=False, seed=1)
        assert sampled.values[i] == pytest.approx(a, abs=1e-9)


def test_exact_methods_equal_their_definitions():
    """Reference: Shapley by all n! orders, Banzhaf by the expectation over all coalitions."""
    n, keep = 5, 0.7
    table = np.random.default_rng(0).normal(size=2**n)
    value, _ = table_game(table)
    shapley, banzhaf = np.zeros(n), np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        seen = 0
        for player in order:
            shapley[player] += (table[seen | 1 << player] - table[seen]) / len(orders)
            seen |= 1 << player
    for s in range(2**n):
        chance = np.prod([keep if s >> i & 1 else 1 - keep for i in range(n)])
        banzhaf += [chance * (table[s | 1 << i] - table[s & ~(1 << i)]) for i in range(n)]
    np.testing.assert_allclose(game.shapley(value, n, exact=True).values, shapley, atol=1e-13)
    np.testing.assert_allclose(game.banzhaf(value, n, keep=keep, exact=True).values, banzhaf, atol=1e-13)
    last = game.leave_one_out(value, n)
    np.testing.assert_allclose(game.banzhaf(value, n, keep=1.0, exact=True).values, last.values, atol=1e-13)
    np.testing.assert_allclose(last.values, [table[-1] - table[2**n - 1 - (1 << i)] for i in range(n)])
    assert last.evaluations == n + 1


def test_shapiq_agrees():
    shapiq = pytest.importorskip("shapiq", reason="shapiq is the independent reference of this test only")
    n = 7
    value, _ = table_game(np.random.default_rng(1).normal(size=2**n))
    computer = shapiq.ExactComputer(lambda s: value(np.asarray(s)), n)
    np.testing.assert_allclose(
        game.shapley(value, n, exact=True).values, computer("SV").get_n_order_values(1), atol=1e-12
    )
    np.testing.assert_allclose(
        game.banzhaf(value, n, keep=0.5, exact=True).values, computer("BV").get_n_order_values(1), atol=1e-12
    )
    pairs = game.interactions(value, n, index="shapley")
    theirs = computer("SII", order=2).get_n_order_values(2)
    np.testing.assert_allclose(pairs.values, np.triu(theirs, 1) + np.triu(theirs, 1).T, atol=1e-12)


def pairwise_game(n, seed):
    rng = np.random.default_rng(seed)
    alone, together = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    shapley = alone + (together.sum(0) + together.sum(1)) / 2
    return (lambda s: s @ alone + ((s @ together) * s).sum(axis=1)), shapley, alone, together


def test_one_pair_of_orders_is_exact_for_pairwise_games():
    """Closed form: each gets its own worth and half of each of its interactions."""
    value, shapley, _, together = pairwise_game(64, 0)
    found = game.shapley(value, 64, evaluations=128, seed=5)
    assert found.evaluations == 128
    np.testing.assert_allclose(found.values, shapley, atol=1e-11)
    assert np.isnan(found.standard_errors).all()  # one sample cannot tell
    grand = game.interactions(value, 64)
    np.testing.assert_allclose(grand.values, together + together.T, atol=1e-11)
    assert grand.evaluations == 1 + 64 + 64 * 63 // 2


def test_balanced_banzhaf_is_exact_for_pairwise_games():
    value, _, alone, together = pairwise_game(32, 1)
    found = game.banzhaf(value, 32, keep=0.9, evaluations=10 * 33, seed=2)
    np.testing.assert_allclose(found.values, alone + 0.9 * (together.sum(0) + together.sum(1)), atol=1e-11)
    assert found.evaluations == 330


def test_sampled_methods_are_unbiased_and_know_their_error():
    """Reference: the exact values. Over 60 seeds the mean error is within 4 of its own errors, coverage is right."""
    n = 6
    value, _ = table_game(np.random.default_rng(2).normal(size=2**n))
    for method, budget in ((game.shapley, 122), (game.banzhaf, 140)):
        exact = method(value, n, exact=True).values
        runs = [method(value, n, evaluations=budget, exact=False, seed=seed) for seed in range(60)]
        errors = np.array([run.values - exact for run in runs])
        assert (np.abs(errors.mean(0)) < 4 * errors.std(0) / np.sqrt(60)).all()
        covered = [np.abs(run.values - exact) <= 2 * run.standard_errors for run in runs]
        assert np.mean(covered) > 0.88
        assert all(run.evaluations <= budget for run in runs)


def test_all_coalitions_are_evaluated_where_samples_would_cost_more():
    value, n = gloves(1, 2)
    for method in (game.shapley, game.banzhaf):
        found = method(value, n)
        assert found.evaluations == 8
        np.testing.assert_array_equal(found.values, method(value, n, exact=True).values)
        assert method(value, n, evaluations=7).samples == 1
        assert method(value, n, exact=False).samples > 1
        assert method(*airport(range(9))).samples > 1  # 512 coalitions are more than the default


def test_samples_that_all_agree_do_not_claim_to_be_sure():
    """The boss is paid unless two others or fewer come: no sample shows that these others matter."""
    n = 12

    def value(s):
        return s[:, 0] * 1.0 - s[:, 0] * (s[:, 1:].sum(axis=1) <= 2)

    truth = game.banzhaf(value, n, exact=True)
    found = game.banzhaf(value, n, evaluations=10 * (n + 1))
    assert found.values[1] == 0 < truth.values[1]
    low, high = found.interval()
    assert (low <= truth.values).all()
    assert (truth.values <= high).all()
    # The rule of three: 1 − 0.05^(1/10) of a range of 1.
    assert high[1] == pytest.approx(1 - 0.05**0.1)
    assert "+0 ± 0.13" in str(found)
    table = game.fine_players(models.preset("gpt2-tiny"), groups=2)
    assert game.choose(found, table, threshold=0.2) == ()
    orders = game.shapley(value, n, evaluations=2 + 22 * 3)
    assert (orders.standard_errors > 0).all()


def test_where_nothing_is_left_to_chance_one_sample_is_exact():
    value, n = table_game(np.random.default_rng(4).normal(size=2**9))
    last = game.leave_one_out(value, n)
    for keep, whole in ((1, True), (0, False)):
        found = game.banzhaf(value, n, keep=keep, evaluations=100)
        assert (found.evaluations, found.standard_errors.tolist()) == (n + 1, [0.0] * n)
        np.testing.assert_allclose(found.values, game.banzhaf(value, n, keep=keep, exact=True).values)
        if whole:
            np.testing.assert_array_equal(found.values, last.values)


def test_truncation_buys_orders():
    # Saturating: after a few players nothing is left to gain.
    def value(s):
        return 1 - 0.5 ** (3.0 * s.sum(axis=1))

    n = 20
    plain = game.shapley(value, n, evaluations=2000, seed=0)
    cut = game.shapley(value, n, evaluations=2000, seed=0, truncation=1e-3)
    assert cut.samples > 3 * plain.samples
    assert cut.evaluations <= 2000
    np.testing.assert_allclose(cut.values, 1 / n, atol=5 * cut.standard_errors.max() + 1e-3)
    assert cut.values.sum() == pytest.approx(1, abs=2e-3)
    assert cut.gap == pytest.approx(cut.values.sum() - (1 - 0.5**60), abs=1e-12)
    assert abs(plain.gap) < 1e-12 < abs(cut.gap)
    exact = game.shapley(value, n, evaluations=2000, seed=0, truncation=0.0)
    np.testing.assert_array_equal(exact.values, plain.values)
    # An order that is truncated before it begins must not loop for ever.
    flat = game.shapley(lambda s: np.zeros(len(s)), 4, evaluations=100, exact=False, truncation=1.0)
    assert flat.values.tolist() == [0, 0, 0, 0]


def test_same_seed_same_answer():
    value, _ = table_game(np.random.default_rng(3).normal(size=2**8))
    for method in (game.shapley, game.banzhaf):
        first, again, other = (method(value, 8, evaluations=100, seed=s).values for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_one_player():
    def value(s):
        return 3.0 * s[:, 0] + 1

    for result in (game.shapley(value, 1), game.banzhaf(value, 1), game.leave_one_out(value, 1)):
        assert result.values.tolist() == [3.0]
    assert game.interactions(value, 1).values.tolist() == [[0.0]]


def test_results_print_and_convert():
    result = game.with_names(game.shapley(*gloves(1, 2), exact=True), ["left", "right a", "right b"])
    assert "left     +0.666667 ± 0" in str(result)
    assert result.ranking().tolist() == [0, 1, 2]
    assert result.to_dict()["values"] == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    single = game.shapley(*gloves(1, 2), evaluations=6)
    assert single.to_dict()["standard_errors"] == [None, None, None]
    low, high = game.banzhaf(*gloves(1, 2), evaluations=400, exact=False).interval()
    assert (low <= high).all()


def sum_of(s):
    return s.sum(axis=1)


def raising(s):
    raise ZeroDivisionError("by\nzero")


def refusing(s):
    raise ArenaError("no such probe")


BAD = {
    "NaN": (lambda: game.shapley(lambda s: np.full(len(s), np.nan), 9), "returned nan for 2 of 2 coalitions"),
    "infinite": (lambda: game.banzhaf(lambda s: np.where(s.all(1), np.inf, 0), 3, exact=True), "the players [0, 1, 2]"),
    "shape": (lambda: game.leave_one_out(lambda s: s * 1.0, 3), "returned shape (4, 3) for 4 coalitions of 3 players"),
    "scalar": (lambda: game.interactions(lambda s: 1.0, 3), "return one number per coalition"),
    "column": (lambda: game.shapley(lambda s: s[:, :1] * 1.0, 9), "returned shape (2, 1) for 2 coalitions"),
    "nothing": (lambda: game.shapley(lambda s: None, 9), "returned shape () for 2 coalitions"),
    "complex": (
        lambda: game.banzhaf(lambda s: 1j * s.sum(1), 3),
        "did not return real numbers (they are of type compl",
    ),
    "digits": (lambda: game.leave_one_out(lambda s: ["1"] * len(s), 3), "did not return real numbers"),
    "dates": (lambda: game.interactions(lambda s: np.zeros(len(s), "M8[s]"), 3), "of type datetime64[s]"),
    "ragged": (lambda: game.shapley(lambda s: [[1], [1, 2]], 3), "did not return real numbers"),
    "raises": (
        lambda: game.leave_one_out(raising, 3),
        "asked for 4 coalitions of 3 players, raised ZeroDivisionError: by",
    ),
    "takes nothing": (lambda: game.banzhaf(lambda: 1, 3), "raised TypeError"),
    "its own line": (lambda: game.shapley(refusing, 3), "no such probe"),
    "text": (lambda: game.shapley(lambda s: ["a"] * len(s), 3), "did not return real numbers"),
    "too large": (lambda: game.shapley(sum_of, 17, exact=True), "the limit is 16"),
    "too large, Banzhaf": (lambda: game.banzhaf(sum_of, 40, exact=True), "the limit is 16"),
    "too large, pairs": (lambda: game.interactions(sum_of, 17, index="shapley"), "the limit is 16"),
    "too large, table": (
        lambda: game.update_game(np.zeros(2**17)),
        "needs 2^17 coalitions for 17 players; the limit is 16",
    ),
    "too large, list": (lambda: game.coalitions(17), "the limit is 16"),
    "no players": (lambda: game.coalitions(0), "n is 0; give the number of players"),
    "part of a player": (lambda: game.shapley(sum_of, 2.5), "n is 2.5; give the number of players"),
    "part of an evaluation": (lambda: game.shapley(sum_of, 3, evaluations=1e4), "evaluations is 10000.0"),
    "budget": (lambda: game.shapley(sum_of, 10, evaluations=19), "one pair of orders needs 20"),
    "budget, Banzhaf": (lambda: game.banzhaf(sum_of, 10, evaluations=10), "one sample needs 11"),
    "keep": (lambda: game.banzhaf(sum_of, 3, keep=1.5), "keep is 1.5"),
    "keep, text": (lambda: game.banzhaf(sum_of, 3, keep="a"), "keep is 'a'; give a probability"),
    "keep, NaN": (lambda: game.banzhaf(sum_of, 3, keep=np.nan), "keep is nan; give a probability"),
    "truncation, text": (lambda: game.shapley(sum_of, 9, truncation="1e-3"), "truncation is '1e-3'; give a difference"),
    "budget, text": (lambda: game.shapley(sum_of, 3, evaluations="100"), "evaluations is '100'"),
    "index": (lambda: game.interactions(sum_of, 3, index="banzhaf"), "known: grand, shapley"),
    "n": (lambda: game.shapley(sum_of, 0), "n is 0"),
    "not a function": (lambda: game.leave_one_out(3, 2), "must be a function"),
    "truncation": (lambda: game.shapley(sum_of, 3, truncation=-1.0), "truncation is -1.0"),
    "names": (lambda: game.with_names(game.leave_one_out(sum_of, 3), ["a"]), "1 names for 3 players"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case):
    call, message = BAD[case]
    with pytest.raises(ArenaError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_any_real_type_are_read():
    for answer in (jnp.ones(8, jnp.bfloat16), np.ones(8, np.float16), np.ones(8, bool), [1] * 8, (1.0,) * 8):
        found = game.banzhaf(lambda s, answer=answer: answer, 3, exact=True).values
        assert found.tolist() == [0, 0, 0]
        assert found.dtype == np.float64


def test_what_a_value_function_raises_stays_the_cause():
    with pytest.raises(ArenaError) as caught:
        game.leave_one_out(raising, 3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
