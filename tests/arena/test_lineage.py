"""Models of a competition that teach one another, and that are mixed, at a reallocation: equations 11 and 12."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models
from arena_jax.arena import crossing, lessons
from arena_jax.arena.state import learning_rate
from arena_jax.config import ModelConfig, TogetherConfig
from arena_jax.config.errors import ArenaError
from arena_jax.models.crossover import align, between
from arena_jax.runs import run_page, signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime.program import Program, ProgramBytes
from tests.arena.test_competition import stop_at
from tests.arena.tiny import FULL, SIZES, assert_same_arrays, final_state, records, tiny, train, without_times

ALPHA, T = 0.3, 3.0


def equal(history):
    return np.full(2, 0.5)


def steady(config):
    """Models that drop nothing, and train alone."""
    still = tuple(dataclasses.replace(model, dropout=0.0) for model in config.models)
    return dataclasses.replace(
        config,
        models=still,
        # A rate at which models of a few steps say different things of different rows.
        optimizer=dataclasses.replace(
            config.optimizer, learning_rate=0.03, share_alpha=0.0, synchronize_beta=0.0, convergence_window=0
        ),
    )


def taught(**arena):
    together = TogetherConfig(distil="best", distil_alpha=ALPHA, distil_temperature=T)
    config = dataclasses.replace(steady(tiny(batch_size=4)), together=together)
    return dataclasses.replace(config, arena=dataclasses.replace(config.arena, lesson_steps=2, **arena))


def logits(setup, name, params, batch):
    structure = models.split(setup.parts.models[name])[0]
    rows = {key: jnp.asarray(batch[key]) for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
    return models.merge(structure, params)(**rows)


class Watch:
    """What a lesson began with: the parameters at the end of its reallocation."""

    def __init__(self):
        self.before = {}

    def __call__(self, moment, rounds, setup, state):
        if moment == "after reallocation":
            self.before[rounds] = (setup, jax.tree.map(np.array, state.train.params), dict(state.accounts))
            self.streams = {name: stream.state() for name, stream in state.streams.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(taught(), tmp_path_factory.mktemp("taught") / "run", policy=equal)


@pytest.mark.slow
def test_a_students_gradient_is_that_of_the_equation_written_out(tmp_path, monkeypatch):
    """α·CE + (1 − α)·T²·KL(teacher ‖ student) over the student's own rows, as each cuts them; by jax.grad of a sum."""
    checked = []
    original = lessons._compute_gradient

    def compare(setup, state, programs, pair):
        (teacher,), student = pair
        stream, place = state.streams[student], state.streams[student].state()
        rows, length = stream.draw(4)
        stream.restore(place)
        batch = {name: setup.parts.train[name].batch(rows, length) for name in (teacher, student)}
        labels = np.asarray(batch[student]["labels"])
        assert (labels == batch[teacher]["labels"]).all()

        def loss(params):
            z = logits(setup, student, params, batch[student])
            p = jax.nn.softmax(logits(setup, teacher, state.train.params[teacher], batch[teacher]) / T)
            task = -jax.nn.log_softmax(z)[jnp.arange(4), labels].mean()
            divergence = (p * (jnp.log(p) - jax.nn.log_softmax(z / T))).sum(-1).mean()
            return ALPHA * task + (1 - ALPHA) * T**2 * divergence

        theirs = jax.grad(loss)(state.train.params[student])
        before, rate = dataclasses.replace(state.accounts[student]), learning_rate(setup, state, student, 2, 4)
        metrics = original(setup, state, programs, pair)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6, rtol=2e-4), state.gradients[student], theirs
        )
        account = state.accounts[student]
        assert (account.steps, account.examples) == (before.steps + 1, before.examples + 4)
        alone = 4 * lessons.row_flops(setup, student, length)
        assert alone < account.flops - before.flops < 2 * alone, "the teacher's forward pass is paid for, too"
        assert rate > 0
        checked.append(pair)
        return metrics

    monkeypatch.setattr(lessons, "_compute_gradient", compare)
    run = train(taught(), tmp_path / "run", policy=equal)
    lineage = records(run, "lineage")
    assert [(tuple(r["parents"]), n) for r in lineage for n in r["models"] for _ in range(2)] == checked


