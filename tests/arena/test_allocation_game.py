"""Equation 17 on curves whose equilibria are known, on nashpy's, and as a command."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.arena import allocation_game
from arena_jax.arena.allocation_game import analyze, claims_game, price_of_anarchy, progress_of_shares
from arena_jax.arena.simulate import Curves
from arena_jax.cli.main import main
from arena_jax.config.errors import ArenaError
from arena_jax.reports import allocation_analysis
from arena_jax.runs import document

AT = np.linspace(0, 1, 61)


def test_progress_is_the_equation_written_out():
    curves = Curves(np.array([0.0, 10.0, 20.0]), np.array([[-4.0, -2.0, np.nan], [-3.0, -1.0, -1.0]]))
    progress = progress_of_shares(curves, 40.0, steps=4)
    np.testing.assert_allclose(progress, [[0, 2 / 3, 0, 0, 0], [0, 1, 1, 1, 1]])


def test_a_game_is_its_equation_written_out():
    progress, claims, price = [[0.0, 1.0, 1.5], [0.0, 0.5, 2.0]], [0.25, 0.5, 1.0], 0.7
    tables, shares = claims_game(progress, claims, price)
    for i, a in enumerate(claims):
        for j, b in enumerate(claims):
            cut = max(1.0, a + b)
            first, second = a / cut, b / cut
            assert shares[i, j] == pytest.approx([first, second])
            assert tables[0][i, j] == pytest.approx(np.interp(first, [0, 0.5, 1], progress[0]) - price * first)
            assert tables[1][i, j] == pytest.approx(np.interp(second, [0, 0.5, 1], progress[1]) - price * second)


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 20), min_size=2, max_size=4))
def test_concave_progress_ends_equal_for_free_and_at_the_optimum_for_its_opportunity_cost(rates):
    progress = np.array([1 - np.exp(-rate * AT) for rate in rates])
    analysis = analyze(progress)
    free, cost, auction = analysis.equilibria
    assert cost.number
    assert price_of_anarchy(analysis, cost) >= 1
    assert cost.best_welfare == pytest.approx(analysis.welfare, rel=1e-3)
    assert auction.gap < 1e-6
    assert 1 - 1e-12 <= price_of_anarchy(analysis, auction) <= 4 / 3 + 1e-9
    assert free.number
    np.testing.assert_allclose(free.shares, 1 / len(rates), atol=1e-9)
    assert free.welfare == pytest.approx(analysis.equal)


@settings(max_examples=20)
@given(st.permutations(range(3)))
def test_the_order_of_the_models_does_not_matter(order):
    progress = np.array([1 - np.exp(-rate * AT) for rate in (1.0, 4.0, 12.0)])
    first, second = analyze(progress), analyze(progress[list(order)])
    np.testing.assert_allclose(second.optimum, first.optimum[list(order)])
    for one, other in zip(first.equilibria, second.equilibria, strict=True):
        np.testing.assert_allclose(other.shares, one.shares[list(order)], atol=1e-9)
        assert other.welfare == pytest.approx(one.welfare)


@pytest.mark.filterwarnings("ignore")
def test_every_equilibrium_of_two_models_is_one_of_nashpys(monkeypatch):
    nashpy = pytest.importorskip("nashpy", reason="nashpy is the independent reference of this test only")
    monkeypatch.setattr(allocation_game, "_MOST_STRATEGIES", 5)  # nashpy tries every pair of supports
    kinds = set()
    for seed in range(6):
        progress = np.random.default_rng(seed).normal(size=(2, 61)).cumsum(axis=1)
        progress -= progress[:, :1]
        analysis = analyze(progress)
        for equilibrium in analysis.equilibria[:2]:
            claims = allocation_game._claims(analysis.optimum, 2)
            tables, shares = claims_game(progress, claims, equilibrium.price)
            welfare = sum(tables) + equilibrium.price * shares.sum(-1)
            theirs = [x @ welfare @ y for x, y in nashpy.Game(*tables).support_enumeration()]
            assert min(abs(value - equilibrium.welfare) for value in theirs) < 1e-8
            kinds.add(equilibrium.mixed)
    assert False in kinds


def test_nothing_to_learn_is_no_division_by_zero():
    analysis = analyze(np.zeros((2, 61)))
    assert [price_of_anarchy(analysis, equilibrium) for equilibrium in analysis.equilibria] == [1.0, 1.0, 1.0]
    worse = analyze(np.array([-AT, AT]))
    assert worse.optimum.tolist() == [0.0, 1.0]


def test_an_auction_in_which_another_bid_gains_is_no_equilibrium():
    late = np.array([np.maximum(0, 2 * AT - 1), 1 - np.exp(-3 * AT)])  # nothing is learned from less than half
    runs = allocation_analysis.AnalysisOfRuns(analyze(late), (analyze(late), analyze(1 - np.exp(-3 * late))))
    auction = runs.mean.equilibria[2]
    assert auction.number == 0
    assert auction.gap > 1e-3
    assert runs.anarchy(2).seeds == 0
    said = document.text(allocation_analysis.blocks(runs, ["late", "early"], 1.0, []))
    assert "auction: some curve rises faster later" in said
    assert "auction: no equilibrium" not in said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analyze(np.zeros((1, 61))), "two models or more"),
        (lambda: claims_game(np.zeros((9, 3)), np.linspace(0, 1, 9), 0.0), "fewer claims or models"),
        (lambda: progress_of_shares(Curves(AT, np.zeros((2, 61))), 0.0), "device-seconds above 0"),
    ],
)
def test_what_is_no_game_is_refused(call, message):
    with pytest.raises(ArenaError, match=message):
        call()


def test_the_command(tmp_path, capsys):
    lines = ["run,model,seconds,score"]
    for run, rates in enumerate(((0.3, 0.05), (0.25, 0.06), (0.35, 0.04))):
        for name, rate in zip(("fast", "slow"), rates, strict=True):
            lines += [f"{run},{name},{s},{-4 + 2 * (1 - np.exp(-rate * s))}" for s in range(0, 41, 2)]
    table = tmp_path / "curves.csv"
    table.write_text("\n".join(lines) + "\n")
    assert main(["arena", "analyze", str(table), "--budget", "40", "--output", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    for words in ("best division", "equal shares", "free", "opportunity cost", "auction", "price of anarchy of 3 runs"):
        assert words in said
    assert "not measured" not in said
    assert main(["arena", "analyze", str(table)]) == 0  # both models have 40 s of the 80 s of the run
    said = " ".join(capsys.readouterr().out.split())
    assert "than 40 s of the budget of 80 s: shares above 50% were not measured" in said
    told = json.loads((tmp_path / "out.json").read_text())
    shares = told["best division"]["shares"]
    assert shares["fast"] < 0.5 < shares["slow"]
    assert told["equilibria"]["free"]["shares"]["fast"] == pytest.approx(0.5)
    assert 1 <= told["equilibria"]["auction"]["price of anarchy"][0] <= 4 / 3
    assert main(["arena", "analyze", str(tmp_path / "none")]) == 2
    assert main(["arena", "analyze", str(table), "--budget", "-1"]) == 2
