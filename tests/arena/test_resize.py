"""Models of a competition that change their shape: by plan or by their progress, resumed to the bit, within memory."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from arena_jax import models, training
from arena_jax.arena import history as histories
from arena_jax.arena.reallocation import counts_in_force
from arena_jax.arena.resize import check_others, part_of, progress_since, threshold_changes
from arena_jax.config.errors import ArenaError
from arena_jax.runs import load_run
from arena_jax.runs.records import read
from arena_jax.runtime.memory import device_bytes
from tests.arena import tiny as tiny_file
from tests.arena.tiny import assert_killed_and_resumed_is, assert_same_arrays, final_state, records, tiny


def train(config, output, **options):
    """Shapes change: no program may be taken from another shape's run."""
    return tiny_file.competition.train(config, output, **options)


def growing():
    config = tiny(gpt2={"resize": ("2:layers=2",)})
    bert, gpt2 = config.models
    return dataclasses.replace(config, models=(dataclasses.replace(bert, resize=("4:neurons=8",)), gpt2))


# ---- which models change ----


def world(scores, resized=None, **arena):
    """What `threshold_changes` looks at, of models of 64 neurons, 4 heads and 2 layers."""
    names = tuple("abcdefgh"[: np.shape(scores)[1]])
    model = SimpleNamespace(config=models.preset("gpt2-tiny"))
    fields = {"grow_above": None, "prune_below": None, "resize_by": None, "progress_window": None, **arena}
    setup = SimpleNamespace(
        arena=SimpleNamespace(**fields), names=names, parts=SimpleNamespace(models=dict.fromkeys(names, model))
    )
    history = histories.start(scores[0])
    for row in scores[1:]:
        equal = np.full(len(names), 1 / len(names))
        history = histories.extend(history, scores=row, shares=equal, seconds=equal, steps=equal, fraction=0.5)
    return setup, SimpleNamespace(history=history, resized=resized or {})


def test_who_is_above_grows_and_who_is_below_is_pruned():
    """Equation 1 by hand: 1 / (1 + 2) for a, 0.1 / (1 + 2.9) for b, −0.5 / (1 + 3.5) for c."""
    scores = [[-3.0, -3.0, -3.0], [-2.0, -2.9, -3.5]]
    assert progress_since(world(scores)[1], 0, 0, 5) == pytest.approx(1 / 3)
    assert threshold_changes(*world(scores)) == {}
    assert threshold_changes(*world(scores, grow_above=0.3)) == {"a": (("neurons", 80),)}
    assert threshold_changes(*world(scores, grow_above=0.4)) == {}
    assert threshold_changes(*world(scores, grow_above=0.3, prune_below=0.0, resize_by="layers")) == {
        "a": (("layers", 3),),
        "c": (("layers", 1),),
    }
    assert threshold_changes(*world(scores, prune_below=0.03, resize_by="heads")) == {
        "b": (("heads", 3),),
        "c": (("heads", 3),),
    }


def test_progress_counts_from_the_last_change_on_and_takes_two_scores():
    scores = [[-3.0], [-2.0], [-1.0], [-1.0]]
    assert threshold_changes(*world(scores[:1], prune_below=0.1)) == {}, "one score is no progress yet"
    assert threshold_changes(*world(scores, resized={"a": 2}, grow_above=0.1, prune_below=0.05)) == {
        "a": (("neurons", 48),)
    }
    assert threshold_changes(*world(scores, resized={"a": 3}, prune_below=0.05)) == {}


def test_a_quarter_of_the_neurons_in_whole_groups():
    for neurons, part in ((64, 16), (3072, 768), (100, 24), (127, 127), (1, 1)):
        config = models.preset("gpt2-tiny").replace(intermediate_size=neurons)
        assert part_of(config, "neurons") == part
    assert part_of(config, "heads") == 1