def test_the_leader_teaches_at_every_reallocation_and_the_run_says_so(finished):
    lineage, scores = records(finished, "lineage"), records(finished, "evaluation")
    assert [r["step"] for r in lineage] == [2, 4]
    for record in lineage:
        (last,) = (r for r in scores if r["step"] == record["step"])
        losses = {name: model["loss"] for name, model in last["models"].items()}
        assert record["parents"] == [min(losses, key=losses.get)]
        (student,) = record["models"]
        assert [student] != record["parents"]
        assert record["models"][student]["steps"] == 2
        assert record["models"][student]["divergence"] > 0
    steps = records(finished, "leaderboard")[0]["models"]
    assert sum(model["steps"] for model in steps.values()) == 2 * 6 * 2 + 2 * 2
    assert narrate(read(finished)).count(" learnt from ") == 2
    names = [record["program"] for record in records(finished, "compile") if "lesson" in record["program"]]
    assert sorted(names) == [
        "a look at lessons of bert in 1 × 4 rows",
        "a look at lessons of gpt2 in 1 × 4 rows",
        "gradients of bert in lessons by gpt2 in batches of 4",
        "gradients of gpt2 in lessons by bert in batches of 4",
    ]
    assert "Lineage" in run_page.render([run_page.read_facts(finished)])


@pytest.mark.slow
def test_lessons_go_on_to_the_bit(finished, tmp_path):
    with pytest.raises(signals.Stopped):
        train(taught(), tmp_path / "run", policy=equal, observe=stop_at(2))
    run = train(taught(), tmp_path / "run", resume=True, policy=equal)
    assert_same_arrays(final_state(finished), final_state(run))
    assert without_times(run) == without_times(finished)


def twins(**arena):
    pair = tuple(ModelConfig(name, preset="gpt2-tiny", **SIZES) for name in ("a", "b"))
    return steady(dataclasses.replace(tiny({"crossover": 100.0, **arena}), models=pair))


def scripted(losses):
    """An evaluation that says what it is told to: of a's and b's scores first, then of the way between them."""

    def evaluate(step, parameters, model, rows, size):
        return {"loss": next(losses), "accuracy": 0.5}

    return evaluate


def mixed(tmp_path, way, watch, **arena):
    """A competition of three rounds whose one reallocation measures the losses of ``way``."""
    losses = iter([2.0, 1.0, *way, 2.0, 1.0])  # b is ahead; the end scores once more
    config = twins(reallocate_every=2, **arena)
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, steps=3, evaluate_every=3, checkpoint_every=3)
    )
    return train(config, tmp_path / "run", policy=equal, evaluate=scripted(losses), observe=watch)


@pytest.mark.slow
def test_a_mixture_takes_the_place_of_the_worse_with_first_moments(tmp_path, monkeypatch):
    watch, after = Watch(), []
    original = crossing.replace_model

    def keep(state, name, model, optimizer_state):
        fresh = original(state, name, model, optimizer_state)
        after.append((name, jax.tree.map(np.array, fresh), jax.tree.map(np.array, state.opt_state)))
        return fresh

    monkeypatch.setattr(crossing, "replace_model", keep)
    run = mixed(tmp_path, [1.0, 1.2, 1.4, 1.6, 2.0], watch)
    setup, before, _ = watch.before[2]
    structure = models.split(setup.parts.models["a"])[0]
    a, b = (models.merge(structure, before[name]) for name in "ab")
    expected = models.split(between(b, align(b, a), 0.5))[1]
    ((name, state, old),) = after
    assert name == "a"
    jax.tree.map(np.testing.assert_array_equal, state.params["a"], expected)
    jax.tree.map(np.testing.assert_array_equal, state.params["b"], before["b"])
    moments = jax.tree_util.tree_leaves_with_path(state.opt_state)
    others = dict(jax.tree_util.tree_leaves_with_path(old))
    of_a = [np.abs(leaf).max() for path, leaf in moments if crossing.owner(path, ("a", "b")) == "a" and leaf.size]
    assert of_a
    assert max(of_a) == 0, "of Adam's moments, and its count"
    for path, leaf in moments:
        if crossing.owner(path, ("a", "b")) != "a":
            np.testing.assert_array_equal(leaf, others[path])
    (record,) = records(run, "lineage")
    assert record["models"] == {"a": {"loss": 1.4, "before": 2.0, "taken": True}}
    assert (record["parents"], record["barrier"]) == (["b", "a"], pytest.approx(0.0))
    assert "a (2.0000) gives way to their mixture with 1.4000" in narrate(read(run))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "threshold"),
    [([1.0, 1.2, 2.1, 1.6, 2.0], 100.0), ([1.0, 1.2, 1.7, 1.8, 2.0], 0.1)],
    ids=["worse", "barrier"],
)
def test_who_is_better_or_behind_a_barrier_stays(tmp_path, way, threshold):
    run = mixed(tmp_path, way, Watch(), crossover=threshold)
    (record,) = records(run, "lineage")
    assert not record["models"]["a"]["taken"]
    assert record["losses"] == way
    assert "a (2.0000) stays, their mixture has" in narrate(read(run))


