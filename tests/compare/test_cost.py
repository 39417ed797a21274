"""What a result cost: device-seconds and products by hand, and the steps of a tiny study measured."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.cli.main import main
from arena_jax.compare import plan_from
from arena_jax.compare.cost import StepCost, cost, of_steps
from arena_jax.config.errors import ArenaError
from arena_jax.reports import cost as page
from arena_jax.runtime.products import product_flops

STEPS = {
    "alone": StepCost([0.3] * 3, 9.0, 9.0),
    "alone, bert": StepCost([0.1] * 3, 4.0, 4.0),
    "alone, gpt2": StepCost([0.2] * 3, 5.0, 5.0),
    "full": StepCost([0.4, 0.4, 0.5], 9.0, 9.0),
}


@pytest.fixture
def plan():
    return plan_from(
        {
            "name": "costs",
            "base": "joint-synthetic",
            "change": {"models": ["bert", "gpt2"]},
            "seeds": 6,
            "baseline": "alone",
            "arms": {"alone": {"configure": "independent"}, "full": {}},
            "outcome": {"kind": "steps", "metric": "accuracy", "target": 0.9, "over": "worst"},
        }
    )


def record(bert, gpt2, last=100):
    """A run whose models reach the target at these steps."""
    points = [
        {"step": step, "models": {"bert": {"accuracy": float(step >= bert)}, "gpt2": {"accuracy": float(step >= gpt2)}}}
        for step in range(10, last + 1, 10)
    ]
    points = [point | {"seconds": 0.0, "compile_seconds": 0.0, "flops": None, "objective": {}} for point in points]
    return {"status": "finished", "steps": last, "curve": points}


def test_a_model_that_has_arrived_takes_no_more_steps_by_itself(plan):
    """Two models, 20 steps of 0.1 s and 50 of 0.2 s: 10 s on two devices held so long, 12 s one after the other."""
    cells = {"alone": [record(20, 50)] * 6, "full": [record(30, 30)] * 6}
    costs = of_steps(plan, cells, STEPS)
    ways = {way.name: way for way in costs.ways}
    assert list(ways) == ["alone", "full", "alone, in parallel", "alone, in sequence"]
    parallel, sequence, full = ways["alone, in parallel"], ways["alone, in sequence"], ways["full"]
    np.testing.assert_allclose([parallel.elapsed, parallel.device_seconds], [[10.0] * 6, [20.0] * 6])
    np.testing.assert_allclose([sequence.elapsed, sequence.device_seconds], [[12.0] * 6, [12.0] * 6])
    assert parallel.products == sequence.products == [20 * 4.0 + 50 * 5.0] * 6
    np.testing.assert_allclose([full.elapsed, full.device_seconds], [[12.0] * 6] * 2)
    assert full.products == [270.0] * 6
    assert costs.ratios["full", "alone, in parallel"]["device_seconds"].estimate == pytest.approx(0.6)
    assert costs.ratios["full", "alone, in sequence"]["elapsed"].estimate == pytest.approx(1.0)
    assert costs.ratios["full", "alone, in sequence"]["products"].estimate == pytest.approx(270 / 330)


def test_a_model_that_never_arrives_costs_without_end(plan, tmp_path):
    cells = {"alone": [record(20, 50)] * 6, "full": [record(30, math.inf)] * 6}
    costs = of_steps(plan, cells, STEPS)
    assert next(way for way in costs.ways if way.name == "full").device_seconds == [math.inf] * 6
    text = page.write(plan, costs, tmp_path)
    assert "∞" in text
    assert json.loads((tmp_path / "cost.json").read_text())["ways"][1]["elapsed"] == ["Infinity"] * 6
    assert (tmp_path / "cost.png").stat().st_size > 5000


def test_products_are_counted_where_they_run():
    """Once in a branch, four times in a scan of four turns; none in what only adds."""
    a = jnp.ones((2, 2))

    def program(a):
        turned, _ = jax.lax.scan(lambda x, _: (x @ x, None), a, length=4)
        return jax.lax.cond(a[0, 0] > 0, lambda x: x @ x, lambda x: x + 1, turned) + a

    assert product_flops(jax.make_jaxpr(program)(a).jaxpr) == 5 * 2 * 2 * 2 * 2
    endless = jax.make_jaxpr(lambda a: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, a))(a)
    with pytest.raises(ArenaError, match="a loop whose turns are not known"):
        product_flops(endless.jaxpr)


def test_what_costs_nothing_to_compare_is_refused(plan, tmp_path, capsys):
    result = {"tuning": {}, "cells": {}}
    shared = plan_from(
        {
            "name": "costs", "base": "joint-synthetic", "seeds": 6, "baseline": "full", "arms": {"full": {}, "alone": {
            "configure": "independent"}}, "outcome": {"kind": "steps", "metric": "accuracy", "target": 0.9,
            "over": "worst"},
        }
    )  # fmt: skip
    with pytest.raises(ArenaError, match="the models of the baseline 'full' share"):
        cost(shared, result)
    for option in ("--null", "--floors", "--keep-runs"):
        assert main(["compare", "cost", str(tmp_path), option]) == 2
        assert "--output alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arm", "outcome", "message"),
    [
        ({"together.relay": "gpt2"}, {}, "the arm 'full' is a relay: its steps are those of two runs"),
        ({"models.gpt2.resize": ["10:layers=1"]}, {}, "the arm 'full' changes models' shapes: its steps are not alike"),
        ({}, {"over": "mean"}, 'the target is of the models\' mean, .* outcome.over "worst"'),
    ],
)
def test_steps_of_several_kinds_and_goals_of_several_kinds_are_refused(arm, outcome, message):
    values = {
        "name": "costs",
        "base": "joint-synthetic",
        "seeds": 6,
        "baseline": "alone",
        "arms": {"alone": {"configure": "independent"}, "full": arm},
        "outcome": {"kind": "steps", "metric": "accuracy", "target": 0.9, "over": "worst"} | outcome,
    }
    with pytest.raises(ArenaError, match=message):
        cost(plan_from(values), {"tuning": {}, "cells": {}})


@pytest.mark.slow
def test_the_steps_of_a_study_are_measured(plan):
    """Of two tiny models: the joint step has the products of both, counted as its program has them."""
    cells = {"alone": [record(20, 50)] * 6, "full": [record(30, 30)] * 6}
    costs = cost(plan, {"tuning": {}, "cells": cells}, rounds=3)
    assert set(costs.steps) == set(STEPS)
    for name, step in costs.steps.items():
        if name == "full":
            assert step.counted < step.measured < 1.005 * step.counted  # sharing sums over layers as products
        else:
            assert step.counted == step.measured > 0
        assert len(step.seconds) == 3
        assert min(step.seconds) > 0
    both = costs.steps["alone, bert"].counted + costs.steps["alone, gpt2"].counted
    assert costs.steps["full"].counted == costs.steps["alone"].counted == both
