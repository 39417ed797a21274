"""Policies judged on curves: against lines worked out by hand, and from the command line."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.arena import policy
from arena_jax.arena.simulate import Curves
from arena_jax.cli import arena as command
from arena_jax.cli.main import main
from arena_jax.config.errors import ArenaError
from arena_jax.reports import simulation

SECONDS = jnp.linspace(0, 100, 401)
# Two runs of two models that learn along straight lines: with equal shares of 100 s each gets 50.
SLOPES = np.array([[0.01, 0.03], [0.02, 0.05]])
LINES = Curves(SECONDS, jnp.asarray(SLOPES[..., None] * np.asarray(SECONDS) - 5))


def give_all_to_the_second(history):
    return jnp.array([0.0, 1.0])


def test_scores_differences_and_regrets_of_straight_lines():
    table = simulation.judge(
        {"static": policy("static"), "second": give_all_to_the_second},
        LINES,
        budget=100.0,
        evaluations=4,
        reallocate_every=1,
    )
    equal = SLOPES * 50 - 5
    # The first of four intervals is shared, the other three are the second's: 12.5 and 87.5 seconds.
    second = SLOPES * [12.5, 87.5] - 5
    for name, values in (("static", equal), ("second", second)):
        assert table[name]["mean"].mean == pytest.approx(values.mean(), rel=1e-5)
        assert table[name]["best"].mean == pytest.approx(values[:, 1].mean(), rel=1e-5)
        assert table[name]["best − static"].mean == pytest.approx((values - equal)[:, 1].mean(), abs=1e-5)
        # The best fixed choice gives the steeper line everything.
        best = SLOPES[:, 1] * 100 - 5
        assert table[name]["best, regret"].mean == pytest.approx((best - values[:, 1]).mean(), abs=1e-4)
        assert table[name]["mean, regret"].mean == pytest.approx((best / 2 - 2.5 - values.mean(1)).mean(), abs=1e-4)
    assert table["second"]["best"].seeds == 2
    assert simulation.as_json(table)["second"]["best"][0] == table["second"]["best"].mean


def test_noise_is_the_same_for_all_and_its_draws_are_not_runs():
    tried = {"static": policy("static"), "again": policy("static")}
    table = simulation.judge(tried, LINES, budget=100.0, noise=5.0, repeats=8)
    assert table["again"]["best − static"].mean == 0
    assert table["static"]["best"].seeds == 2
    assert table["static"]["best"].mean < (SLOPES * 50 - 5)[:, 1].mean()  # noise puts the wrong one first at times


def test_the_sentence_says_no_more_than_was_shown():
    def last(table, runs=2):
        return simulation.blocks(table, "best", runs)[-1].text

    tried = {"static": policy("static"), "second": give_all_to_the_second}
    table = simulation.judge(tried, LINES, budget=100.0, evaluations=20, reallocate_every=1)
    assert "second is first, but that it is ahead of equal shares is not shown" in last(table)
    many = Curves(SECONDS, jnp.concatenate([LINES.scores] * 4))
    table = simulation.judge(tried, many, budget=100.0, evaluations=20, reallocate_every=1)
    assert "second is ahead of equal shares by" in last(table)
    alone = simulation.judge({"static": policy("static")}, LINES, budget=100.0)
    nobody = "By the score of the model put first, no policy is ahead of equal shares."
    assert last(alone, 1) == f"{nobody} One run: there is no interval over runs."
    with pytest.raises(ArenaError, match="'static' must be among"):
        simulation.judge({"second": give_all_to_the_second}, LINES, budget=100.0)


def test_the_command(tmp_path, capsys):
    assert tuple(simulation.OBJECTIVES) == command.OBJECTIVES
    lines = [
        f"{run},{name},{second},{slope * second - 5}"
        for run, slopes in enumerate(SLOPES)
        for name, slope in zip(("slow", "fast"), slopes, strict=True)
        for second in (0, 50, 100)
    ]
    curves, output = tmp_path / "curves.csv", tmp_path / "result.json"
    curves.write_text("\n".join(["run,model,seconds,score", *lines]))
    words = ["arena", "simulate", str(curves), "--policy", "modelarena", "--budget", "100", "--output", str(output)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 runs of 2 models, 100 device-seconds, noise 0" in printed
    result = json.loads(output.read_text())["recorded"]
    assert result["policies"]["static"]["best"][0] == pytest.approx((SLOPES * 50 - 5)[:, 1].mean(), rel=1e-5)
    assert list(result["policies"]) == ["modelarena", "static"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name either folders of competitions"),
        (["nowhere"], "there is no 'nowhere'"),
        (["--case", "noise", "--policy", "statik"], "did you mean 'static'"),
        (["--case", "noises"], "did you mean 'noise'"),
        (["--case", "noise", "--evaluations", "0"], "--evaluations must be at least 1"),
        (["--case", "noise", "--noise", "-1"], "--noise must be a number, not below 0"),
        (["--case", "noise", "--budget", "nan"], "--budget must be"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["arena", "simulate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