@pytest.mark.slow
def test_a_run_with_crossover_goes_on_to_the_bit(tmp_path):
    """With true losses: twins of one seed, whose mixture is not far from either."""
    whole = train(twins(), tmp_path / "whole", policy=equal)
    assert len(records(whole, "lineage")) == 2
    taken = [record["step"] for record in records(whole, "lineage") for m in record["models"].values() if m["taken"]]
    assert 2 in taken, "a mixture has taken a place before the run is stopped"
    with pytest.raises(signals.Stopped):
        train(twins(), tmp_path / "run", policy=equal, observe=stop_at(2))
    run = train(twins(), tmp_path / "run", resume=True, policy=equal)
    assert_same_arrays(final_state(whole), final_state(run))
    assert without_times(run) == without_times(whole)


def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(ArenaError, match="lesson_steps does nothing without a teacher"):
        tiny({"lesson_steps": 3})
    with pytest.raises(ArenaError, match="crossover has not been tried with parameters in shards"):
        tiny({"crossover": 0.1}, shard="parameters")
    with pytest.raises(ArenaError, match="no two of bert, gpt2 are: give two of one preset"):
        train(tiny({"crossover": 0.1}), tmp_path / "a")
    monkeypatch.setattr(crossing, "mixing_bytes", lambda *_: 1e11)
    with pytest.raises(
        ArenaError, match=r"mixing a and b takes .* GB, the budget is 1 MB; raise --memory-budget or re"
    ):
        train(twins(), tmp_path / "b", policy=equal)
    monkeypatch.setattr(lessons, "_missing", lambda *_: 1234.0)
    with pytest.raises(
        ArenaError, match=r"a lesson of 'bert' by gpt2, in batches of 4, takes 1.23 kB more than the bud"
    ):
        train(taught(batch_sizes=(4, 8)), tmp_path / "c", policy=equal)


def planned(distil, budget=1000, sizes=(2, 4, 8)):
    """A setup and a state that lessons are compiled for, and nothing more."""

    class Programs:
        other_code = {"update": 1}  # noqa: RUF012 - replaced, never changed

        @property
        def pool(self):
            return budget - sum(self.other_code.values())

    setup = SimpleNamespace(
        names=("bert", "gpt2"),
        config=SimpleNamespace(
            together=TogetherConfig(distil=distil),
            batch_size=lambda name: 8,
            training=SimpleNamespace(score="loss"),
        ),
        mesh=SimpleNamespace(size=1),
        arena=SimpleNamespace(batch_sizes=sizes, memory_margin=0.0),
        executables=Programs(),
        budget=budget,
    )
    train = SimpleNamespace(params={"bert": {}, "gpt2": {}})
    return setup, SimpleNamespace(train=train, lesson_sizes={}, lessons_over=False)


def compiler(monkeypatch, most=8):
    """Lessons of ten bytes and one of code a row; the compiler itself has memory for so many rows."""

    def compile_lesson(setup, state, pair, size, compiled):
        if size > most:
            raise jax.errors.JaxRuntimeError(FULL)
        each = ProgramBytes(temporaries=10 * size, code=size)
        return tuple(Program(object(), each, name=f"{what} of {pair} in {size}") for what in ("look", "gradients"))

    monkeypatch.setattr(lessons, "_compile", compile_lesson)


def test_a_teacher_by_name_has_no_lessons(monkeypatch):
    compiler(monkeypatch)
    setup, state = planned("gpt2")
    programs = lessons.compile_lessons(setup, state)
    assert list(programs.gradients) == [(("gpt2",), "bert")]
    assert state.lesson_sizes == {"bert": 8}


