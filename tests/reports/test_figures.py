"""Figures show what the records hold, whatever they hold, and nothing else."""

from __future__ import annotations

import json
import math

import pytest
from matplotlib.figure import Figure

from arena_jax import ArenaError
from arena_jax.reports import draw
from arena_jax.reports.figures import panel
from arena_jax.runs.curves import COLOURS, model_names, series
from arena_jax.runs.records import FILE, Records


def a_run(models=("bert", "gpt2"), metric="accuracy"):
    yield {"kind": "start", "step": 0, "task": "sequence-classification", "models": {name: {} for name in models}}
    for step in range(1, 9):
        values = {name: {"loss": i + 1 / step, "learning_rate": 1e-3} for i, name in enumerate(models)}
        yield {"kind": "train", "step": step, "models": values}
        if step % 4 == 0:
            scores = {name: {"loss": i + 2 / step, metric: 0.5 + 0.01 * step} for i, name in enumerate(models)}
            yield {"kind": "evaluation", "step": step, "models": scores}


def write(folder, records):
    (folder / FILE).write_text("".join(json.dumps(record) + "\n" for record in records))


def lines_of(records, metric):
    axes = Figure().subplots()
    panel(axes, list(records), metric)
    return axes, axes.get_lines()


@pytest.mark.parametrize("metric", ["accuracy", "perplexity", "bits_per_byte", "f1", "entity_f1"])
def test_a_run_leaves_one_png_per_metric(metric, tmp_path):
    write(tmp_path, a_run(metric=metric))
    names = [path.name for path in draw(tmp_path)]
    assert names == ["loss.png", f"{metric}.png", "learning_rate.png", "overview.png"]
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_the_curves_are_the_records():
    axes, (bert_train, bert, gpt2_train, gpt2) = lines_of(a_run(), "loss")
    assert list(bert_train.get_ydata()) == [1 / step for step in range(1, 9)]
    assert list(bert.get_xdata()) == [4, 8]
    assert list(gpt2.get_ydata()) == [1.5, 1.25]
    assert (bert.get_color(), gpt2.get_color()) == COLOURS[:2]
    assert bert_train.get_linewidth() < bert.get_linewidth()
    assert gpt2_train.get_color() == gpt2.get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["bert", "gpt2", "validation", "training"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats)")


def test_shares_are_drawn_in_percent_and_rates_with_their_power_of_ten():
    axes, lines = lines_of(a_run(), "accuracy")
    assert list(lines[0].get_ydata()) == pytest.approx([54, 58])
    assert axes.get_ylabel() == "accuracy (%)"
    axes, _ = lines_of(a_run(), "learning_rate")
    assert axes.get_ylabel() == "learning rate ($10^{-3}$ per step)"


def test_what_is_not_finite_is_a_gap():
    records = [
        {"kind": "train", "step": s, "models": {"bert": {"loss": v}}} for s, v in enumerate([1.0, math.inf, 2.0])
    ]
    steps, values = series(records, "bert", "loss", "train")
    assert steps == [0, 1, 2]
    assert math.isnan(values[1])


def test_a_model_keeps_its_colour_where_another_has_no_values():
    records = [
        {"kind": "start", "step": 0, "models": {"bert": {}, "gpt2": {}}},
        {"kind": "evaluation", "step": 1, "models": {"gpt2": {"loss": 1.0}}},
    ]
    assert model_names(records) == ["bert", "gpt2"]
    _, (line,) = lines_of(records, "loss")
    assert line.get_color() == COLOURS[1]


def test_records_without_numbers_make_no_figure_and_missing_ones_an_error(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        records.write("start", 0, models={"bert": {"parameters": 3}})
    assert draw(tmp_path) == []
    with pytest.raises(ArenaError, match="cannot read the records"):
        draw(tmp_path / "nowhere")
    write(tmp_path, a_run())
    (tmp_path / "figures").rmdir()
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(ArenaError, match="cannot write figures"):
        draw(tmp_path)


def test_a_run_of_one_nan_is_drawn(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        records.write("train", 1, models={"bert": {"loss": math.nan, "learning_rate": 0.0, "accuracy": math.nan}})
        records.write("evaluation", 1, models={"bert": {"loss": math.inf, "perplexity": math.inf}})
    assert len(draw(tmp_path)) == 5
