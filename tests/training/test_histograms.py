"""Histograms beside NumPy's; in a run they are in its records, its events, its trackers and on its page."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from arena_jax import training
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import trackers
from arena_jax.runs.histograms import Histogram
from arena_jax.runs.records import Records, read
from arena_jax.runs.run_page import RunFacts, compose
from arena_jax.training.histograms import BINS, histogram
from arena_jax.training.metric_window import MetricWindow


@pytest.mark.parametrize("kind", ["normal", "integers", "constant", "with holes", "one bin's edges"])
def test_counts_are_numpys(kind):
    random = np.random.default_rng(0)
    values = {
        "normal": random.normal(size=5000),
        "integers": random.integers(-3, 61, 1000).astype(np.float64),
        "constant": np.full(7, -0.25),
        "with holes": np.concatenate([random.normal(size=99), [np.nan, np.inf, -np.inf]]),
        "one bin's edges": np.linspace(-1, 0.1, BINS + 1),
    }[kind]
    finite = values[np.isfinite(values)]
    expected, edges = np.histogram(finite, bins=BINS)
    with jax.enable_x64(True):
        halves = [jnp.asarray(values[: values.size // 2]), jnp.asarray(values[values.size // 2 :]).reshape(1, -1)]
        measured = jax.device_get(jax.jit(histogram)(*halves))
    if kind != "one bin's edges":  # there the last bit of each edge decides
        np.testing.assert_array_equal(measured["counts"], expected)
    assert measured["counts"].sum() == finite.size
    assert measured["nonfinite"] == values.size - finite.size
    mine = Histogram(float(measured["low"]), float(measured["high"]), measured["counts"].tolist())
    np.testing.assert_allclose(mine.edges, edges, rtol=0, atol=1e-15 * np.abs(edges).max())


def test_values_that_are_not_finite_alone_are_in_no_bin():
    measured = histogram(jnp.array([jnp.nan, jnp.inf]))
    assert (int(measured["counts"].sum()), int(measured["nonfinite"])) == (0, 2)


class Line(nnx.Module):
    def __init__(self):
        self.slope = nnx.Param(jnp.linspace(0.0, 1.0, 5))
        self.offset = nnx.Param(jnp.zeros(()))


def squares(model, batch, key, training_):
    error = model.slope[...][None] * batch["x"] + model.offset[...]
    return training.Result({"loss_sum": jnp.sum(error**2), "count": jnp.asarray(error.size, jnp.float32)}, {})


def line_step(**options):
    step = training.make_step(
        {"line": Line()}, optax.sgd(0.1), {"line": squares}, gradient_norms=True, skip_nonfinite=True, **options
    )
    return step, step.init(), {"line": {"x": np.ones((2, 5), np.float32)}}


def test_they_are_of_the_steps_own_gradients_and_new_weights_every_so_many_steps():
    step, state, batch = line_step(histograms_every=2)
    for number in (1, 2, 3):
        before = jax.device_get(state.params["line"])
        state, metrics = step(state, batch)
        measured = jax.device_get(metrics["line"]["histograms"])
        assert (measured["weights"]["slope"]["counts"].sum() > 0) == (number == 2)
        if number == 2:
            after = jax.device_get(state.params["line"])
            for kind, values in (
                ("weights", after),
                ("gradients", jax.tree.map(lambda a, b: (a - b) / 0.1, before, after)),
            ):
                slope = measured[kind]["slope"]
                assert slope["counts"].sum() == 5
                np.testing.assert_allclose(
                    [slope["low"], slope["high"]], [values["slope"].min(), values["slope"].max()], rtol=1e-5
                )


def test_without_them_the_program_is_the_same_as_ever():
    step, state, batch = line_step()
    _, metrics = step(state, batch)
    assert "histograms" not in metrics["line"]


def test_the_window_hands_on_those_that_were_taken():
    step, state, batch = line_step(histograms_every=2)
    window, seen = MetricWindow(), []
    for _ in range(4):
        state, metrics = step(state, batch)
        window.add({"line": metrics["line"] | {"learning_rate": 0.1}}, rows=2)
        seen.append(window.summary().get("histograms"))
    assert [entry is not None for entry in seen] == [False, True, False, True]
    json.dumps(seen)


class Notebook:
    def __init__(self):
        self.sent = {}

    def write(self, values, step, at):
        self.sent |= {(tag, step): value for tag, value in values.items()}

    def close(self):
        pass


def test_records_events_trackers_and_the_page_hold_them(tmp_path, monkeypatch):
    values = {"low": -1.0, "high": 1.0, "counts": [1, 0, 3, 0], "nonfinite": 0}
    recorded = {"bert": {"gradients": {"norms": values}, "weights": {"norms": values, "task head": values}}}
    run = presets.get("joint-synthetic")
    run = dataclasses.replace(run, training=dataclasses.replace(run.training, track=("trackio",)))
    notebook = Notebook()
    notebook.run = "first"
    monkeypatch.setitem(trackers._LIBRARIES, "trackio", lambda *arguments: notebook)
    with Records(tmp_path, trackers=trackers.open_trackers(tmp_path, run)) as records:
        records.write("train", 3, epoch=0.1, models={"bert": {"loss": 0.5}}, histograms=recorded)
    assert notebook.sent["train_gradients/bert/norms", 3] == Histogram(**values)
    assert notebook.sent["train_loss/bert", 3] == 0.5
    (record,) = read(tmp_path)
    assert record["histograms"] == recorded

    blocks = compose([RunFacts(tmp_path, run, [record])])
    charts = {block.title: block for block in blocks if getattr(block, "title", "").endswith("(% of a part's values)")}
    assert set(charts) == {"gradients of bert (% of a part's values)", "weights of bert (% of a part's values)"}
    line = charts["weights of bert (% of a part's values)"].lines[1]
    assert (line.name, line.x, line.y) == ("task head", [-0.75, -0.25, 0.25, 0.75], [25.0, 0.0, 75.0, 0.0])

    summary = _events(tmp_path)["train_weights/bert/task head"]
    assert list(summary.histo.bucket_limit) == [-0.5, 0.0, 0.5, 1.0]
    assert list(summary.histo.bucket) == [1.0, 0.0, 3.0, 0.0]
    assert (summary.histo.min, summary.histo.max, summary.histo.num) == (-1.0, 1.0, 4.0)


def _events(folder):
    """The events' values by tag, read as TensorFlow's record format is: length, checksum, data, checksum."""
    from tensorboardX.proto import event_pb2

    data, at, found = next((folder / "tensorboard").iterdir()).read_bytes(), 0, {}
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        found |= {value.tag: value for value in event.summary.value}
        at += 16 + length
    return found


@pytest.mark.parametrize("library", ["trackio", "wandb"])
def test_the_libraries_take_them(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed: pip install {library}")
    drawn = trackers._drawn({"a": Histogram(0.0, 1.0, [1, 3]), "b": 2.0}, module)
    assert drawn["b"] == 2.0
    assert list(drawn["a"].histogram) == [1, 3]
    assert list(drawn["a"].bins) == [0.0, 0.5, 1.0]


def test_a_competition_refuses_them():
    run = presets.get("arena-small")
    with pytest.raises(ArenaError, match=r"^a competition keeps no histograms: leave training.histograms out$"):
        dataclasses.replace(run, training=dataclasses.replace(run.training, histograms=True))