@pytest.mark.parametrize(
    ("arena", "told"),
    [
        ({"grow_above": 0.1, "prune_below": 0.2}, "a model would grow and be pruned"),
        ({"resize_by": "heads"}, "does nothing by itself"),
    ],
)
def test_thresholds_that_make_no_sense(arena, told):
    with pytest.raises(ArenaError, match=told):
        tiny(arena=arena)


def test_growth_that_leaves_no_room_for_another_models_step_is_refused():
    asked = []
    programs = SimpleNamespace(pool=2048, fits=lambda *question: asked.append(question) or question[0] == "a")
    setup, state = SimpleNamespace(executables=programs), SimpleNamespace(sizes={"a": 2, "b": 8})
    check_others(setup, state, ["a"])
    with pytest.raises(ArenaError, match=r"a step of b in batches of 8 would not fit the 2\S* ?\S+ that are left"):
        check_others(setup, state, ["a", "b"])
    assert asked == [("a", 2, 2048), ("a", 2, 2048), ("b", 8, 2048)]


def test_the_policy_is_asked_with_the_counts_of_the_new_shapes():
    setup, state = world([[1.0, 2.0]])
    setup.parameters = {"a": 30, "b": 20}
    assert counts_in_force(setup, state) is None
    state.history = state.history._replace(parameters=np.array([10.0, 20.0]))
    assert counts_in_force(setup, state).tolist() == [30.0, 20.0]


# ---- whole runs ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(growing(), tmp_path_factory.mktemp("resize") / "run")


@pytest.mark.slow
def test_shares_divide_what_the_new_shapes_leave(finished):
    grown, pruned = records(finished, "resize")
    assert (grown["model"], grown["step"], pruned["model"], pruned["step"]) == ("gpt2", 2, "bert", 4)
    before, after, last = (record["resident"] for record in records(finished, "allocation"))
    bytes_of = {r["model"]: 4 * 4 * (r["about"]["parameters"] - r["before"]) for r in (grown, pruned)}  # and 2 moments
    assert after - before == bytes_of["gpt2"]
    assert last - after == bytes_of["bert"]
    state = final_state(finished)
    assert last == device_bytes(state, state.params)
    for allocation in records(finished, "allocation"):
        pool = allocation["budget"] - allocation["resident"] - allocation["code"]
        allowed = [model["allowed"] for model in allocation["models"].values()]
        assert sum(allowed) == pytest.approx(pool)
    compiled = [record["program"] for record in records(finished, "compile")]
    assert compiled.count("update of all models") == 3, "once at first, and once a change"
    config = load_run(finished)
    parts = training.restore(finished, config)[0]
    assert parts.models["gpt2"].config.num_layers == 2
    assert parts.models["bert"].config.intermediate_size == 8
    board = records(finished, "leaderboard")[-1]
    assert set(training.evaluate(finished)) == set(board["models"])


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_resuming_changes_no_bit(finished, tmp_path, rounds):
    config = growing()
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, checkpoint_every=1))
    assert_killed_and_resumed_is(finished, train, config, tmp_path / "run", rounds)


@pytest.mark.slow
def test_what_the_budget_does_not_hold_keeps_its_shape(tmp_path):
    config = tiny(gpt2={"resize": ("2:layers=40",)})
    run = train(config, tmp_path / "run")
    assert records(run, "resize") == []
    notes = [record["text"] for record in records(run, "note") if record["step"] == 2]
    assert any("gpt2 keeps its shape: what is always there would take" in text for text in notes), notes
    plain = train(tiny(), tmp_path / "plain")
    assert_same_arrays(final_state(run), final_state(plain))


@pytest.mark.slow
def test_a_run_by_thresholds_and_the_compile_count(tmp_path):
    run = train(tiny(arena={"grow_above": -1.0, "resize_by": "layers"}), tmp_path / "run")
    changes = [(record["model"], record["step"]) for record in records(run, "resize")]
    assert changes == [("bert", 2), ("gpt2", 2)], "two scores each from then on, and the last round reallocates nothing"
    assert [record["kind"] for record in read(run)][-1] == "end"
