"""Each model of a run by itself, beside the one number that a plan judges by."""

import math

import pytest

from arena_jax.compare import plan_from
from arena_jax.compare.by_model import by_model
from arena_jax.reports import comparison_figures


def record(status="finished", **steps):
    """A run whose models are at 90 % from so many steps on."""
    points = [
        {
            "step": step,
            "seconds": 1.0,
            "compile_seconds": 0.0,
            "models": {
                name: {"accuracy": 0.9 if step >= least else 0.5, "loss": 1 / step} for name, least in steps.items()
            },
        }
        for step in range(5, 55, 5)
    ]
    return {"status": status, "curve": points}


def plan(over="worst", **second):
    return plan_from(
        {
            "name": "two",
            "base": "joint-synthetic",
            "change": {"models": ["bert", "gpt2"]},
            "seeds": 6,
            "baseline": "slow",
            "arms": {"slow": {}, "fast": {"optimizer.learning_rate": 2e-3, **second}},
            "outcome": {"kind": "steps", "metric": "accuracy", "target": 0.9, "over": over},
        }
    )


def test_each_model_has_its_own_outcome_and_pairs():
    records = {"slow": [record(bert=20, gpt2=40)] * 6, "fast": [record(bert=10, gpt2=60)] * 6}
    rows = {(row["arm"], row["model"]): row for row in by_model(plan(), records)}
    assert list(rows) == [("slow", "bert"), ("slow", "gpt2"), ("fast", "bert"), ("fast", "gpt2")]
    assert rows["slow", "bert"]["outcomes"] == [20.0] * 6
    assert "against" not in rows["slow", "bert"]
    assert rows["fast", "bert"]["against"] == "slow"
    assert (rows["fast", "bert"]["estimate"], rows["fast", "bert"]["p"]) == (0.5, pytest.approx(2 / 2**6))
    assert rows["fast", "gpt2"]["outcomes"] == [math.inf] * 6  # never, which is no gap
    assert rows["fast", "gpt2"]["low"] == math.inf


def test_a_run_that_failed_leaves_no_estimate():
    records = {
        "slow": [record(bert=20, gpt2=40)] * 6,
        "fast": [record(bert=10, gpt2=20)] * 5 + [record("failed", bert=10, gpt2=20)],
    }
    rows = {(row["arm"], row["model"]): row for row in by_model(plan(), records)}
    assert math.isnan(rows["fast", "bert"]["outcomes"][-1])
    assert math.isnan(rows["fast", "bert"]["estimate"])
    assert rows["fast", "bert"]["p"] == 1.0


def test_a_model_is_compared_with_itself_only():
    records = {"slow": [record(bert=20, gpt2=40)] * 6, "fast": [record(bert=10)] * 6}
    rows = [(row["arm"], row["model"]) for row in by_model(plan(models=["bert"]), records)]
    assert rows == [("slow", "bert"), ("slow", "gpt2"), ("fast", "bert")]


def test_a_plan_of_one_model_has_no_more_to_say():
    assert by_model(plan(over="bert"), {"slow": [], "fast": []}) == []


def test_a_single_evaluation_is_drawn_as_a_point():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    fast_record = record(bert=10)
    shorter = fast_record | {"curve": fast_record["curve"][:1]}
    cells = {"slow": [record(bert=20)] * 2, "fast": [fast_record, shorter]}
    comparison_figures._draw_bands(axes, plan(models=["bert"]), {"cells": cells}, "accuracy", "bert", None)
    slow, fast = axes.lines
    assert (slow.get_marker(), fast.get_marker()) == ("None", "o")
    assert list(fast.get_xdata()) == [fast_record["curve"][0]["step"]]


def test_each_model_has_its_own_curves(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    lines = []
    monkeypatch.setattr(Axes, "plot", lambda axes, x, y, **look: lines.append((look["ls"], list(y))))
    monkeypatch.setattr(comparison_figures, "_draw_pairs", lambda plan, result, folder: None)
    records = {"slow": [record(bert=20, gpt2=40)] * 6, "fast": [record(bert=10, gpt2=60)] * 6}
    two = plan()
    result = {"cells": records, "by_model": by_model(two, records)}
    picture = comparison_figures.draw(two, result, tmp_path)[-1]
    assert picture.file == tmp_path / "models.png"
    assert picture.file.stat().st_size > 1000
    assert picture.caption.startswith("Accuracy and validation loss (nats) of each model alone, by steps")
    slow, fast = lines[2:4]  # bert's, behind those of the plan's own score
    assert slow == ("--", [0.5] * 3 + [0.9] * 7)  # the baseline is dashed
    assert fast == ("-", [0.5] + [0.9] * 9)
    assert lines[6] == ("--", [1 / step for step in range(5, 55, 5)])