def test_lessons_are_as_large_as_fits_beside_their_own_code(monkeypatch):
    """Of two students in batches of 8: each takes 88 bytes, beside 1 and the code of both lessons, 32."""
    compiler(monkeypatch)
    for budget, sizes in ((121, [8, 8]), (120, [4, 4]), (61, [4, 4]), (60, [2, 2])):
        setup, state = planned("best", budget)
        lessons.compile_lessons(setup, state)
        assert list(state.lesson_sizes.values()) == sizes, budget
        assert sum(setup.executables.other_code.values()) == 1 + 2 * sum(sizes), "of none that was given up"
    with pytest.raises(ArenaError, match="in batches of 2, takes 1 B more than the budget of 30 B leaves"):
        lessons.compile_lessons(*planned("best", 30))
    resumed = planned("best", 30)
    resumed[1].lesson_sizes = {"bert": 2, "gpt2": 2}
    assert len(lessons.compile_lessons(*resumed).gradients) == 2, "it was admitted when it began"


def test_lessons_that_do_not_compile_in_memory_do_not_fit(monkeypatch):
    compiler(monkeypatch, most=4)
    setup, state = planned("best")
    lessons.compile_lessons(setup, state)
    assert state.lesson_sizes == {"bert": 4, "gpt2": 4}
    compiler(monkeypatch, most=1)
    with pytest.raises(ArenaError, match="a lesson of 'bert', in batches of 2, does not compile within the dev"):
        lessons.compile_lessons(*planned("best"))


def test_a_teacher_that_diverged_ends_the_lessons_and_the_run_says_so_once():
    setup, state = planned("gpt2")
    state.metrics = {"bert": {"loss": 1.0}, "gpt2": {"loss": 2.0}}
    notes = []
    session = SimpleNamespace(
        divergence=SimpleNamespace(frozen={"gpt2": 3}),
        record=lambda kind, step, text: notes.append((kind, step, text)),
    )
    for rounds in (2, 4):
        lessons.teach(setup, state, None, None, session, rounds)
    assert notes == [("note", 2, "gpt2 diverged, and teaches no more: there are no further lessons in this run")]


def test_what_mixing_takes_follows_the_moments():
    """With 40 bytes of weights: 3 copies and a score; or mixture, moments and average, each as made and as placed."""
    params = {name: {"w": jnp.zeros(10)} for name in "ab"}

    def train(optimizer, **averages):
        return SimpleNamespace(params=params, opt_state=optimizer.init(params), averages=averages)

    sizes = [crossing.mixing_bytes(train(o), "a", 0.0) for o in (optax.sgd(1.0), optax.adam(1.0), optax.amsgrad(1.0))]
    assert sizes == [3 * 40, 6 * 40, 8 * 40]
    assert crossing.mixing_bytes(train(optax.amsgrad(1.0), a=params["a"]), "a", 0.0) == 10 * 40
    assert crossing.mixing_bytes(train(optax.adam(1.0)), "a", 1000.0) == 3 * 40 + 1000


def test_a_crossover_is_not_charged_for_compiling(monkeypatch):
    """A resumed run may not have scored before: its evaluation, here of 100 s, is compiled in the crossover."""
    way = SimpleNamespace(losses=(1.0, 1.5, 2.0, 1.5, 1.0), model=None, barrier=1.0)
    monkeypatch.setattr(crossing, "kin", lambda setup: [("a", "b")])
    monkeypatch.setattr(crossing, "crossover", lambda *_, **__: way)
    monkeypatch.setattr(crossing, "scoring_flops", lambda *_: 10.0)
    monkeypatch.setattr(crossing, "models", SimpleNamespace(split=lambda _: (None, None), merge=lambda *_: None))
    setup = SimpleNamespace(
        arena=SimpleNamespace(crossover=0.1),
        config=SimpleNamespace(training=SimpleNamespace(score="loss")),
        parts=SimpleNamespace(models={"a": None, "b": None}),
        step=SimpleNamespace(new_programs=lambda: [Program(None, ProgramBytes(), 100.0, name="evaluate a")]),
    )
    state = SimpleNamespace(
        metrics={"a": {"loss": 2.0}, "b": {"loss": 1.0}},
        window=SimpleNamespace(pause=lambda: None, resume=lambda: None),
        accounts={name: SimpleNamespace(seconds=200.0, flops=0.0) for name in "ab"},
        train=SimpleNamespace(params={"a": None, "b": None}),
        evaluation_batches=None,
    )
    compiled = []
    session = SimpleNamespace(
        divergence=SimpleNamespace(frozen={}),
        record=lambda *_, **__: None,
        record_program=lambda step, name, *_, **__: compiled.append(name),
    )
    crossing.cross(setup, state, session, 2)
    assert compiled == ["evaluate a"]
    assert state.accounts["a"].seconds == pytest.approx(100.0, abs=5.0)
    assert (state.accounts["a"].flops, state.accounts["b"].flops) == (50.0, 0.0)
